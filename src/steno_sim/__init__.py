"""The Genesys Cloud simulator: OAuth, REST, sockets, scenarios and faults on demand."""
