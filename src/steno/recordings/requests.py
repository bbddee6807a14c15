"""What a transcription job is asked for with, checked before any network.

``check`` turns the values of one request into a ``TranscriptionRequest`` or into one problem for
each field that is wrong, all at once. ``read_requests`` does so for a whole input: ids on lines,
CSV with a header, or JSON lines. A bad line is told by its number and the rest goes on.

An engine that fetches recordings from the platform needs the conversation each is of: written
``CONVERSATION/RECORDING`` where an id stands alone, else in a field ``conversationId``.

Problems name the field and the line and say what would be right. The value itself stays out of
them: a webhook's address may hold a secret, and a wrong column may hold anything.
"""

from __future__ import annotations

import csv
import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from steno.core.ids import is_uuid
from steno.errors import ConfigError, ConfigProblems
from steno.ports.jobs import TranscriptionRequest

__all__ = [
    "FORMATS",
    "LANGUAGES",
    "BadLine",
    "Checked",
    "Form",
    "GoodLine",
    "RepeatedLine",
    "RequestRules",
    "TranscriptionRequest",
    "check",
    "demand",
    "read_arguments",
    "read_requests",
]

LANGUAGES: Final = ("en-US", "en-GB", "es-ES", "fr-FR", "de-DE")
FORMATS: Final = ("text", "srt", "vtt", "json")

MAX_LINE_BYTES: Final = 16 << 10
MAX_WEBHOOK_CHARS: Final = 2048


_TAG: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
_NUMERIC_HOST: Final = re.compile(r"(0[xX][0-9a-fA-F]*|\d+)(\.(0[xX][0-9a-fA-F]*|\d+)){0,3}\.?")
_CARRIERS: Final = tuple(
    # Addresses that carry an IPv4 address inside: routers would deliver to that one.
    ipaddress.ip_network(text)
    for text in ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")
)
_FLAGS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FIELDS: Final = {
    name.replace("_", ""): name
    for name in (
        "recording_id",
        "language",
        "format",
        "speaker_diarization",
        "word_confidence",
        "timestamps",
        "webhook",
        "conversation_id",
    )
}
_FIX_IDS: Final = "Write CONVERSATION/RECORDING, or give a column conversationId."
_BOM: Final = b"\xef\xbb\xbf"


