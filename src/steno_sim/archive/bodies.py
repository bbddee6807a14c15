"""Files that are made while they are read: any range of bytes, at memory's speed, never whole.

A *stretch* is a part of a file whose size is known: fixed bytes, or a ``Run`` of elements. A run
repeats a pattern of elements; what differs from round to round are its numbers (times, indexes),
which grow by a fixed step. So the size of every block of elements follows from how many digits
its numbers have, and the block that holds an offset is found without making those before it.
Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

BLOCK_BYTES = 65_536
"""About the size of the pieces that a file is made and given in."""
_POWERS = [10**n for n in range(1, 19)]


class Element(msgspec.Struct, frozen=True):
    """One element of a run: a ``%`` format, and the numbers (not negative) that go in.

    ``steps`` is what each number grows by from one round of the pattern to the next.
    """

    form: str
    numbers: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()


class Stretch(Protocol):
    """A part of a file."""

    size: int

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Give the bytes from ``start`` to before ``end``, in pieces."""
        ...


class Fixed:
    """Bytes as they are."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Give the bytes from ``start`` to before ``end``, in pieces."""
        for at in range(start, end, BLOCK_BYTES):
            yield self._data[at : min(end, at + BLOCK_BYTES)]


class _Block:
    """Some elements one after the other, with what their size depends on."""

    __slots__ = ("_by_step", "_fixed", "_form", "_numbers", "_steps", "count")

    def __init__(self, elements: Sequence[Element]) -> None:
        self.count = len(elements)
        self._form = "".join(e.form for e in elements)
        self._numbers = tuple(n for e in elements for n in e.numbers)
        self._steps = tuple(s for e in elements for s in e.steps)
        groups: dict[int, list[int]] = {}
        for number, step in zip(self._numbers, self._steps, strict=True):
            groups.setdefault(step, []).append(number)
        self._by_step = [(step, sorted(found)) for step, found in groups.items()]
        whole = len((self._form % self._numbers).encode())
        self._fixed = whole - self._digits(0)

    def size(self, round_: int) -> int:
        return self._fixed + self._digits(round_)

    def make(self, round_: int) -> bytes:
        if not round_:
            return (self._form % self._numbers).encode()
        steps = zip(self._numbers, self._steps, strict=True)
        return (self._form % tuple([n + s * round_ for n, s in steps])).encode()

    def _digits(self, round_: int) -> int:
        total = 0
        for step, numbers in self._by_step:
            grown = step * round_
            least = bisect_right(_POWERS, numbers[0] + grown)
            most = bisect_right(_POWERS, numbers[-1] + grown)
            total += len(numbers) * (least + 1)
            for power in _POWERS[least:most]:
                total += len(numbers) - bisect_left(numbers, power - grown)
        return total


class Run:
    """Elements with a separator between them.

    Args:
        pattern: The elements of the first round; each form begins with the separator.
        separator: What the first element of all goes without.
        count: Elements in all; or
        size: Bytes that they come to at least, with one element or more.
    """

    def __init__(
        self,
        pattern: Sequence[Element],
        separator: bytes,
        *,
        count: int = 0,
        size: int = 0,
    ) -> None:
        self._skip = len(separator)
        self._blocks = _blocks(pattern) if pattern and (count or size) else []
        self._last: _Block | None = None
        self._starts = [0]
        self.count = 0
        if self._blocks:
            self._lay_out(pattern, count, size + self._skip)
        self.size = max(0, self._starts[-1] - self._skip)

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Give the bytes from ``start`` to before ``end``, in pieces."""
        start, end = start + self._skip, min(end, self.size) + self._skip
        number = bisect_right(self._starts, start) - 1
        while start < end:
            first, last = self._starts[number], self._starts[number + 1]
            data = self._make(number)
            if start > first or end < last:
                data = data[start - first : end - first]
            yield data
            start = last
            number += 1

    def _make(self, number: int) -> bytes:
        round_, place = divmod(number, len(self._blocks))
        if self._last is not None and number == len(self._starts) - 2:
            return self._last.make(round_)
        return self._blocks[place].make(round_)

    def _lay_out(self, pattern: Sequence[Element], count: int, size: int) -> None:
        """Note where every block begins; the last one may have to be a shorter one."""
        starts, blocks, made = self._starts, self._blocks, 0
        while True:
            round_, place = divmod(len(starts) - 1, len(blocks))
            block = blocks[place]
            end = starts[-1] + block.size(round_)
            if (count and made + block.count >= count) or (not count and end >= size):
                break
            starts.append(end)
            made += block.count
        first = sum(b.count for b in blocks[:place])
        elements = pattern[first : first + block.count]
        wanted = count - made if count else _needed(elements, round_, size - starts[-1])
        self._last = _Block(elements[:wanted])
        starts.append(starts[-1] + self._last.size(round_))
        self.count = made + wanted


def _blocks(pattern: Sequence[Element]) -> list[_Block]:
    """Cut a pattern into blocks of about the same size."""
    sample = pattern[: min(64, len(pattern))]
    each = max(1, sum(len(e.form) for e in sample) // len(sample))
    count = max(1, BLOCK_BYTES // each)
    return [_Block(pattern[at : at + count]) for at in range(0, len(pattern), count)]


def _needed(elements: Sequence[Element], round_: int, size: int) -> int:
    """Give how many of some elements come to a size."""
    total = 0
    for number, element in enumerate(elements, 1):
        total += _Block([element]).size(round_)
        if total >= size:
            return number
    return len(elements)


class Body:
    """A file: stretches one after the other, or the beginning of that.

    Args:
        stretches: Its parts.
        limit: Bytes after which it ends, whatever would follow; None for all.
    """

    def __init__(self, stretches: Sequence[Stretch], *, limit: int | None = None) -> None:
        self._stretches = list(stretches)
        whole = sum(s.size for s in stretches)
        self.size = whole if limit is None else min(limit, whole)

    def cut(self, size: int) -> Body:
        """Give the beginning of it."""
        return Body(self._stretches, limit=size)

    def read(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Give the bytes from ``start`` to before ``end``, in pieces of some tens of kilobytes."""
        end = self.size if end is None else min(end, self.size)
        at = 0
        for stretch in self._stretches:
            if at + stretch.size > start and at < end:
                yield from stretch.read(max(0, start - at), min(stretch.size, end - at))
            at += stretch.size
            if at >= end:
                return
