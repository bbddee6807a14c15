"""Typed settings: one frozen ``Config``, parsed once from file, environment and options."""

from steno.config.checks import (
    require_archive,
    require_diarisation,
    require_live,
    require_media,
    require_transcribe,
)
from steno.config.destinations import (
    AnyDestination,
    Destination,
    GrpcDestination,
    JsonlDestination,
    ObjectsDestination,
    WebhookDestination,
)
from steno.config.loading import find_file, load, read_secret
from steno.config.settings import (
    Config,
    Delivery,
    Diarisation,
    Family,
    Language,
    Live,
    MaskStyle,
    Media,
    OAuthShape,
    Observability,
    Platform,
    Redaction,
    SegmentSource,
    Source,
    Speech,
    Store,
)
from steno.config.showing import show
from steno.config.stored import Archive, Transcribe

__all__ = [
    "AnyDestination",
    "Archive",
    "Config",
    "Delivery",
    "Destination",
    "Diarisation",
    "Family",
    "GrpcDestination",
    "JsonlDestination",
    "Language",
    "Live",
    "MaskStyle",
    "Media",
    "OAuthShape",
    "ObjectsDestination",
    "Observability",
    "Platform",
    "Redaction",
    "SegmentSource",
    "Source",
    "Speech",
    "Store",
    "Transcribe",
    "WebhookDestination",
    "find_file",
    "load",
    "read_secret",
    "require_archive",
    "require_diarisation",
    "require_live",
    "require_media",
    "require_transcribe",
    "show",
]
