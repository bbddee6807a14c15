"""Which identifier a setting means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from steno.adapters.speech.identifiers.text import LinguaIdentifier
from steno.adapters.speech.identifiers.whisper import WhisperIdentifier
from steno.ports import Telemetry
from steno.ports.speech import LanguageIdentifier, TextIdentifier

IdentifierKind = Literal["declared", "text", "whisper", "none"]


class Identifiers(NamedTuple):
    """At most one of the two is there."""

    listener: LanguageIdentifier | None = None
    reader: TextIdentifier | None = None


def choose_identifiers(
    kind: IdentifierKind, *, model: str, languages: Iterable[str], telemetry: Telemetry
) -> Identifiers:
    """Return the identifier to ask. Nothing is loaded yet.

    Says in the log when nothing is identified, so that a default tag on every chunk is not
    taken for a finding.

    Args:
        kind: ``media.identifier``.
        model: ``media.identifier_model``.
        languages: Primary codes (``en``) of the configured tags, as identifiers name them.
        telemetry: For that log line.

    Raises:
        EngineUnavailable: What the setting needs is not installed, or not set.
    """
    codes = sorted(set(languages))
    if kind in ("text", "whisper") and len(codes) < 2:
        telemetry.warning("media.language_not_identified", cause="one_language")
        return Identifiers()
    if kind == "text":
        return Identifiers(reader=LinguaIdentifier(codes))
    if kind == "whisper":
        return Identifiers(listener=WhisperIdentifier(model, codes))
    if kind == "none":
        telemetry.warning("media.language_not_identified", cause="setting")
    return Identifiers()
