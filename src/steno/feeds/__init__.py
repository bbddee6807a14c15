"""Sources of live transcripts: sockets that come back by themselves (``ports.LiveFeed``)."""