class RequestRules:
    """What a request may ask for.

    Args:
        languages: Tags the service takes beside the document's five.
        allow: Networks or addresses that webhooks may lead to although they are not public.
        hosts: Names that they may lead to, lower case.
        conversations: The engine needs the conversation of each recording.

    Raises:
        ConfigError: An entry is no language tag or no network.
    """

    def __init__(
        self,
        *,
        languages: Iterable[str] = (),
        allow: Iterable[str] = (),
        hosts: Iterable[str] = (),
        conversations: bool = False,
    ) -> None:
        self._hosts = frozenset(hosts)
        self.conversations = conversations
        added = tuple(languages)
        for tag in added:
            if _TAG.fullmatch(tag) is None:
                raise ConfigError("a language is a tag like en-US", setting="languages")
        self.languages = tuple(dict.fromkeys((*LANGUAGES, *added)))
        self.formats = FORMATS
        self._by_tag = {tag.lower(): tag for tag in self.languages}
        try:
            self._allowed = tuple(ipaddress.ip_network(each, strict=False) for each in allow)
        except ValueError:
            raise ConfigError("an allow-list entry is not a network", setting="allow") from None

    def language(self, text: str) -> str | None:
        """Return a tag as the service writes it, whatever its case; None for an unknown one."""
        return self._by_tag.get(text.lower())

    def permits(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Tell whether a webhook may lead to a literal address."""
        return self.lists(address) or (
            address.is_global
            and not address.is_multicast
            and not any(address.version == net.version and address in net for net in _CARRIERS)
        )

    def names(self, host: str) -> bool:
        """Tell whether a name is allow-listed; what it stands for is checked at every call."""
        return host.lower() in self._hosts

    def lists(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Tell whether an address is allow-listed."""
        return any(address.version == net.version and address in net for net in self._allowed)


class Checked(msgspec.Struct, frozen=True):
    """What became of one request.

    Attributes:
        request: None where there are problems.
        problems: One for each field that is wrong; ``setting`` names it as in the body.
        warnings: Fixed sentences about what is allowed and unwise.
    """

    request: TranscriptionRequest | None
    problems: tuple[ConfigError, ...] = ()
    warnings: tuple[str, ...] = ()


class GoodLine(msgspec.Struct, frozen=True, gc=False):
    """A request, and the line it stands on (from 1), or the argument: ``place`` says which."""

    line: int
    request: TranscriptionRequest
    warnings: tuple[str, ...] = ()
    place: str = "line"


class BadLine(msgspec.Struct, frozen=True):
    """A line that is no request, and why."""

    line: int
    problems: tuple[ConfigError, ...]


class RepeatedLine(msgspec.Struct, frozen=True, gc=False):
    """A line (or argument) that asks for what ``first`` has asked for already: left out."""

    line: int
    first: int
    place: str = "line"


Line = GoodLine | BadLine | RepeatedLine


class Form(StrEnum):
    """How requests are written. ``AUTO`` tells by the first line that is not empty."""

    AUTO = "auto"
    IDS = "ids"
    CSV = "csv"
    JSONL = "jsonl"


# --- one request -----------------------------------------------------------------------------


def check(request: TranscriptionRequest, rules: RequestRules, *, origin: str = "") -> Checked:
    """Check one request; the result has it in the form the service wants.

    Args:
        origin: Where it came from (``line 7``), for the problems.
    """
    problems: list[ConfigError] = []

    def wrong(field: str, what: str, fix: str = "") -> None:
        problems.append(ConfigError(what, setting=field, origin=origin, fix=fix))

    conversation, recording = _ids(request)
    if conversation and not is_uuid(conversation):
        wrong("conversationId", "a conversation id is a UUID")
    elif rules.conversations and not conversation:
        wrong("conversationId", "this engine needs the conversation of a recording", _FIX_IDS)
    if not recording:
        wrong("recordingId", "a recording id is needed")
    elif not is_uuid(recording):
        wrong("recordingId", "a recording id is a UUID")
    language = rules.language(request.language)
    if language is None:
        wrong(
            "language",
            "the service does not know this language",
            f"It knows {' '.join(rules.languages)}; add others by setting.",
        )
    if request.format not in rules.formats:
        wrong("format", "unknown format", f"Use one of {' '.join(rules.formats)}.")
    webhook_problem, warnings = _check_webhook(request.webhook, rules)
    if webhook_problem:
        wrong("webhook", *webhook_problem)
    if problems:
        return Checked(None, tuple(problems))
    assert language is not None  # or there would be a problem
    if (recording, conversation, language) != (
        request.recording_id,
        request.conversation_id,
        request.language,
    ):
        request = msgspec.structs.replace(
            request, recording_id=recording, conversation_id=conversation, language=language
        )
    return Checked(request, (), warnings)


def _ids(request: TranscriptionRequest) -> tuple[str, str]:
    """Return the ids of conversation and recording, which may stand together as one text."""
    conversation, recording = request.conversation_id.strip(), request.recording_id.strip()
    before, slash, after = recording.partition("/")
    if slash and conversation in ("", before.strip()):
        conversation, recording = before.strip(), after.strip()
    return conversation.lower(), recording.lower()


def demand(request: TranscriptionRequest, rules: RequestRules) -> Checked:
    """Check one request that has to be right.

    Raises:
        ConfigError: One field is wrong.
        ConfigProblems: Several are.
    """
    checked = check(request, rules)
    if len(checked.problems) == 1:
        raise checked.problems[0]
    if checked.problems:
        raise ConfigProblems(checked.problems)
    return checked


def _check_webhook(
    text: str, rules: RequestRules
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return what is wrong (and its remedy), or None; and warnings.

    The literal address only: names are looked up, and checked again, when they are connected to.
    """
    if not text:
        return None, ()
    parts = _split(text)
    if parts is None:
        return ("the webhook's URL cannot be read",), ()
    if parts.scheme not in ("http", "https"):
        return ("a webhook is called by http or https",), ()
    if "@" in parts.netloc:
        return ("credentials in a webhook's URL are refused",), ()
    # As a resolver would read it: full-width digits and other dots are digits and dots.
    host = unicodedata.normalize("NFKC", parts.hostname or "").replace("\u3002", ".").rstrip(".")
    if not host or "%" in host:
        return ("a webhook's URL needs a host",), ()
    address = _literal(host)
    if address is None and _NUMERIC_HOST.fullmatch(host):
        return (
            "the webhook's host is an address in disguise",
            "Write IPv4 addresses as four decimal numbers.",
        ), ()
    if address is None and rules.names(host):
        is_permitted = is_listed = True
    elif address is None and (host == "localhost" or host.endswith(".localhost")):
        # Both, as a name can stand for either: the connection would be refused otherwise.
        own = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
        is_permitted, is_listed = all(map(rules.permits, own)), all(map(rules.lists, own))
    elif address is None:
        is_permitted, is_listed = True, False
    else:
        is_permitted, is_listed = rules.permits(address), rules.lists(address)
    if not is_permitted:
        return (
            "the webhook leads into a private network",
            "Allow-list the address if that is meant.",
        ), ()
    if parts.scheme == "http" and not is_listed:
        return None, ("the webhook is called by plain http: others can read and change it",)
    return None, ()


def _split(text: str) -> SplitResult | None:
    if not text.isprintable() or " " in text or "\\" in text or len(text) > MAX_WEBHOOK_CHARS:
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


# --- many requests ---------------------------------------------------------------------------


def read_arguments(
    ids: Iterable[str], rules: RequestRules, defaults: TranscriptionRequest
) -> Iterator[Line]:
    """Yield what each of the arguments of a command says; the rest comes from ``defaults``."""
    found = (
        (number, msgspec.structs.replace(defaults, recording_id=text))
        for number, text in enumerate(ids, 1)
    )
    return _checked(found, rules, "argument")


def read_requests(
    lines: Iterable[bytes],
    rules: RequestRules,
    defaults: TranscriptionRequest,
    *,
    form: Form = Form.AUTO,
) -> Iterator[Line]:
    """Yield what each line of an input says: a request, what is wrong, or that it is a repeat.

    Args:
        lines: As they come from a file opened for bytes, with their ends. Empty ones, and those
            that begin with ``#`` in a list of ids, are passed over. Memory holds what has been
            asked for, to tell repeats, and one line.
        defaults: What a line does not say; its recording id is not used.

    Raises:
        ConfigError: The header of a CSV input is wrong: no line of it can be trusted.
    """
    return _checked(_requests(lines, defaults, form), rules, "line")


def _checked(
    found: Iterable[tuple[int, TranscriptionRequest | ConfigProblems]],
    rules: RequestRules,
    place: str,
) -> Iterator[Line]:
    seen: dict[TranscriptionRequest, int] = {}
    for number, item in found:
        if isinstance(item, ConfigProblems):
            yield BadLine(number, _as_errors(item))
            continue
        checked = check(item, rules, origin=f"{place} {number}")
        if checked.request is None:
            yield BadLine(number, checked.problems)
        elif (first := seen.setdefault(checked.request, number)) != number:
            yield RepeatedLine(number, first, place)
        else:
            yield GoodLine(number, checked.request, checked.warnings, place)


def _as_errors(problems: ConfigProblems) -> tuple[ConfigError, ...]:
    return tuple(problems.problems)


def _requests(
    lines: Iterable[bytes], defaults: TranscriptionRequest, form: Form
) -> Iterator[tuple[int, TranscriptionRequest | ConfigProblems]]:
    columns: Sequence[str] | None = None
    for number, text in _texts(lines):
        if isinstance(text, ConfigProblems):
            yield number, text
            continue
        if form is Form.AUTO:
            form = _form_of(text)
        if form is Form.CSV and columns is None:
            columns = _columns(text, f"line {number}")
            continue
        try:
            yield number, _request(text, form, columns or (), defaults, f"line {number}")
        except _Skipped:
            continue
        except ConfigProblems as problems:
            yield number, problems


def _texts(lines: Iterable[bytes]) -> Iterator[tuple[int, str | ConfigProblems]]:
    for number, raw in enumerate(lines, 1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        if len(line) > MAX_LINE_BYTES:
            yield number, _problem("line", "the line is too long", f"line {number}")
            continue
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            yield number, _problem("line", "the line is not UTF-8", f"line {number}")
            continue
        if text:
            yield number, text


def _form_of(first: str) -> Form:
    if first.startswith("{"):
        return Form.JSONL
    names = {_plain(cell) for cell in first.split(",")}
    return Form.CSV if "," in first or "recordingid" in names else Form.IDS


def _columns(header: str, origin: str) -> list[str]:
    """Return the field of each column.

    Raises:
        ConfigError: No column of recording ids, or one that is unknown or there twice: a
            misspelt one would silently give every job the default.
    """
    known = "Known: recordingId language format speakerDiarization wordConfidence timestamps"
    fix = f"{known} webhook conversationId."
    fields: list[str] = []
    for number, cell in enumerate(_cells(header, origin), 1):
        name = _FIELDS.get(_plain(cell))
        if name is None or name in fields:
            what = "unknown column" if name is None else "this column is there twice"
            raise ConfigError(what, setting="header", origin=origin, fix=fix, column=number)
        fields.append(name)
    if "recording_id" not in fields:
        raise ConfigError(
            "the column recordingId is missing", setting="header", origin=origin, fix=fix
        )
    return fields


def _request(
    text: str,
    form: Form,
    columns: Sequence[str],
    defaults: TranscriptionRequest,
    origin: str,
) -> TranscriptionRequest:
    match form:
        case Form.JSONL:
            return _built(_json_object(text, origin), defaults, origin, written=False)
        case Form.CSV:
            cells = _cells(text, origin)
            if len(cells) != len(columns):
                raise _problem(
                    "line", "more or fewer columns than the header has", origin, position=len(cells)
                )
            values = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
            return _built(values, defaults, origin, written=True)
        case _:
            if text.startswith("#"):
                raise _Skipped
            return msgspec.structs.replace(defaults, recording_id=text)


class _Skipped(Exception):
    """A comment."""


def _cells(line: str, origin: str) -> list[str]:
    # Each line by itself: none of our fields holds a line break, and a quote left open would
    # otherwise swallow the lines behind it.
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error:
        raise _problem("line", "the quotes of the line do not match", origin) from None


def _json_object(text: str, origin: str) -> Mapping[str, object]:
    try:
        told: object = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _problem("line", "the line is not JSON", origin) from None
    if not isinstance(told, dict):
        raise _problem("line", "the line is not a JSON object", origin)
    values: dict[str, object] = {}
    for number, (key, value) in enumerate(told.items(), 1):
        name = _FIELDS.get(_plain(str(key)))
        if name is None or name in values:
            what = "unknown field" if name is None else "this field is there twice"
            raise _problem("line", what, origin, position=number)
        if value is not None:
            values[name] = value
    return values


def _built(
    values: Mapping[str, object], defaults: TranscriptionRequest, origin: str, *, written: bool
) -> TranscriptionRequest:
    """Return the defaults with some values put in; ``written``: all of them are text."""
    problems: list[ConfigError] = []
    taken: dict[str, object] = {"recording_id": ""}
    for name, value in values.items():
        is_flag = isinstance(getattr(defaults, name), bool)
        if is_flag and written:
            value = _FLAGS.get(str(value).lower())
        if isinstance(value, bool if is_flag else str):
            taken[name] = value
        else:
            what = "this is true or false" if is_flag else "this is text"
            problems.append(ConfigError(what, setting=_camel(name), origin=origin))
    if problems:
        raise ConfigProblems(problems)
    return msgspec.structs.replace(defaults, **taken)


def _plain(name: str) -> str:
    return name.strip().strip('"').lower().replace("_", "").replace("-", "").replace(" ", "")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.title() for part in others)


def _problem(field: str, what: str, origin: str, *, position: int | None = None) -> ConfigProblems:
    return ConfigProblems([ConfigError(what, setting=field, origin=origin, position=position)])
