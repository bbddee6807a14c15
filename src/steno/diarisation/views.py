"""Stored segments as they are exported: filtered, marked, merged."""
