"""Checking ``event`` entities against the schema of the platform's ``transcript``.

Pure. Source: Transcription Connector schema: integer channel index, durations as ``PT…S``,
one display interpretation with word tokens whose offsets differ.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator

DURATION = re.compile(r"PT(?:\d*\.)?\d+S\Z")
LANGUAGE = re.compile(r"[a-z]{2,3}-[A-Za-z]{2,3}\Z")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z", re.IGNORECASE)

Report = Callable[[str, str], None]
"""Takes a rule and what was seen."""


def seconds(value: object) -> float | None:
    """Give the seconds of a duration string, or None when it is none."""
    if not isinstance(value, str) or not DURATION.match(value):
        return None
    return float(value[2:-1])


def is_uuid(value: object) -> bool:
    """Tell whether this is a UUID of versions 1 to 5, or the null UUID."""
    if not isinstance(value, str) or not _UUID.match(value):
        return False
    return value == str(uuid.UUID(int=0)) or uuid.UUID(value).version in range(1, 6)


def check_transcript(data: object, *, channels: int, sent_s: float, report: Report) -> None:
    """Report everything wrong with the data of one ``transcript`` entity.

    Args:
        data: ``entities[n].data``.
        channels: Channels of the selected medium.
        sent_s: Stream position of the audio sent so far; results cannot be about later audio.
        report: Called for each finding.
    """
    if not isinstance(data, dict):
        report("event.entities", "data is no object")
        return
    if not is_uuid(data.get("id")):
        report("entity.id", type(data.get("id")).__name__)
    channel = data.get("channelId")
    if type(channel) is not int or not 0 <= channel < max(channels, 1):
        report("entity.channel", repr(channel)[:20])
    final = data.get("isFinal")
    if type(final) is not bool:
        report("entity.final", "isFinal is no boolean")
    _check_times(data, needed=final is True, sent_s=sent_s, report=report)
    alternatives = data.get("alternatives")
    if not isinstance(alternatives, list) or not alternatives:
        report("entity.alternatives", "none")
        return
    for alternative in alternatives:
        _check_alternative(alternative, final=final is True, sent_s=sent_s, report=report)


def _check_times(data: dict[str, object], *, needed: bool, sent_s: float, report: Report) -> None:
    bounds: list[float | None] = []
    for name in ("offset", "duration"):
        if name not in data:
            if needed:
                report("entity.final", f"no {name}")
            bounds.append(None)
            continue
        value = seconds(data[name])
        if value is None:
            report("entity.times", f"{name} of the utterance")
        bounds.append(value)
    offset, duration = bounds
    if offset is not None and offset + (duration or 0.0) > sent_s + 0.01:
        report("entity.future", f"ends {offset + (duration or 0.0) - sent_s:.2f} s too late")


def _check_alternative(value: object, *, final: bool, sent_s: float, report: Report) -> None:
    if not isinstance(value, dict):
        report("entity.alternatives", "no object")
        return
    if not _is_share(value.get("confidence")):
        report("entity.alternatives", "confidence")
    languages = value.get("languages", [])
    if not isinstance(languages, list) or not all(_is_language(code) for code in languages):
        report("entity.languages", "of an alternative")
    interpretations = value.get("interpretations")
    if not isinstance(interpretations, list) or not interpretations:
        report("entity.alternatives", "no interpretation")
        return
    for each in interpretations:
        if not isinstance(each, dict) or each.get("type") != "display":
            report("entity.interpretation", "type")
        elif not isinstance(each.get("transcript"), str):
            report("entity.interpretation", "transcript")
        else:
            _check_tokens(each.get("tokens"), needed=final, sent_s=sent_s, report=report)


def _check_tokens(tokens: object, *, needed: bool, sent_s: float, report: Report) -> None:
    if tokens is None and not needed:
        return
    if not isinstance(tokens, list) or (needed and not tokens):
        report("entity.tokens", "none")
        return
    offsets: list[float] = []
    for problem, offset in map(_token, tokens):
        if problem:
            report("entity.tokens", problem)
        if offset is not None:
            offsets.append(offset)
    if len(set(offsets)) != len(offsets):
        report("entity.token_offsets", f"{len(offsets) - len(set(offsets))} repeated")
    if offsets and max(offsets) > sent_s + 0.01:
        report("entity.future", "a token")


def _token(token: object) -> tuple[str, float | None]:
    """Give what is wrong with a token ("" for nothing), and its offset."""
    if not isinstance(token, dict):
        return "no object", None
    offset = seconds(token.get("offset"))
    checks: Iterator[tuple[str, bool]] = iter(
        (
            ("type", token.get("type") == "word"),
            ("value", isinstance(token.get("value"), str)),
            ("confidence", _is_share(token.get("confidence"))),
            ("offset", offset is not None),
            ("duration", seconds(token.get("duration")) is not None),
            ("language", "language" not in token or _is_language(token["language"])),
        )
    )
    return next((name for name, good in checks if not good), ""), offset


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]  # a number


def _is_language(value: object) -> bool:
    return isinstance(value, str) and LANGUAGE.match(value) is not None
