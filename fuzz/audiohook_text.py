"""Fuzz target: text frames of an AudioHook session, in every state, and upgrade signatures.

    python fuzz/audiohook_text.py --executions 1000000

Ends with 1 when an exception came out that is not documented, or a rule was broken that holds
for every input: positions never go back, ``seq`` grows by one, nothing follows ``closed``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mutation import Mutator, Report

from steno.ports.audio_server import UpgradeRequest
from steno.wire.audiohook import (
    Ended,
    Flow,
    Keyring,
    NonceCache,
    OpenAsked,
    ProtocolBroken,
    Rules,
    ServerSession,
    State,
    Upgrade,
    choose_media,
    decode_secret,
    sign,
    verify,
)

VECTORS = Path(__file__).resolve().parent.parent / "tests" / "vectors" / "audiohook"
WORDS = (b"PT", b"S", b'"type"', b'"parameters"', b"null", b'"close"', b'"open"', b'"ping"')
SIGNATURE_WORDS = (
    b"sig1=",
    b'("',
    b'")',
    b";keyid=",
    b";created=",
    b'"@request-target"',
    b"=:",
    b":",
)
_NUMBERS = re.compile(rb'"seq": [0-9]+, "serverseq": [0-9]+')
SIGNED_AT = 1_767_225_600


class TextTarget:
    """Feeds a session a mutated message in a state reached by good ones."""

    def __init__(self, random: Random) -> None:
        messages = json.loads((VECTORS / "client.json").read_text())["messages"]
        self._random = random
        self._open = messages[0]
        self.data = b""
        self._seeds = [json.dumps(one).encode() for one in messages]
        self._mutator = Mutator(self._seeds, random, WORDS)
        self._reach: tuple[Callable[[], ServerSession], ...] = (
            self._preparing,
            self._opening,
            self._running,
            self._paused,
            self._closing,
            self._disconnecting,
        )

    def _preparing(self) -> ServerSession:
        return ServerSession(self._open["id"], self._open["parameters"]["organizationId"], now=0.0)

    def _opening(self) -> ServerSession:
        session = self._preparing()
        session.receive_text(self._seeds[0], 0.0)
        return session

    def _running(self) -> ServerSession:
        session = self._opening()
        if session.open is not None:
            session.accept(choose_media(session.open.media), now=0.0)
        return session

    def _paused(self) -> ServerSession:
        session = self._running()
        session.receive_text(self._in_turn(3), 0.1)  # a ping: sending begins
        session.pause(0.2)
        session.receive_text(self._in_turn(5, seq=3), 0.3)
        return session

    def _closing(self) -> ServerSession:
        session = self._running()
        session.receive_text(self._in_turn(-1), 0.1)
        return session

    def _disconnecting(self) -> ServerSession:
        session = self._running()
        session.receive_text(b"{}", 0.1)
        return session

    def _in_turn(self, number: int, seq: int = 2) -> bytes:
        message = json.loads(self._seeds[number])
        message["seq"], message["serverseq"] = seq, 0
        return json.dumps(message).encode()

    def __call__(self) -> str:
        """Run once and return the outcome; ``data`` is what went in."""
        session = self._random.choice(self._reach)()
        before = session.state
        session.events(), session.to_send()
        data = self._mutator.next()
        if self._random.random() < 0.7:
            # With the number that would be the next, the message itself is what is looked at.
            seq = _next_seq(session)
            data = _NUMBERS.sub(b'"seq": %d, "serverseq": 0' % seq, data, count=1)
        self.data = data
        position = session.position
        session.receive_text(data, 1.0)
        session.receive_audio(data[:64], 1.1)
        if session.position < position:
            raise AssertionError("the position went back")
        told = session.events()
        _check_order(session.to_send(), session.state)
        causes = [one.cause for one in told if isinstance(one, ProtocolBroken)]
        words = causes or [type(one).__name__ for one in told if not isinstance(one, OpenAsked)]
        session.on_deadline(100.0)
        session.on_deadline(200.0)
        session.on_deadline(300.0)
        if session.state is not State.OVER or not isinstance(session.events()[-1], Ended):
            raise AssertionError("the session does not end")
        return f"{before.value}: {', '.join(words) or 'taken'}"


def _next_seq(session: ServerSession) -> int:
    if session.state is State.PREPARING:
        return 1
    return 2 if session.flow is Flow.RUNNING else 4


def _check_order(out: list[bytes], state: State) -> None:
    last = 0
    for place, one in enumerate(out):
        message = json.loads(one)
        if last and message["seq"] != last + 1:
            raise AssertionError("seq does not grow by one")
        last = message["seq"]
        if message["type"] == "closed" and (place + 1 != len(out) or state is not State.CLOSED):
            raise AssertionError("something follows closed")


class SignatureTarget:
    """Verifies an upgrade whose signature headers, or others, are mutated."""

    def __init__(self, random: Random) -> None:
        vector = json.loads((VECTORS / "signatures.json").read_text())[1]
        self._upgrade = Upgrade(
            *(
                vector[name]
                for name in ("target", "authority", "organization", "session", "correlation", "key")
            )
        )
        secret = decode_secret(vector["secret"])
        self._keys = Keyring({vector["key"]: vector["secret"], "open": ""})
        signed = sign(
            self._upgrade,
            secret,
            nonce=vector["nonce"],
            created=SIGNED_AT,
            expires=SIGNED_AT + 10,
        )
        self._headers = [
            ("host", self._upgrade.authority),
            ("audiohook-organization-id", self._upgrade.organization),
            ("audiohook-session-id", self._upgrade.session),
            ("audiohook-correlation-id", self._upgrade.correlation),
            ("x-api-key", self._upgrade.key_id),
            *signed,
        ]
        self._mutators = [
            Mutator([value.encode()], random, SIGNATURE_WORDS) for _, value in self._headers
        ]
        self._random = random
        self.data = b""

    def __call__(self) -> str:
        """Run once and return the outcome; ``data`` is the mutated header."""
        headers = list(self._headers)
        place = self._random.choice((5, 5, 5, 5, 6, 6, 0, 1, 2, 3, 4))
        name, value = headers[place]
        self.data = data = self._mutators[place].next(valid=0.02)
        if self._random.random() < 0.05:
            headers.insert(place, (name, value))
        headers[place] = (name, data.decode("latin-1"))
        request = UpgradeRequest(
            self._upgrade.target, self._upgrade.target, tuple(headers), "192.0.2.1", True
        )
        nonces = NonceCache(Rules().keep_nonces_s)
        verdict = verify(request, self._keys, nonces, utc_s=SIGNED_AT + 1, now=0.0)
        if verdict.accepted and not self._is_genuine(headers):
            raise AssertionError("a changed request was accepted")
        return f"signature: {verdict.reason}"

    def _is_genuine(self, headers: list[tuple[str, str]]) -> bool:
        """Tell whether the headers say the same: white space, or how the host is spelt, is none."""
        if len(headers) != len(self._headers):
            return False
        for (_, told), (name, meant) in zip(headers, self._headers, strict=True):
            same = told.strip() == meant
            if name == "host":
                same = told.strip().lower().removesuffix(":443") == meant
            if not same:
                return False
        return True


def main() -> int:
    """Run both targets; return 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = Random(options.seed)  # noqa: S311 - inputs are to be repeatable
    text, signature = TextTarget(random), SignatureTarget(random)
    report = Report("audiohook")
    for number in range(options.executions):
        target: TextTarget | SignatureTarget = signature if number % 4 == 0 else text
        try:
            outcome = target()
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            report.fail(error, target.data)
        else:
            report.count(outcome)
    sys.stdout.write("\n".join(report.lines()) + "\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
