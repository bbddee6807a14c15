"""The life of a transcription job."""
