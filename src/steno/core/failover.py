"""Which host to dial, and when: primary, backup, and back without thrashing.

``Failover`` holds the choice for one connection. The caller dials what ``next_dial`` says and
reports what became of it; it waits, dials and draws random numbers itself.

    dialling --connected--> up --ended--> dialling           (same host, after a backoff)
    dialling --ended, tries used up or the host silent--> dialling the other host
    up at the backup --primary held for ``hold_s``--> up at the primary   (``promoted``)

- A connection that did not last ``stable_s`` counts as a failed try, or a host that accepts and
  drops would hold us for ever.
- The first change of host in an outage is immediate; later ones wait like any other try, and
  the wait grows to ``backoff_max_s``. We never give up.
- A host that refuses our credentials is left alone for a minute, then longer: dialling faster
  changes nothing but the platform's opinion of us.
- We return to the primary only after a second, idle connection to it has held for ``hold_s``.
  When the primary fails again soon after a return, ``hold_s`` doubles: a flapping region costs
  at most one switch in a hold-down.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PRIMARY = 0

REFUSING_CODES = frozenset({1008, 4401, 4403})
"""Close codes that mean "not you": policy violation, and the private forms of 401 and 403."""


class End(StrEnum):
    """Why a try or a connection is over."""

    ASKED = "asked"
    """We closed it."""
    LOST = "lost"
    """Closed by the peer or the network, or not made; the host answers, or refuses quickly."""
    SILENT = "silent"
    """No answer in time: a ping or a dial. Trying the same host again costs as long again."""
    REFUSED = "refused"
    """Credentials or permissions."""
    THROTTLED = "throttled"
    """Too many requests."""


def end_of_close(code: int, *, asked: bool = False) -> End:
    """Return what a close code means. Every code we did not ask for means to reconnect, 1000
    and 1001 included: the stream has no end of its own.
    """
    if asked:
        return End.ASKED
    return End.REFUSED if code in REFUSING_CODES else End.LOST


@dataclass(frozen=True, slots=True)
class FailoverPolicy:
    """Times in seconds; the first five are settings, the rest follow from them well enough."""

    backoff_first_s: float = 1.0
    backoff_max_s: float = 30.0
    tries: int = 2
    """Failed tries at one host before the other is dialled."""
    hold_s: float = 60.0
    """The primary must have held an idle connection this long before we return."""
    stable_s: float = 10.0
    """A connection that lasted this long was a good one."""
    probe_first_s: float = 15.0
    probe_max_s: float = 300.0
    hold_max_s: float = 900.0
    refused_first_s: float = 60.0
    refused_max_s: float = 900.0
    jitter: float = 0.25
    """Share of a wait that may be added to it."""
    jitter_s: float = 0.0
    """Seconds that may be added to it besides, a peer's wish to wait included."""
    throttled_factor: float = 1.0
    """How much longer than another one the wait after too many requests is, up to the longest."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial host number ``host`` at the monotonic time ``at``."""

    host: int
    at: float


