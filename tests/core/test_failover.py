"""Choice of host: two tries, the other host, slow retries, and a calm return to the primary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.failover import PRIMARY, Dial, End, Failover, FailoverPolicy, end_of_close

POLICY = FailoverPolicy()
BACKUP = 1


def two_hosts(now: float = 0.0, policy: FailoverPolicy = POLICY) -> Failover:
    return Failover(2, policy, now=now)


def at_backup(now: float) -> Failover:
    """Return a machine whose primary went silent at ``now`` and whose backup is connected."""
    machine = two_hosts()
    machine.connected(0.0)
    machine.ended(End.SILENT, now=now, draw=0.0)
    machine.connected(now)
    return machine


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1009, 1011, 1012, 1013, 3000, 4000])
def test_closes_we_did_not_ask_for_mean_to_reconnect(code: int) -> None:
    """A live stream has no end of its own, so even a polite close is a loss."""
    assert end_of_close(code) is End.LOST
    assert end_of_close(code, asked=True) is End.ASKED


@pytest.mark.parametrize("code", [1008, 4401, 4403])
def test_policy_closes_mean_refused(code: int) -> None:
    """1008 and the private forms of 401 and 403 are about who we are."""
    assert end_of_close(code) is End.REFUSED
    assert end_of_close(code, asked=True) is End.ASKED


def test_primary_is_dialled_first_and_at_once() -> None:
    """The first dial goes to host 0, now."""
    assert two_hosts(5.0).next_dial() == Dial(PRIMARY, 5.0)


def test_two_tries_then_the_other_host_within_five_seconds() -> None:
    """A killed primary costs two quick tries; the backup is dialled at once after them."""
    for draw in (0.0, 0.999):
        machine = two_hosts()
        machine.connected(0.0)
        now = 100.0
        machine.ended(End.LOST, now=now, draw=draw)
        for _ in range(2):
            dial = machine.next_dial()
            assert dial.host == PRIMARY
            assert dial.at >= now + 1.0
            now = dial.at
            machine.ended(End.LOST, now=now, draw=draw)
        assert machine.next_dial() == Dial(BACKUP, now)
        assert now < 104.0


def test_a_silent_host_is_left_at_once() -> None:
    """No pong, or a dial that times out: the same host would cost the same time again."""
    machine = two_hosts()
    machine.connected(0.0)
    machine.ended(End.SILENT, now=60.0, draw=0.5)
    assert machine.next_dial() == Dial(BACKUP, 60.0)


def test_a_host_that_accepts_and_drops_is_left_too() -> None:
    """Connections that do not last count as tries, so a flapping host cannot hold us."""
    machine = two_hosts()
    machine.connected(0.0)
    machine.ended(End.LOST, now=5.0, draw=0.0)
    assert machine.next_dial().host == PRIMARY
    machine.connected(6.0)
    machine.ended(End.LOST, now=11.0, draw=0.0)
    assert machine.next_dial().host == BACKUP


def test_a_good_connection_wipes_the_slate() -> None:
    """After a connection that lasted, an outage begins again with two tries and short waits."""
    machine = two_hosts()
    for _ in range(7):
        machine.ended(End.LOST, now=0.0, draw=0.0)
    machine.connected(50.0)
    machine.ended(End.LOST, now=1000.0, draw=0.0)
    assert machine.next_dial().at == 1001.0


def test_both_hosts_down_are_dialled_for_ever_with_a_capped_wait() -> None:
    """Hosts alternate, waits grow to 30 s and stay there, and nothing ever gives up."""
    machine = two_hosts()
    now, waits, hosts = 0.0, [], []
    for _ in range(500):
        dial = machine.next_dial()
        waits.append(dial.at - now)
        hosts.append(dial.host)
        now = dial.at
        machine.ended(End.LOST, now=now, draw=0.0)
    assert max(waits) == 30.0
    assert waits[-1] == 30.0
    assert hosts[:6] == [0, 0, 1, 1, 0, 0]


def test_one_host_is_all_there_is() -> None:
    """Without a backup every end leads back to the primary, after its wait."""
    machine = Failover(1, POLICY, now=0.0)
    for end in (End.LOST, End.SILENT, End.LOST, End.SILENT):
        machine.ended(end, now=0.0, draw=0.0)
        assert machine.next_dial().host == PRIMARY
    assert machine.next_dial().at == 8.0


def test_a_refusal_is_retried_slowly_and_slower() -> None:
    """401, 403 and policy closes: a minute, then doubling to a quarter of an hour."""
    machine = Failover(1, POLICY, now=0.0)
    now, waits = 0.0, []
    for _ in range(6):
        machine.ended(End.REFUSED, now=now, draw=0.0)
        waits.append(machine.next_dial().at - now)
        now = machine.next_dial().at
    assert waits == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]


def test_a_refusal_at_one_host_leads_to_the_other_and_no_further() -> None:
    """The other host may accept us; when it refuses as well, both are left alone."""
    machine = two_hosts()
    machine.ended(End.REFUSED, now=0.0, draw=0.0)
    assert machine.next_dial() == Dial(BACKUP, 0.0)
    machine.ended(End.REFUSED, now=0.0, draw=0.0)
    assert machine.next_dial().at >= 60.0


def test_a_wish_to_wait_is_granted() -> None:
    """429 with Retry-After: not before that, even when our own wait is shorter."""
    machine = Failover(1, POLICY, now=0.0)
    machine.ended(End.THROTTLED, now=0.0, draw=0.0, retry_after_s=20.0)
    assert machine.next_dial() == Dial(PRIMARY, 20.0)


STEPPED = FailoverPolicy(
    backoff_first_s=2.0, backoff_max_s=30.0, jitter=0.0, jitter_s=0.5, throttled_factor=2.0
)


def waits_of(ends: list[End], *, draw: float, policy: FailoverPolicy = STEPPED) -> list[float]:
    """Return the wait after each end, each reported when its dial was due."""
    machine, now, waits = Failover(1, policy, now=0.0), 0.0, []
    for end in ends:
        machine.ended(end, now=now, draw=draw)
        at = machine.next_dial().at
        waits.append(round(at - now, 9))
        now = at
    return waits


@pytest.mark.parametrize(
    ("ends", "waits"),
    [
        ([End.LOST] * 6, [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        ([End.THROTTLED] * 6, [4.0, 8.0, 16.0, 30.0, 30.0, 30.0]),
        ([End.LOST, End.THROTTLED, End.LOST, End.SILENT], [2.0, 8.0, 8.0, 16.0]),
    ],
)
def test_waits_double_to_their_limit_and_once_more_when_throttled(
    ends: list[End], waits: list[float]
) -> None:
    """2 s to 30 s; too many requests cost twice the wait, and none costs more than the limit."""
    assert waits_of(ends, draw=0.0) == waits


def test_jitter_in_seconds_is_added_to_every_wait() -> None:
    """Half a second at most, whatever the wait, the longest included; refusals too."""
    assert waits_of([End.LOST] * 6, draw=0.5) == [2.25, 4.25, 8.25, 16.25, 30.25, 30.25]
    assert waits_of([End.THROTTLED], draw=0.999) == [4.4995]
    assert waits_of([End.REFUSED], draw=0.5) == [60.25]


def test_a_longer_wish_is_granted_and_a_shorter_one_is_not() -> None:
    """Retry-After counts where it is more than our own wait; those told the same spread out."""
    for wish_s, draw, wait_s in ((10.0, 0.0, 10.0), (10.0, 0.5, 10.25), (1.0, 0.0, 4.0)):
        machine = Failover(1, STEPPED, now=0.0)
        machine.ended(End.THROTTLED, now=0.0, draw=draw, retry_after_s=wish_s)
        assert machine.next_dial().at == wait_s


def test_the_primary_is_probed_only_from_the_backup() -> None:
    """There is nothing to probe while unconnected or at the primary."""
    machine = two_hosts()
    assert machine.probe_at() is None
    machine.connected(0.0)
    assert machine.probe_at() is None
    machine = at_backup(100.0)
    assert machine.probe_at() == 115.0


def test_failed_probes_come_ever_more_rarely() -> None:
    """A primary that does not hold is asked after 15 s, 30 s, and so on up to 5 minutes."""
    machine = at_backup(0.0)
    now, waits = 0.0, []
    for _ in range(7):
        at = machine.probe_at()
        assert at is not None
        waits.append(at - now)
        now = at
        machine.probe_failed(End.LOST, now=now, draw=0.0)
    assert waits == [15.0, 30.0, 60.0, 120.0, 240.0, 300.0, 300.0]


def test_a_probe_that_is_refused_keeps_its_distance() -> None:
    """A primary that refuses us is not probed within the minute."""
    machine = at_backup(0.0)
    machine.probe_failed(End.REFUSED, now=20.0, draw=0.0)
    assert machine.probe_at() == 80.0


def test_the_hold_doubles_when_the_return_was_too_early() -> None:
    """A primary that fails soon after a return must hold twice as long before the next one."""
    machine = at_backup(0.0)
    assert machine.hold_s == 60.0
    machine.promoted(100.0)
    assert machine.host == PRIMARY
    machine.ended(End.SILENT, now=150.0, draw=0.0)
    machine.connected(150.0)
    assert machine.hold_s == 120.0
    machine.promoted(300.0)
    machine.ended(End.SILENT, now=5000.0, draw=0.0)
    assert machine.hold_s == 60.0


@given(
    period=st.floats(5, 30),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=8, max_size=8),
)
def test_a_flapping_primary_does_not_make_us_oscillate(period: float, draws: list[float]) -> None:
    """A primary up and down every 5 to 30 s for an hour costs one switch: it never holds."""
    machine = two_hosts()
    machine.connected(0.0)
    now, switches, connected, turn = 0.0, 0, True, 0

    def up(at: float) -> bool:
        return int(at // period) % 2 == 0

    while now < 3600.0:
        draw = draws[turn % len(draws)]
        turn += 1
        before = machine.host
        if connected and machine.host == PRIMARY:
            now = (now // period + 1) * period  # it goes down
            machine.ended(End.LOST, now=now, draw=draw)
            connected = False
        elif connected:
            at = machine.probe_at()
            assert at is not None
            now = at
            if up(now):
                now = (now // period + 1) * period
            assert now - at < machine.hold_s
            machine.probe_failed(End.LOST, now=now, draw=draw)
        else:
            now = max(now, machine.next_dial().at)
            if machine.host != PRIMARY or up(now):
                machine.connected(now)
                connected = True
            else:
                machine.ended(End.LOST, now=now, draw=draw)
        switches += machine.host != before
    assert switches <= 1


ENDS = st.sampled_from([end for end in End if end is not End.ASKED])


@given(
    hosts=st.integers(1, 3),
    steps=st.lists(
        st.tuples(
            ENDS,
            st.booleans(),
            st.floats(0, 400),
            st.floats(0, 1, exclude_max=True),
            st.none() | st.floats(0, 300),
        ),
        max_size=60,
    ),
)
def test_any_history_leads_to_a_next_dial(
    hosts: int, steps: list[tuple[End, bool, float, float, float | None]]
) -> None:
    """Whatever happened, there is a next dial, not in the past, and not beyond the limits."""
    machine = Failover(hosts, POLICY, now=0.0)
    now = 0.0
    for end, connects, lasts, draw, wish in steps:
        dial = machine.next_dial()
        assert 0 <= dial.host < hosts
        now = max(now, dial.at)
        if connects:
            machine.connected(now)
            now += lasts
        machine.ended(end, now=now, draw=draw, retry_after_s=wish)
        following = machine.next_dial()
        assert following.at >= now
        assert following.at - now <= POLICY.refused_max_s * (1 + POLICY.jitter)
