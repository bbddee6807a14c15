"""A finished transcript as text, subtitles or JSON."""
