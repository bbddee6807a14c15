"""Live transcripts: fragments in, redacted sentences out."""
