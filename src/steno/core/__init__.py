"""Frozen values and pure rules: no I/O, clock, randomness, logging or asyncio."""
