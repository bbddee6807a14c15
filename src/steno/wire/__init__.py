"""Protocol machines without I/O: bytes and now in, events and bytes out."""
