"""What a transcription job is asked for with, checked before any network."""
