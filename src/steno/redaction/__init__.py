"""Removing spans of speech that are personal data, written or spoken."""

from __future__ import annotations

from steno.redaction.carry import Carry, CarryState
from steno.redaction.entities import Entity, Recogniser, Span
from steno.redaction.redactor import Redacted, Redactor

__all__ = ["Carry", "CarryState", "Entity", "Recogniser", "Redacted", "Redactor", "Span"]
