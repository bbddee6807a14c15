"""Stored transcripts of the platform: found, asked for, and downloaded through their links.

``DocumentTranscripts`` speaks the tutorial's shape, ``PlatformTranscripts`` the real platform's;
``DetailsFinder`` finds conversations by time. All three call through one ``PacedCalls``.
"""

from steno.adapters.stored_transcripts.calls import PacedCalls, PlatformCalls
from steno.adapters.stored_transcripts.document import DocumentTranscripts
from steno.adapters.stored_transcripts.finder import DetailsFinder
from steno.adapters.stored_transcripts.limits import FetchLimits
from steno.adapters.stored_transcripts.links import LinkStore
from steno.adapters.stored_transcripts.platform import PlatformTranscripts

__all__ = [
    "DetailsFinder",
    "DocumentTranscripts",
    "FetchLimits",
    "LinkStore",
    "PacedCalls",
    "PlatformCalls",
    "PlatformTranscripts",
]
