"""Faults: what goes wrong, when, and for how long.

A fault is a line of data, the same in a scenario file, a ``--faults`` file (a JSON or TOML
list under ``faults``), a POST to ``/_sim/faults`` and a call of ``Simulator.inject``.

When it starts: at once, or ``at_s`` seconds after it was given (a scenario's own faults are
given when its playback begins), or once the region has sent ``after`` fragments and
utterances in all; 0 means "not given".
How long it holds: ``times`` uses (requests, frames, upgrades), or ``for_s`` seconds, or both.

=================  ===========================================================================
kind               effect, and the keys it reads
=================  ===========================================================================
``drop``           ends sockets: with a close frame (``code``), by TCP FIN (no code), or by
                   TCP reset (``reset``; what was sent before is first known to have
                   arrived); ``times`` above 0 spares all but the first so many
``refuse``         refuses WebSocket upgrades with ``status`` (503)
``deny``           refuses subscriptions on event sockets with ``status`` (403)
``silence``        half-open: no frame, no pong, no close answer; ``for_s`` 0 is for ever
``slow_pong``      pongs come ``delay_s`` late
``answer``         requests matching ``path`` and ``method`` are answered ``status`` (503), with
                   ``retry_after_s`` when above 0; ``body`` replaces the JSON error
``delay``          requests matching ``path`` and ``method`` wait ``delay_s``
``lose_request``   requests matching ``path`` and ``method`` are cut off unheard
``lose_answer``    the same once they were carried out: the job exists, nobody is told
``truncate``       downloads of media matching ``path`` break off half-way
``drip``           downloads of media matching ``path`` come in drips, ``delay_s`` apart
``expire_tokens``  every token given out so far expires now
``revoke_tokens``  another name for the same
``region_down``    sockets reset; ``mode`` ``stop`` (port closed) or ``accept`` (accepts, then
                   closes at once); ``for_s`` 0 is until ``region_up``
``region_up``      the port is open again
``malformed``      ``times`` extra frames of ``form``: invalid_json, truncated, wrong_types,
                   missing_fields, binary, invalid_utf8, huge, unknown_event, array,
                   bad_times (event sockets: speech that ends before it starts)
``duplicate``      the next ``times`` fragments are sent twice
``reorder``        the next ``times`` partials change places with the frame after them
``socket_closing`` notification sockets get the notice; closed with 1001 after ``delay_s`` (60)
``channel_expired`` notification channels end as if their life were over
``idle_close``     notification sockets are closed with 1001
=================  ===========================================================================

``region`` limits a fault to one region, ``target`` to ``stream``, ``channel`` or ``event``
sockets, and ``conversation`` to sockets that carry it.
"""

from __future__ import annotations

import fnmatch
import json
import tomllib
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal[
    "drop",
    "refuse",
    "deny",
    "silence",
    "slow_pong",
    "answer",
    "delay",
    "lose_request",
    "lose_answer",
    "truncate",
    "drip",
    "expire_tokens",
    "revoke_tokens",
    "region_down",
    "region_up",
    "malformed",
    "duplicate",
    "reorder",
    "socket_closing",
    "channel_expired",
    "idle_close",
]
Form = Literal[
    "invalid_json",
    "truncated",
    "wrong_types",
    "missing_fields",
    "binary",
    "invalid_utf8",
    "huge",
    "unknown_event",
    "array",
    "bad_times",
]
Target = Literal["all", "stream", "channel", "event"]

STANDING: frozenset[str] = frozenset(
    {"refuse", "deny", "answer", "delay", "lose_request", "lose_answer", "truncate", "drip"}
)
"""Kinds that wait for a request; the others act on what is there when they start."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that goes wrong; see the module's table."""

    kind: Kind
    region: str = ""
    target: Target = "all"
    conversation: str = ""
    at_s: float = 0.0
    after: int = 0
    times: int = 0
    for_s: float = 0.0
    path: str = "*"
    method: str = "*"
    status: int = 0
    retry_after_s: float = 0.0
    body: str = ""
    delay_s: float = 0.0
    code: int = 0
    reset: bool = False
    mode: Literal["stop", "accept"] = "stop"
    form: Form = "invalid_json"

    @property
    def refusal(self) -> int:
        """The status of a refusal: ``status``, or what the kind means when none is given."""
        return self.status or (403 if self.kind == "deny" else 503)

    @property
    def uses(self) -> int:
        """Uses before it is spent: ``times``, else 1, else no bound when a time is given."""
        if self.times:
            return self.times
        return 1 << 30 if self.for_s else 1


class _FaultFile(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[Fault]


def load_faults(path: Path) -> list[Fault]:
    """Give the faults of a file: ``{"faults": [...]}`` in JSON or TOML.

    Raises:
        ValueError: Unreadable, or not such a file.
    """
    try:
        text = path.read_text()
        raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return msgspec.convert(raw, _FaultFile).faults
    except (OSError, ValueError, msgspec.ValidationError) as exc:
        raise ValueError(f"{path}: {exc}") from None


class Standing:
    """A fault that is waiting for matching requests."""

    __slots__ = ("fault", "left", "until")

    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self.left = fault.uses
        self.until = now + fault.for_s if fault.for_s else float("inf")

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is one of those it is meant for."""
        fault = self.fault
        return fnmatch.fnmatchcase(path, fault.path) and fault.method in ("*", method)


class FaultBook:
    """The standing faults of one region. Pure: the caller gives ``now``."""

    MAX = 1000

    def __init__(self) -> None:
        self._standing: list[Standing] = []
        self.fired: dict[str, int] = {}

    def add(self, fault: Fault, *, now: float) -> None:
        """Let a standing fault wait for its requests.

        Raises:
            ValueError: More than ``MAX`` are waiting.
        """
        if len(self._standing) >= self.MAX:
            raise ValueError("too many standing faults")
        self._standing.append(Standing(fault, now))

    def take(self, kind: Kind, method: str, path: str, *, now: float) -> Fault | None:
        """Give the first matching fault of that kind and count one use, or None."""
        if not self._standing:
            return None
        self._standing = [s for s in self._standing if s.left > 0 and s.until > now]
        for standing in self._standing:
            if standing.fault.kind == kind and standing.matches(method, path):
                standing.left -= 1
                self.count(kind)
                return standing.fault
        return None

    def count(self, kind: str) -> None:
        """Note that a fault acted."""
        self.fired[kind] = self.fired.get(kind, 0) + 1

    def waiting(self) -> list[Fault]:
        """Give the faults that have uses left."""
        return [s.fault for s in self._standing if s.left > 0]

    def clear(self) -> None:
        """Forget every standing fault; the counts stay."""
        self._standing.clear()
