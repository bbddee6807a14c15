"""Stored transcripts: their content, the calls that lead to them, and the store they lie in."""