class Failover:
    """Chooses the host of one connection. ``now`` is monotonic seconds, ``draw`` in [0, 1).

    Args:
        hosts: How many there are; number 0 is the primary.
        policy: Waits and limits.
        now: The time of the first dial.
    """

    def __init__(self, hosts: int, policy: FailoverPolicy, *, now: float) -> None:
        if hosts < 1:
            raise ValueError("at least one host is needed")
        self._hosts = hosts
        self._policy = policy
        self._host = PRIMARY
        self._at = now
        self._up_since: float | None = None
        self._tries = 0
        self._changed = False
        self._backoff_s = policy.backoff_first_s
        self._not_before = [now] * hosts
        self._refused_s = [policy.refused_first_s] * hosts
        self._hold_s = policy.hold_s
        self._probe_s = policy.probe_first_s
        self._probe_at = now
        self._returned_at: float | None = None

    @property
    def host(self) -> int:
        """Host in use, or to be dialled next."""
        return self._host

    @property
    def hold_s(self) -> float:
        """How long an idle connection to the primary must hold before ``promoted``."""
        return self._hold_s

    def next_dial(self) -> Dial:
        """Return the next dial; of use while not connected."""
        return Dial(self._host, max(self._at, self._not_before[self._host]))

    def connected(self, now: float) -> None:
        """Take note that the dial led to an open connection."""
        self._up_since = now
        self._probe_s = self._policy.probe_first_s
        self._probe_at = now + self._probe_s

    def ended(
        self, end: End, *, now: float, draw: float, retry_after_s: float | None = None
    ) -> None:
        """Take note that the dial failed, or that the connection is over.

        Args:
            retry_after_s: The peer's wish, already bounded.
        """
        lasted_s = -1.0 if self._up_since is None else now - self._up_since
        if lasted_s >= self._policy.stable_s:
            self._forgive()
        elif end is not End.ASKED:
            self._tries += 1
        self._up_since = None
        if end is End.ASKED:
            self._at = now
            return
        wait_s = self._next_wait(end, draw)
        self._at = now + wait_s
        if retry_after_s is not None:
            wish_s = retry_after_s + self._policy.jitter_s * draw
            self._not_before[self._host] = now + max(wish_s, wait_s)
        if end is End.REFUSED:
            self._shut_out(now, draw)
        if end in (End.SILENT, End.REFUSED) or self._tries >= self._policy.tries:
            self._change_host(now)

    def probe_at(self) -> float | None:
        """Return when to dial the primary for an idle connection; None while there is no need."""
        if self._up_since is None or self._host == PRIMARY:
            return None
        return max(self._probe_at, self._not_before[PRIMARY])

    def probe_failed(self, end: End, *, now: float, draw: float) -> None:
        """Take note that the primary did not hold; the next probe comes later."""
        if end is End.REFUSED:
            self._not_before[PRIMARY] = now + self._next_refused(PRIMARY, draw)
        self._probe_s = min(self._policy.probe_max_s, self._probe_s * 2)
        self._probe_at = now + self._jittered(self._probe_s, draw)

    def promoted(self, now: float) -> None:
        """Take note that the idle connection to the primary is the one in use from now on."""
        self._host = PRIMARY
        self._up_since = now
        self._returned_at = now
        self._tries = 0

    def _forgive(self) -> None:
        self._tries = 0
        self._changed = False
        self._backoff_s = self._policy.backoff_first_s
        self._refused_s[self._host] = self._policy.refused_first_s

    def _next_wait(self, end: End, draw: float) -> float:
        policy = self._policy
        factor = policy.throttled_factor if end is End.THROTTLED else 1.0
        wait_s = self._jittered(min(policy.backoff_max_s, self._backoff_s * factor), draw)
        self._backoff_s = min(policy.backoff_max_s, self._backoff_s * 2)
        return wait_s

    def _next_refused(self, host: int, draw: float) -> float:
        wait_s = self._jittered(self._refused_s[host], draw)
        self._refused_s[host] = min(self._policy.refused_max_s, self._refused_s[host] * 2)
        return wait_s

    def _jittered(self, wait_s: float, draw: float) -> float:
        return wait_s * (1 + self._policy.jitter * draw) + self._policy.jitter_s * draw

    def _shut_out(self, now: float, draw: float) -> None:
        self._not_before[self._host] = now + self._next_refused(self._host, draw)

    def _change_host(self, now: float) -> None:
        """Go to the host that may be dialled first; the current one only if no other may."""
        others = [host for host in range(self._hosts) if host != self._host]
        if not others:
            return
        best = min(others, key=lambda host: (self._not_before[host], host))
        if self._not_before[best] > max(now, self._not_before[self._host]):
            return
        if self._host == PRIMARY:
            self._lengthen_hold(now)
        self._host = best
        self._tries = 0
        if not self._changed:
            self._changed = True
            self._at = now

    def _lengthen_hold(self, now: float) -> None:
        policy = self._policy
        if self._returned_at is not None and now - self._returned_at < 5 * self._hold_s:
            self._hold_s = min(policy.hold_max_s, self._hold_s * 2)
        else:
            self._hold_s = policy.hold_s
