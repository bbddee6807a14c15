"""``steno redact``: standard input without its personal data on standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from steno.cli.common import ConfigOption, load_settings

if TYPE_CHECKING:
    from steno.redaction import Redactor

MAX_LINE_BYTES = 1 << 20
_MAX_CONVERSATIONS = 1000


class MaskStyle(StrEnum):
    """What stands in place of a removed span."""

    REDACTED = "redacted"
    LABEL = "label"


def redact(
    jsonl: Annotated[
        bool,
        typer.Option("--jsonl", help='One object per line: {"text": …, "language": …}.'),
    ] = False,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            help="Language where a line does not name one (BCP-47); else language.initial.",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        MaskStyle | None,
        typer.Option(
            "--mask",
            help="[REDACTED], or a label such as [PHONE]; else redaction.mask.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Remove personal data from text on standard input.

    Plain lines are the consecutive sentences of one speaker: a number may run over several.
    With --jsonl the sentences of one "conversation" and "lane" belong together; "text" comes
    back redacted, with the number of removed spans in "entities", all else as it was. Lines
    of one conversation keep their order; a line that may still become part of a secret is
    held back until the next line of its speaker shows.

    The same settings apply as to a gateway. Exit code 1 when a line could not be redacted: it is
    left out, and named on stderr.

    Example: echo "call 415-555-0142" | steno redact --mask label
    """
    from steno.redaction import Redactor

    settings = load_settings(
        config,
        overrides={
            "redaction.mask": None if mask is None else mask.value,
            "language.initial": language,
        },
    )
    redactor = Redactor(
        mask=settings.redaction.mask.value,
        languages=settings.redaction.languages,
        default_region=settings.redaction.default_region,
    )
    run = _jsonl if jsonl else _plain
    failed = run(
        redactor, settings.language.initial, _lines(sys.stdin.buffer), sys.stdout.buffer, _complain
    )
    if failed:
        raise typer.Exit(1)


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines without their ends; None for a line that is too long to be one."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            yield number, None
        else:
            yield number, line.rstrip(b"\r\n")


def _complain(number: int, problem: str) -> None:
    print(f"line {number}: {problem}", file=sys.stderr)


_Lines = Iterator[tuple[int, bytes | None]]
_Complain = Callable[[int, str], None]


def _plain(
    redactor: Redactor, language: str, lines: _Lines, out: BinaryIO, complain: _Complain
) -> int:
    """Redact lines of text; as many lines come out as went in. Returns how many failed."""
    from steno.core.transcript import RawText
    from steno.errors import RedactionError
    from steno.redaction import Carry

    carry = Carry(redactor)
    failed = 0
    for number, line in lines:
        try:
            text = _text(line)
        except ValueError as exc:
            complain(number, str(exc))
            failed += 1
            text = ""  # An empty line in its place keeps the count.
        try:
            ready = carry.push(_sentence("", "", number, RawText(text), language), now=0.0)
        except RedactionError:
            complain(number, "could not be redacted and is left empty")
            failed += 1
            ready = carry.push(_sentence("", "", number, RawText(""), language), now=0.0)
        for done in ready:
            out.write(done.text.encode() + b"\n")
        out.flush()
    for done in carry.flush(0.0):
        out.write(done.text.encode() + b"\n")
    out.flush()
    return failed


def _jsonl(
    redactor: Redactor, language: str, lines: _Lines, out: BinaryIO, complain: _Complain
) -> int:
    """Redact JSON lines; bad ones are named and left out. Returns how many those were."""
    import msgspec

    from steno.errors import RedactionError
    from steno.redaction import Carry

    carries: dict[str, Carry] = {}
    waiting: dict[int, dict[str, Any]] = {}
    failed = 0

    def write(ready: list[Any]) -> None:
        for done in ready:
            record = waiting.pop(int(done.sentence.utterance))
            record["text"], record["entities"] = done.text, done.entities
            out.write(msgspec.json.encode(record) + b"\n")
        out.flush()

    for number, line in lines:
        try:
            record = _record(line)
            if not record:
                continue
            conversation, lane = record.get("conversation"), record.get("lane", "")
            # A line that names no conversation stands alone.
            key = f"line {number}" if conversation is None else f"of {conversation}"
            sentence = _sentence(
                key, lane, number, record["text"], record.get("language", language)
            )
            carry = carries.pop(key, None) or Carry(redactor)
            carries[key] = carry
            waiting[number] = record
            write(carry.push(sentence, now=0.0))
            if conversation is None:
                write(carries.pop(key).flush(0.0))
        except ValueError as exc:
            complain(number, str(exc))
            failed += 1
        except RedactionError:
            complain(number, "could not be redacted and is left out")
            waiting.pop(number, None)
            failed += 1
        if len(carries) > _MAX_CONVERSATIONS:
            # The conversation unheard of for longest: bounded memory for endless input.
            write(carries.pop(next(iter(carries))).flush(0.0))
    for carry in carries.values():
        write(carry.flush(0.0))
    return failed


def _text(line: bytes | None) -> str:
    """The line as text.

    Raises:
        ValueError: In words for the user, without any of the line.
    """
    if line is None:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


def _record(line: bytes | None) -> dict[str, Any]:
    """The line's object, empty for a blank line; fields checked.

    Raises:
        ValueError: In words for the user, naming the field, without any of the line.
    """
    import msgspec

    text = _text(line)
    if not text.strip():
        return {}
    try:
        record = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("not a JSON object") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    if "text" not in record:
        raise ValueError('field "text" is missing')
    for name in ("text", "language", "conversation", "lane"):
        if name in record and not isinstance(record[name], str):
            raise ValueError(f'field "{name}" is not a string')
    return record


def _sentence(conversation: str, lane: str, number: int, text: Any, language: str) -> Any:
    from steno.core.transcript import Sentence

    return Sentence(conversation, lane, str(number), 0, text, language, 1.0, 0, 0, 0)
