"""Steno: the open transcription gateway for Genesys Cloud contact centres."""

__version__ = "0.1.0"
