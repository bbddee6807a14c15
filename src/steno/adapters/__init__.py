"""Everything that touches sockets, HTTP, disk and libraries: translates, decides nothing."""
