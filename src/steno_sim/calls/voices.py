"""The spoken calls that come with the package, and what they say.

Made by eSpeak NG (see ``tools/voices.py``): a customer (``external``) and an agent
(``internal``) taking turns, in words that the embedded recogniser's grammar has. The manifest
tells every turn's words and times, and the numbers in them that are secrets.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from steno_sim.calls.audio import Sound, parse_wav


class SpokenSecret(msgspec.Struct, frozen=True):
    """A number said digit by digit: ``kind`` is phone, card or order."""

    kind: str
    text: str
    digits: str


class SpokenTurn(msgspec.Struct, frozen=True):
    """What one side says in one go, from the start of the call; words in lower case."""

    channel: str
    start_ms: int
    end_ms: int
    text: str
    secrets: list[SpokenSecret] = []


class SpokenCall(msgspec.Struct, frozen=True):
    """One call."""

    name: str
    file: str
    language: str
    duration_ms: int
    turns: list[SpokenTurn]

    def sound(self) -> Sound:
        """Give its sound: two channels, in the order of ``channels()``."""
        entry = resources.files("steno_sim") / "voices" / self.file
        return parse_wav(entry.read_bytes(), source=self.file)


class _Manifest(msgspec.Struct, frozen=True):
    rate_hz: int
    channels: tuple[str, str]
    calls: list[SpokenCall]


@cache
def _manifest() -> _Manifest:
    entry = resources.files("steno_sim") / "voices" / "manifest.json"
    return msgspec.json.decode(entry.read_bytes(), type=_Manifest)


def channels() -> tuple[str, str]:
    """Give the names of the calls' channels, in the order of their sound."""
    return _manifest().channels


def spoken_calls() -> list[SpokenCall]:
    """Give every packaged call."""
    return list(_manifest().calls)


def spoken_call(name: str) -> SpokenCall:
    """Give the packaged call of a name.

    Raises:
        ValueError: There is none.
    """
    for call in _manifest().calls:
        if call.name == name:
            return call
    names = ", ".join(call.name for call in _manifest().calls)
    raise ValueError(f"no voice {name!r}; there are {names}")
