"""Messages of both directions: strict where the protocol is, lenient beyond it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.audiohook import messages as m
from steno.wire.audiohook.durations import from_samples, from_us, to_samples, to_us
from wire.audiohook.pair import message, open_message, vectors

BOTH = [("client", one) for one in vectors("client")] + [("server", o) for o in vectors("server")]
DECODE = {"client": m.decode_client, "server": m.decode_server}


@pytest.mark.parametrize(("side", "vector"), BOTH)
def test_each_message_is_read_and_written_back(side: str, vector: dict[str, Any]) -> None:
    """Nothing of a message is lost or invented, and ``parameters`` is always there."""
    decoded = DECODE[side](json.dumps(vector).encode())
    written = json.loads(m.encode(decoded))
    for name in ("startPaused", "supportedLanguages"):  # false is what leaving out means
        if vector["parameters"].get(name) is False:
            written["parameters"].setdefault(name, False)
    assert written == vector


@pytest.mark.parametrize(("side", "vector"), BOTH)
def test_a_message_cut_anywhere_is_an_error(side: str, vector: dict[str, Any]) -> None:
    """No part of a message passes for a message."""
    whole = json.dumps(vector).encode()
    for length in range(len(whole)):
        with pytest.raises(RemoteProtocolError):
            DECODE[side](whole[:length])


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        below = [leaves(one, (*path, key)) for key, one in value.items()]
    elif isinstance(value, list):
        below = [leaves(one, (*path, place)) for place, one in enumerate(value)]
    else:
        return [path]
    return [path, *(one for part in below for one in part)]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    here = copy
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = new
    return copy


FREE = {"customConfig", "inputVariables", "entities"}


@pytest.mark.parametrize(("side", "vector"), BOTH)
def test_each_field_of_another_type_is_an_error(side: str, vector: dict[str, Any]) -> None:
    """A number for a text, a text for a number, an object for a leaf: none is repaired."""
    for path in leaves(vector):
        if not path or FREE & set(path) or "message" in path:
            continue
        broken = replaced(vector, path, {"no": ["such"]} if path != ("parameters",) else [1])
        with pytest.raises(RemoteProtocolError):
            DECODE[side](json.dumps(broken).encode())


OPTIONAL = {
    "language",
    "supportedLanguages",
    "continuedSessions",
    "customConfig",
    "inputVariables",
    "rtt",
    "retryAfter",
    "message",
    "startPaused",
    "discardTo",
    "info",
}


@pytest.mark.parametrize(("side", "vector"), BOTH)
def test_a_missing_field_is_an_error_unless_optional(side: str, vector: dict[str, Any]) -> None:
    """``parameters`` and all that the protocol requires must be there."""
    for holder in (vector, vector["parameters"]):
        for name in list(holder):
            value = holder.pop(name)
            try:
                data = json.dumps(vector).encode()
                required = name not in OPTIONAL or vector["type"] == "update"
                if required:
                    with pytest.raises(RemoteProtocolError):
                        DECODE[side](data)
                else:
                    DECODE[side](data)
            finally:
                holder[name] = value


def test_fields_that_nobody_named_are_ignored() -> None:
    """A later version may add fields anywhere."""
    vector = vectors("client")[0]
    vector["later"] = vector["parameters"]["later"] = {"a": 1}
    vector["parameters"]["media"][0]["later"] = 1
    assert isinstance(m.decode_client(json.dumps(vector).encode()), m.Open)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("id", "0b9d7a44-2c5e-6f10-8e3b-6a1c9d5e7f22"),
        ("id", "0b9d7a44-2c5e-4f10-7e3b-6a1c9d5e7f22"),
        ("id", "{0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22}"),
        ("id", "0b9d7a442c5e4f108e3b6a1c9d5e7f22"),
        ("version", "3"),
        ("version", 2),
        ("seq", 0),
        ("seq", -1),
        ("seq", 1.5),
        ("seq", "1"),
        ("seq", 2**53),
        ("serverseq", -1),
        ("position", "PT1M"),
        ("position", "P1DT1S"),
        ("position", "PT-1S"),
        ("position", "PT1e5S"),
        ("position", "PT1.S"),
        ("position", "PT1S\n"),
        ("position", "PT\u0661S"),
        ("position", 1.5),
    ],
)
def test_an_envelope_out_of_form_is_an_error(field: str, bad: object) -> None:
    """Ids, counters and positions have one form."""
    with pytest.raises(RemoteProtocolError, match="invalid message fields"):
        m.decode_client(json.dumps({**json.loads(message("ping", 1)), field: bad}).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"language": "en"},
        {"language": "en_US"},
        {"language": "EN-US"},
        {"media": [{"type": "audio", "format": "OPUS", "channels": ["external"], "rate": 8000}]},
        {"media": [{"format": "PCMU", "channels": ["external"], "rate": 8000}]},
        {"media": [{"type": "audio", "format": "PCMU", "channels": [], "rate": 8000}]},
        {"media": [{"type": "audio", "format": "PCMU", "channels": ["both"], "rate": 8000}]},
        {"media": [{"type": "audio", "format": "L16", "channels": ["external"] * 2, "rate": 8000}]},
        {"media": [{"type": "audio", "format": "L16", "channels": ["external"], "rate": 0}]},
        {"organizationId": "here"},
        {"participant": {"id": m.NULL_UUID}},
    ],
)
def test_an_open_out_of_form_is_an_error(change: dict[str, object]) -> None:
    """Language codes and media items are looked at strictly."""
    with pytest.raises(RemoteProtocolError):
        m.decode_client(open_message(**change))


@pytest.mark.parametrize(
    ("data", "summary"),
    [
        (b"", "message is not JSON"),
        (b"\xff", "message is not JSON"),
        (b"[" * 20_000, "message is not an object with a type"),
        (b'{"type":"ping","x":' + b"[" * 20_000, "message is not JSON"),
        (b"[]", "message is not an object with a type"),
        (message("resumes", 1), "unknown message type"),
        (message("opened", 1), "unknown message type"),
        (b'{"type":"ping"}', "message without parameters"),
        (b" " * 65_536, "message too large"),
    ],
)
def test_what_is_wrong_is_told_in_words_of_ours(data: bytes, summary: str) -> None:
    """The reason says which rule was broken and quotes nothing."""
    with pytest.raises(RemoteProtocolError) as caught:
        m.decode_client(data)
    assert caught.value.summary == summary


def test_size_is_counted_in_characters() -> None:
    """65535 characters may be more bytes."""
    padding = m.MAX_TEXT_CHARS - len(message("error", 1, {"code": 400, "message": ""}).decode())
    for extra, fits in ((0, True), (1, False)):
        raw = message("error", 1, {"code": 400, "message": "@@"}).replace(
            b"@@", "\u00e9".encode() * (padding + extra)
        )
        if fits:
            assert isinstance(m.decode_client(raw), m.Error)
        else:
            with pytest.raises(RemoteProtocolError, match="too large"):
                m.decode_client(raw)


def test_a_message_of_ours_that_is_too_large_is_not_made() -> None:
    """The limit binds both directions."""
    entity = msgspec.Raw(b'"' + b"a" * 65_600 + b'"')
    with pytest.raises(LocalProtocolError):
        m.encode(
            m.Event(
                version="2",
                id=m.NULL_UUID,
                seq=1,
                clientseq=1,
                parameters=m.EventParameters([entity]),
            )
        )


def test_personal_data_are_not_shown() -> None:
    """A caller's number and name, and pressed keys, stay out of every ``repr``."""
    decoded = m.decode_client(open_message(customConfig={"pin": "secret-thing"}))
    digit = m.decode_client(message("dtmf", 1, {"digit": "7"}))
    shown = f"{decoded!r} {digit!r}"
    assert "5550" not in shown
    assert "Example Caller" not in shown
    assert "secret-thing" not in shown
    assert "'7'" not in shown


@given(st.integers(0, 80 * 86_400 * 8000))
def test_positions_survive_being_written(samples: int) -> None:
    """Samples at 8000 Hz come back exactly, however late in a call."""
    text = from_samples(samples, 8000)
    assert "e" not in text.lower()
    assert to_samples(text, 8000) == samples
    assert from_us(to_us(text)) == text


@pytest.mark.parametrize(
    ("text", "samples"),
    [("PT0S", 0), ("PT.5S", 4000), ("PT12.34S", 98_720), ("PT0.0000625S", 1), ("PT007S", 56_000)],
)
def test_durations_are_read_exactly(text: str, samples: int) -> None:
    """Half a sample goes up; leading zeros and a bare fraction are fine."""
    assert to_samples(text, 8000) == samples


@pytest.mark.parametrize("text", ["PT99999999999S", "PT7776000.1S", "PT1", "1S", ""])
def test_durations_beyond_any_call_are_an_error(text: str) -> None:
    """What is not a duration, or longer than 90 days, is refused."""
    with pytest.raises(RemoteProtocolError):
        to_us(text)
