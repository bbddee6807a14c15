"""Recordings: transcription jobs, from a request to what was said."""
