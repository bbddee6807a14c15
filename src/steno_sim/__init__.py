"""The Genesys Cloud simulator: OAuth, REST, sockets, scenarios and faults on demand.

Start with ``steno_sim.server.Simulator`` in a test, or ``steno-sim --help`` in a shell.
"""
