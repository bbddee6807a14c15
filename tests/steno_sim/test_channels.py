"""Channel rules: limits, life, topics, permissions. Time is a number here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno_sim.channels import Channel, ChannelBook, Limits, TopicsRefused, expand, judge
from steno_sim.oauth import Client, Token

CALLS = "v2.routing.queues.q1.conversations.calls"


def transcription(number: int) -> str:
    return f"v2.conversations.c{number}.transcription"


def token(client: Client | None = None, expires: float = 1e9) -> Token:
    return Token("t", client or Client(), frozenset(), expires)


def book(**limits: float) -> ChannelBook[str]:
    return ChannelBook(Limits(**limits))  # type: ignore[arg-type]  # whole numbers in tests


def test_a_client_has_so_many_channels_and_the_oldest_idle_one_goes() -> None:
    """The 21st channel evicts the oldest without a live connection."""
    channels = book(channels=3)
    mine = token()
    made = [channels.create(mine, now=n)[0] for n in range(3)]
    made[0].socket = "live"
    extra, evicted = channels.create(mine, now=4)
    assert evicted is made[1]
    assert channels.get(made[1].id, now=5) is None
    assert {c.id for c in channels.all()} == {made[0].id, made[2].id, extra.id}


def test_other_clients_have_channels_of_their_own() -> None:
    """The limit is for each client."""
    channels = book(channels=1)
    channels.create(token(Client(id="a")), now=0)
    assert channels.create(token(Client(id="b")), now=0)[1] is None
    assert len(channels) == 2


def test_a_channel_lives_its_life_and_subscribing_extends_it() -> None:
    """After its life it is gone; POST and PUT of topics begin it anew."""
    channels = book(life_s=10.0)
    mine = token()
    channel, _ = channels.create(mine, now=0)
    channels.subscribe(channel, [CALLS], mine, now=8)
    assert channels.get(channel.id, now=17.9) is channel
    assert channels.get(channel.id, now=18) is None
    assert channels.expire(18) == [channel]
    assert channels.listeners(CALLS) == []


def test_more_topics_than_the_limit_fail_and_change_nothing() -> None:
    """1000 is the limit: the call with one more is refused as a whole."""
    channels = book()
    mine = token()
    channel, _ = channels.create(mine, now=0)
    channels.subscribe(channel, [transcription(n) for n in range(1000)], mine, now=0)
    channels.subscribe(channel, [transcription(5)], mine, now=0)  # known already
    with pytest.raises(TopicsRefused) as caught:
        channels.subscribe(channel, [CALLS], mine, now=0)
    assert (caught.value.status, caught.value.code) == (400, "bad.request")
    assert len(channel.topics) == 1000


def test_adding_adds_and_putting_replaces() -> None:
    """POST keeps what was there, PUT does not, DELETE takes all."""
    channels = book()
    mine = token()
    channel, _ = channels.create(mine, now=0)
    channels.subscribe(channel, [transcription(1)], mine, now=0)
    channels.subscribe(channel, [transcription(2)], mine, now=0)
    assert channel.topics == {transcription(1), transcription(2)}
    channels.subscribe(channel, [transcription(3)], mine, now=0, replace=True)
    assert channel.topics == {transcription(3)}
    assert channels.listeners(transcription(1)) == []
    assert channels.listeners(transcription(3)) == [channel]
    channels.unsubscribe(channel)
    assert not channel.topics


def test_a_bad_topic_fails_the_call_or_is_rejected() -> None:
    """Without ignoreErrors one bad topic fails all; with it the bad one is told apart."""
    channels = book()
    mine = token()
    channel, _ = channels.create(mine, now=0)
    with pytest.raises(TopicsRefused) as caught:
        channels.subscribe(channel, [CALLS, "v2.bad"], mine, now=0)
    assert (caught.value.status, caught.value.code) == (400, "notification.invalid.topic")
    results = channels.subscribe(channel, [CALLS, "v2.bad"], mine, now=0, ignore_errors=True)
    assert [(s.id, s.state) for s in results] == [(CALLS, "Permitted"), ("v2.bad", "Rejected")]
    assert channel.topics == {CALLS}


def test_topics_need_their_permissions() -> None:
    """A client without the permission gets 403, or a Rejected that names it."""
    channels = book()
    poor = token(Client(permissions=["routing:queue:view"]))
    channel, _ = channels.create(poor, now=0)
    with pytest.raises(TopicsRefused) as caught:
        channels.subscribe(channel, [transcription(1)], poor, now=0)
    assert (caught.value.status, caught.value.code) == (403, "missing.permissions")
    found = channels.subscribe(channel, [transcription(1)], poor, now=0, ignore_errors=True)
    assert found[0].missingPermissions == ["conversation:transcription:view"]


def test_a_topic_has_at_most_200_characters() -> None:
    """A longer id is no topic."""
    assert judge(f"v2.users.{'u' * 300}.conversations", token()).state == "Rejected"


def test_combined_topics_are_several_and_count_as_one() -> None:
    """``prefix?a&b``: each part is heard, a bad part is told apart, the limit counts one."""
    assert expand("v2.users.u.x?a&b.c") == ["v2.users.u.x.a", "v2.users.u.x.b.c"]
    channels = book(topics=1)
    mine = token()
    channel, _ = channels.create(mine, now=0)
    topic = "v2.users.u1?presence&conversations&weather"
    results = channels.subscribe(channel, [topic], mine, now=0, ignore_errors=True)
    assert [(s.id, s.state) for s in results] == [
        (topic, "Permitted"),
        ("v2.users.u1.weather", "Rejected"),
    ]
    assert channels.listeners("v2.users.u1.presence") == [channel]
    assert channels.listeners("v2.users.u1.conversations") == [channel]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["create", "subscribe", "replace", "unsubscribe", "wait"]),
        st.integers(0, 5),
        st.lists(st.integers(0, 6), max_size=4),
    ),
    max_size=30,
)


@given(actions=ACTIONS)
def test_the_index_of_topics_follows_every_change(
    actions: list[tuple[str, int, list[int]]],
) -> None:
    """Who listens to a topic is always exactly the channels that have it."""
    channels = book(channels=4, topics=5, life_s=20.0)
    mine, now = token(), 0.0
    for action, which, numbers in actions:
        now += 1
        alive = [c for c in channels.all() if c.expires > now]
        topics = [transcription(n) for n in numbers]
        if action == "create":
            channels.create(mine, now=now)
        elif action == "wait":
            now += 7
            channels.expire(now)
        elif alive:
            change(channels, alive[which % len(alive)], action, topics, mine, now)
        for number in range(7):
            topic = transcription(number)
            having = {c.id for c in channels.all() if topic in c.topics}
            assert {c.id for c in channels.listeners(topic)} == having
            assert channels.has_topic(topic) == bool(having)
        assert len(channels) <= 4


def change(
    channels: ChannelBook[str],
    channel: Channel[str],
    action: str,
    topics: list[str],
    mine: Token,
    now: float,
) -> None:
    before = set(channel.topics)
    if action == "unsubscribe":
        channels.unsubscribe(channel, topics)
        assert channel.topics == before - set(topics)
        return
    replace = action == "replace"
    wanted = set(topics) if replace else before | set(topics)
    if len(wanted) > 5:
        with pytest.raises(TopicsRefused):
            channels.subscribe(channel, topics, mine, now=now, replace=replace)
        assert channel.topics == before
    else:
        channels.subscribe(channel, topics, mine, now=now, replace=replace)
        assert channel.topics == wanted
