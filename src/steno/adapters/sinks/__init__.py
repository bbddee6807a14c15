"""Sinks: each hands records to one kind of consumer."""
