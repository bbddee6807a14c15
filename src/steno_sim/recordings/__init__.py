"""Recordings: the tutorial's transcription jobs, and the real platform's downloads of media."""
