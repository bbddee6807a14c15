"""Claims: who of several writers may upload an object that is too large for one conditional put.

A claim is a chain of small objects beside the manifest, ``….claim-000000``, ``….claim-000001`` and
so on, each put on condition that it is not there. Whoever puts the next one has the key: the
holder to stay it, every third of a lease; anybody else once the last one has run out or was
given back. So all it takes is a store that can refuse to create twice, and nobody has to compare
versions. The chain is read from its beginning, not listed: listings may lag. Clocks of writers
have to agree to within a part of a lease. When the manifest is complete the chain goes.

Some stores look for the object and put it afterwards (Swift): of two puts at the same instant both
seem to have created it, and the later stays. Therefore a link is read back, and looked at once
more before the next one: a second is enough for it to be settled.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from typing import Final, NamedTuple, Protocol

import msgspec

from steno.adapters.archive_store.place import CLAIMED, VERSION, decode_manifest, manifest_of
from steno.errors import IntegrityError, StenoError, StorageError
from steno.ports.archive import Manifest, NewItem

_US: Final = 1_000_000
_RENEWALS_IN_A_LEASE: Final = 3
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 2.0


class ClaimLost(StorageError):
    """Somebody else has the key now."""


class Smalls(Protocol):
    """The part of a bucket that claims need."""

    def create(self, name: str, data: bytes) -> bool:
        """Put something small; False when there is something of that name."""

    def small(self, name: str) -> bytes | None:
        """Return something small; None where nothing is."""

    def size(self, name: str) -> int | None:
        """Return an object's size; None where nothing is."""

    def delete(self, name: str) -> bool:
        """Delete."""


class Last(NamedTuple):
    """The end of a chain. ``number`` is -1 for an empty one; times are UTC microseconds."""

    number: int
    claimant: str
    until_us: int

    def is_live(self, now_us: int) -> bool:
        """Whether somebody has the key now."""
        return self.until_us > now_us


class Claim:
    """A key that is ours until we give it back, or until we could not renew the claim in time.

    Args:
        last: The link that made it ours.
    """

    def __init__(self, chain: Chain, last: Last) -> None:
        self._chain = chain
        self._last = last
        self._lost = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="archive-claim", daemon=True)
        self._keeper.start()

    def check(self) -> None:
        """Find out, by renewing it, that the claim is still ours.

        Raises:
            ClaimLost: Somebody else has the key now.
            TransportError, AuthError: The store cannot be asked.
        """
        with self._lock:
            self._renew()

    def give_back(self) -> None:
        """Let others have the key at once, unless it is lost anyway. Never raises."""
        self._end()
        if not self._lost:
            with contextlib.suppress(StenoError):  # it runs out
                self._chain.put_next(self._last, until_us=0)

    def remove(self) -> None:
        """Remove the chain, now that the object has its manifest. Never raises."""
        self._end()
        with contextlib.suppress(StenoError):
            self._chain.remove(self._last)

    def _end(self) -> None:
        self._stop.set()
        self._keeper.join()

    def _keep(self) -> None:
        pause = self._chain.lease_s / _RENEWALS_IN_A_LEASE
        while not self._stop.wait(pause):
            with self._lock:
                try:
                    self._renew()
                except ClaimLost:
                    return
                except StenoError:
                    continue  # the store is away; the claim may run out

    def _renew(self) -> None:
        if not self._lost and not self._chain.has(self._last):
            self._lost = True
        renewed = None if self._lost else self._chain.put_next(self._last)
        if renewed is None:
            self._lost = True
            raise ClaimLost("somebody else has taken over the archiving of this transcript")
        self._last = renewed


class Chain:
    """The claims for one key.

    Args:
        lease_s, wait_s: See ``ArchiveSettings``.
    """

    def __init__(self, place: Smalls, item: NewItem, *, lease_s: float, wait_s: float) -> None:
        self._place = place
        self._item = item
        self._claimant = secrets.token_hex(12)  # this writer and no other
        self._name = manifest_of(item).removesuffix(".json")
        self.lease_s = lease_s
        self._wait_s = wait_s

    def claim(self) -> Claim | None:
        """Return the key as ours, after waiting for whoever has it; None once the object is there.

        Raises:
            StorageError: Somebody else still had it at the end of the wait.
        """
        last = self._wait(Last(-1, "", 0))
        while last is not None:
            mine = self.put_next(last)
            if mine is not None:
                return Claim(self, mine)
            last = self._wait(last)
        return None

    def wait(self) -> Last:
        """Wait until nobody has the key, object or not; return the end of the chain.

        Raises:
            StorageError: Somebody still had it at the end of the wait.
        """
        last = self._wait(Last(-1, "", 0), past_object=True)
        return Last(-1, "", 0) if last is None else last

    def tidy(self) -> None:
        """Remove what an abandoned claim left, the object being complete. Never raises."""
        with contextlib.suppress(StenoError):
            last = self._follow(Last(-1, "", 0))
            if not last.is_live(_now_us()):
                self.remove(last)

    def remove(self, last: Last) -> None:
        """Remove the chain from its end: what a kill leaves of it is a chain still."""
        for number in range(last.number, -1, -1):
            self._place.delete(self._link(number))

    def put_next(self, last: Last, *, until_us: int | None = None) -> Last | None:
        """Put the link after the last; None when somebody else was first."""
        until = _now_us() + int(self.lease_s * _US) if until_us is None else until_us
        mine = Last(last.number + 1, self._claimant, until)
        link = Manifest(
            version=VERSION,
            key=self._item.key,
            state=CLAIMED,
            conversation=self._item.conversation,
            claimant=mine.claimant,
            claimed_until_us=mine.until_us,
        )
        self._place.create(self._link(mine.number), msgspec.json.encode(link))
        # Created or not: a put whose answer was lost, and that was repeated, finds its own work.
        return mine if self.has(mine) else None

    def has(self, mine: Last) -> bool:
        """Tell whether a link is still the one that we put."""
        found = self._read(mine.number)
        return found is not None and found.claimant == self._claimant

    def _wait(self, last: Last, *, past_object: bool = False) -> Last | None:
        """Return the end of the chain once it is nobody's; None once the object is there.

        Args:
            past_object: The object is there anyway: wait for the chain alone.
        """
        end = time.monotonic() + self._wait_s
        pause = _FIRST_WAIT_S
        while True:
            last = self._follow(last)
            if not last.is_live(_now_us()):
                return last
            if not past_object and self._place.size(self._item.key) is not None:
                return None
            if time.monotonic() > end:
                raise StorageError(
                    "somebody else is archiving the same transcript",
                    fix="Try again when that is done.",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT_S, max(self.lease_s, _FIRST_WAIT_S))

    def _follow(self, last: Last) -> Last:
        """Return the end of the chain, from a link that is known."""
        while (found := self._read(last.number + 1)) is not None:
            last = found
        return last

    def _read(self, number: int) -> Last | None:
        data = self._place.small(self._link(number))
        if data is None:
            return None
        try:
            link = decode_manifest(data)
        except IntegrityError:
            return Last(number, "", 0)  # not ours, and holding nothing
        return Last(number, link.claimant, link.claimed_until_us)

    def _link(self, number: int) -> str:
        return f"{self._name}.claim-{number:06d}"


def _now_us() -> int:
    return int(time.time() * _US)
