"""Typed settings: one frozen ``Config``, parsed once from file, environment and options."""

from steno.config.checks import require_live
from steno.config.loading import find_file, load, read_secret
from steno.config.settings import (
    AnyDestination,
    Config,
    Delivery,
    Destination,
    Family,
    GrpcDestination,
    JsonlDestination,
    Language,
    Live,
    MaskStyle,
    OAuthShape,
    ObjectsDestination,
    Observability,
    Platform,
    Redaction,
    Source,
    Store,
    WebhookDestination,
)
from steno.config.showing import show

__all__ = [
    "AnyDestination",
    "Config",
    "Delivery",
    "Destination",
    "Family",
    "GrpcDestination",
    "JsonlDestination",
    "Language",
    "Live",
    "MaskStyle",
    "OAuthShape",
    "ObjectsDestination",
    "Observability",
    "Platform",
    "Redaction",
    "Source",
    "Store",
    "WebhookDestination",
    "find_file",
    "load",
    "read_secret",
    "require_live",
    "show",
]
