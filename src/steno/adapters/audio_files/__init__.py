"""Audio files: what is in them, in blocks of linear samples."""

from steno.adapters.audio_files.reading import AudioFile, open_audio

__all__ = ["AudioFile", "open_audio"]
