"""Identifiers of the spoken language: by listening (whisper), or by the recognised words.

``declared`` and ``none`` need nothing of this: the one believes the platform, the other the
settings.
"""
