"""The AudioHook protocol, version 2: messages, signatures, both ends of a session, results."""
