"""Recognisers that run in this process, each behind ``port.Engine``."""
