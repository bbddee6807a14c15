"""Building what removes personal data."""

from __future__ import annotations

from steno.config import Config
from steno.redaction.redactor import Redactor


def make_redactor(config: Config) -> Redactor:
    """Build the redactor of the settings."""
    redaction = config.redaction
    return Redactor(
        mask=redaction.mask.value,
        languages=redaction.languages,
        default_region=redaction.default_region,
    )
