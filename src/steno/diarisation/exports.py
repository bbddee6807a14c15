"""Formats of an export, as pieces of text or rows."""
