"""Removing spans of speech that are personal data, written or spoken."""
