"""Mutations for the fuzz targets: bytes of known messages, broken in ways that parsers hate.

A target gives seeds (whole, valid messages) and asks for one mutated input after the other.
Half of the inputs are broken as JSON values (a leaf replaced by a nasty one, a key lost, doubled
or renamed), half as bytes (flips, cuts, splices of two seeds, dictionary words). Some pass
unbroken, so that what follows a good message is reached too. The same random seed gives the same
inputs again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

NASTY: tuple[Json, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    2**31,
    2**53,
    2**63,
    2**64,
    -(2**63) - 1,
    10**40,
    1.5,
    1e308,
    "",
    " ",
    "0",
    "null",
    "\x00",
    "\n",
    "\u2028",
    "\ud83d\ude00",
    "\u0661",
    "A" * 300,
    "PT",
    "PTS",
    "PT.S",
    "PT0S",
    "PT-1S",
    "PT1e5S",
    "PT1M",
    "PT1S\n",
    "PT9999999999999999999999999S",
    "PT0.0000000000000000000000001S",
    "00000000-0000-0000-0000-000000000000",
    "en-US",
    "en_US",
    [],
    [[]],
    [None],
    {},
    {"": {}},
)
WORDS = (
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b";",
    b"=",
    b"(",
    b")",
    b" ",
    b"\t",
    b"\r\n",
    b"\x00",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"NaN",
    b"-0",
    b"1e999",
    b'"\\ud800"',
    b"[" * 2000,
    b'{"a":' * 2000,
)


class Mutator:
    """Makes inputs out of seeds.

    Args:
        seeds: Valid messages; those that are JSON are broken as values too.
        random: Where chance comes from.
        words: Byte strings that mean something to the parser under test.
    """

    def __init__(self, seeds: Sequence[bytes], random: Random, words: Sequence[bytes] = ()) -> None:
        self._seeds = list(seeds)
        self._random = random
        self._words = [*WORDS, *words]
        self._json = [text for text in (_as_json(seed) for seed in seeds) if text is not None]
        self._byte_moves: tuple[Callable[[bytearray], None], ...] = (
            self._flip,
            self._cut,
            self._remove,
            self._repeat,
            self._insert,
            self._splice,
        )

    def next(self, valid: float = 0.1) -> bytes:
        """Return one input; a share of ``valid`` of them are seeds as they are."""
        draw = self._random.random()
        if draw < valid:
            return self._random.choice(self._seeds)
        if self._json and draw < (1 + valid) / 2:
            return self.break_value(self._random.choice(self._json))
        return self.break_bytes(self._random.choice(self._seeds))

    def break_value(self, text: bytes | str) -> bytes:
        """Return a JSON message with one to three of its values, keys or items broken."""
        value: Json = json.loads(text)
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            value = self._break(value)
        return json.dumps(value, ensure_ascii=self._random.random() < 0.8).encode(
            "utf-8", "surrogatepass"
        )

    def break_bytes(self, data: bytes) -> bytes:
        """Return a message with one to four places broken as bytes."""
        broken = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 4))):
            self._random.choice(self._byte_moves)(broken)
        return bytes(broken)

    def _break(self, value: Json) -> Json:
        random = self._random
        if isinstance(value, dict) and value and random.random() < 0.85:
            key = random.choice(list(value))
            move = random.random()
            if move < 0.6:
                value[key] = self._break(value[key])
            elif move < 0.75:
                del value[key]
            elif move < 0.85:
                value[random.choice(("", "x", key.upper(), key + " "))] = value.pop(key)
            else:
                value[random.choice(list(value))] = value[key]
            return value
        if isinstance(value, list) and value and random.random() < 0.7:
            place = random.randrange(len(value))
            move = random.random()
            if move < 0.6:
                value[place] = self._break(value[place])
            elif move < 0.75:
                del value[place]
            else:
                value.extend([value[place]] * random.choice((1, 2, 50)))
            return value
        if isinstance(value, int) and random.random() < 0.5:
            return value + random.choice((-2, -1, 1, 2, 1000))
        if isinstance(value, str) and value and random.random() < 0.4:
            place = random.randrange(len(value))
            return (
                value[:place] + chr(random.choice((0, 9, 48, 65, 233, 0x661))) + value[place + 1 :]
            )
        nasty = random.choice(NASTY)
        # A copy: what is broken later must not change the table.
        return json.loads(json.dumps(nasty)) if isinstance(nasty, list | dict) else nasty

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _cut(self, data: bytearray) -> None:
        del data[self._random.randrange(len(data) + 1) :]

    def _remove(self, data: bytearray) -> None:
        start = self._random.randrange(len(data) + 1)
        del data[start : start + self._random.choice((1, 1, 4, 16))]

    def _repeat(self, data: bytearray) -> None:
        start = self._random.randrange(len(data) + 1)
        part = bytes(data[start : start + self._random.choice((1, 8, 64))])
        data[start:start] = part * self._random.choice((1, 2, 20))

    def _insert(self, data: bytearray) -> None:
        place = self._random.randrange(len(data) + 1)
        data[place:place] = self._random.choice(self._words)

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._seeds)
        start = self._random.randrange(len(other) + 1)
        data[self._random.randrange(len(data) + 1) :] = other[start:]


def _as_json(seed: bytes) -> str | None:
    try:
        json.loads(seed)
    except ValueError:
        return None
    return seed.decode()


class Report:
    """Counts executions and outcomes, and prints them at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._outcomes: Counter[str] = Counter()
        self._since_s = time.perf_counter()
        self.failures: list[str] = []

    def count(self, outcome: str) -> None:
        """Count one execution; an outcome is a fixed word or a few, never input."""
        self._outcomes[outcome] += 1

    def fail(self, error: BaseException, data: bytes) -> None:
        """Record an exception that nobody documented, with the input that caused it."""
        self._outcomes[f"UNDOCUMENTED {type(error).__name__}"] += 1
        if len(self.failures) < 10:
            self.failures.append(f"{type(error).__name__}: {error}\n    {data[:2000]!r}")

    def lines(self) -> list[str]:
        """Return the report: executions, rate, outcomes by number, failures."""
        total = sum(self._outcomes.values())
        spent_s = max(time.perf_counter() - self._since_s, 1e-9)
        return [
            f"{self._name}: {total} executions in {spent_s:.1f} s, {total / spent_s:.0f} a second, "
            f"{len(self._outcomes)} distinct outcomes, {len(self.failures)} failures",
            *(f"  {number:>9}  {outcome}" for outcome, number in self._outcomes.most_common()),
            *(f"FAILURE {failure}" for failure in self.failures),
        ]
