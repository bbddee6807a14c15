"""Diarisation: who said what, when; segments in, a clean record out."""
