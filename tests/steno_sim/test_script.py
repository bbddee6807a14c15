"""The schedule is a pure function, and the truth follows from it."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from steno_sim.load_script import LoadScript
from steno_sim.pieces import Piece, Script, What, named_id, strip_secrets
from steno_sim.scenario import Call, Load, Noise, Scenario, Style, Turn
from steno_sim.script import build

WORDS = st.lists(st.sampled_from(["one", "two", "three", "four"]), min_size=1, max_size=14)
TURNS = st.builds(
    Turn,
    who=st.sampled_from(["agent", "customer"]),
    say=WORDS.map(lambda w: " ".join(w) + "."),
    mode=st.sampled_from(["growing", "increments", None]),
    after_s=st.sampled_from([None, 0.0, 0.2, -0.3]),
)
NOISE = st.builds(
    Noise,
    duplicates=st.sampled_from([0.0, 0.5, 1.0]),
    reorder=st.sampled_from([0.0, 0.5, 1.0]),
    late=st.sampled_from([0.0, 1.0]),
)
SCENARIOS = st.builds(
    Scenario,
    conversations=st.lists(
        st.builds(Call, turns=st.lists(TURNS, min_size=1, max_size=4)), min_size=1, max_size=3
    ),
    noise=NOISE,
    style=st.builds(Style, piece_words=st.sampled_from([(1, 1), (2, 5), (3, 3)])),
    stagger_s=st.sampled_from([0.0, 1.5]),
)


def fragments(script: Script) -> list[Piece]:
    return [p for p in script.pieces() if p.what is What.FRAGMENT]


@given(scenario=SCENARIOS, seed=st.integers(0, 50))
def test_the_same_seed_gives_the_same_schedule(scenario: Scenario, seed: int) -> None:
    """Scenario and seed decide everything."""
    one, two = build(scenario, seed=seed), build(scenario, seed=seed)
    assert list(one.pieces()) == list(two.pieces())
    assert one.plans == two.plans


@given(scenario=SCENARIOS)
def test_what_falls_due_is_what_was_said(scenario: Scenario) -> None:
    """Growing: the final is the text. Increments: they join to it. In order of time."""
    script = build(scenario)
    pieces = list(script.pieces())
    assert [p.due_us for p in pieces] == sorted(p.due_us for p in pieces)
    by_key: dict[int, dict[int, Piece]] = defaultdict(dict)
    for piece in pieces:
        if piece.what is What.FRAGMENT and not piece.copy:
            assert piece.key not in by_key[piece.conversation]
            by_key[piece.conversation][piece.key] = piece
    for plan in script.plans:
        keys = by_key[plan.number]
        assert sorted(keys) == list(range(plan.fragments))
        for said in script.utterances(plan.number):
            spoken = [keys[k] for k in range(said.first, said.last + 1)]
            assert [p.final for p in spoken] == [False] * (len(spoken) - 1) + [True]
            assert script.whole(spoken[-1]) == said.text
            joined = " ".join(p.text for p in spoken)
            assert (spoken[-1].text if said.mode == "growing" else joined) == said.text
            assert [p.stamp_us for p in spoken] == sorted(p.stamp_us for p in spoken)
            assert " ".join(said.sentences) == said.text


@given(scenario=SCENARIOS)
def test_nothing_overtakes_a_final(scenario: Scenario) -> None:
    """Only copies of growing partials come after their utterance's final."""
    script = build(scenario)
    done: dict[tuple[int, int], int] = {}
    for piece in fragments(script):
        place = (piece.conversation, piece.utterance)
        if piece.final:
            done[place] = piece.key
        elif place in done:
            assert piece.copy
            assert script.utterance(piece).mode == "growing"


def test_noise_is_what_was_asked_for() -> None:
    """Duplicates, swaps and stragglers appear, and only when asked for."""
    turns = [Turn(who="agent", say="a b c d e f g h i j k l m n o p.")] * 4
    calls = [Call(turns=turns)]

    def run(noise: Noise) -> list[Piece]:
        return fragments(build(Scenario(conversations=calls, noise=noise)))

    clean = run(Noise())
    assert not any(p.copy for p in clean)
    assert [p.key for p in clean] == sorted(p.key for p in clean)
    assert len(run(Noise(duplicates=1.0))) == 2 * len(clean)
    assert len(run(Noise(late=1.0))) == len(clean) + 4
    moved = run(Noise(reorder=1.0))
    assert [p.key for p in moved] != sorted(p.key for p in moved)
    assert all(p.due_us != p.stamp_us for p in moved if p.key == moved[0].key)


def test_calls_repeat_under_ids_of_their_own() -> None:
    """More conversations than written: the script repeats, ids do not."""
    call = Call(id="7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01", turns=[Turn(who="agent", say="Hi.")])
    script = build(Scenario(conversations=[call]), conversations=5)
    assert len({p.id for p in script.plans}) == 5
    assert script.plans[0].id == call.id
    assert len({p.communications[0] for p in script.plans}) == 5


def test_a_long_call_says_that_it_goes_on_every_five_minutes() -> None:
    """A session's status comes at its start, each five minutes, and at its end."""
    turns = [Turn(who="agent", say="Hello there.", after_s=200.0)] * 4
    pieces = build(Scenario(conversations=[Call(turns=turns)])).pieces()
    notices = [p.what.name for p in pieces if p.what is not What.FRAGMENT]
    assert notices == ["STARTED", "ANSWERED", "SESSION", "SESSION", "SESSION",
                       "SESSION_ENDED", "ENDED"]  # fmt: skip


def test_a_transfer_begins_a_communication_of_its_own() -> None:
    """Each leg has its id and its end."""
    turns = [Turn(who="agent", say="Hold on."), Turn(who="agent", say="Here I am.", leg=2)]
    script = build(Scenario(conversations=[Call(turns=turns)]))
    assert len(set(script.plans[0].communications)) == 2
    ended = [p.leg for p in script.pieces() if p.what is What.SESSION_ENDED]
    assert ended == [1, 2]


def test_braces_become_secrets_and_leave_the_text() -> None:
    """Planted data are listed, parts of one secret share a group."""
    text, secrets = strip_secrets(
        "Ring {phone#1:four one} or {phone#1:five} or {email:a@b.c}.", "0/"
    )
    assert text == "Ring four one or five or a@b.c."
    assert [(s.kind, s.text, s.group) for s in secrets] == [
        ("phone", "four one", "0/phone#1"),
        ("phone", "five", "0/phone#1"),
        ("email", "a@b.c", ""),
    ]


def test_names_and_uuids_both_name_queues() -> None:
    """A UUID stands for itself, a name for one that is always the same."""
    given_id = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
    assert named_id("queue", given_id) == given_id
    assert named_id("queue", "support") == named_id("queue", "support")
    assert named_id("queue", "support") != named_id("user", "support")


@given(
    conversations=st.integers(1, 7),
    count=st.integers(1, 23),
    every=st.integers(1, 6),
    pii=st.sampled_from([0, 1, 3, 10]),
    switch=st.sampled_from([0, 2]),
    rate=st.sampled_from([0.0, 100.0]),
)
def test_a_load_counts_by_its_marks(
    conversations: int,
    count: int,
    every: int,
    pii: int,
    switch: int,
    rate: float,
) -> None:
    """Every fragment starts with its mark, and utterances hold each of them once."""
    spec = Load(
        conversations=conversations,
        fragments=count,
        final_every=every,
        pii_every=pii,
        switch_every=switch,
        rate=rate,
    )
    script = build(Scenario(load=spec), seed=3)
    assert isinstance(script, LoadScript)
    for piece in fragments(script):
        said = script.utterance(piece)
        assert piece.text.split()[0] == f"c{piece.conversation}f{piece.key}"
        assert said.first <= piece.key <= said.last
        assert piece.final == (piece.key == said.last)
        assert script.voice(piece) == (said.participant, said.language)
        if piece.final:
            assert script.whole(piece) == said.text
    for plan in script.plans:
        assert plan.id.endswith(f"{plan.number:012d}")
        spans = [k for u in script.utterances(plan.number) for k in range(u.first, u.last + 1)]
        assert spans == list(range(count))


@given(rate=st.sampled_from([10.0, 250.0]))
def test_a_load_falls_due_at_its_rate(rate: float) -> None:
    """The nth fragment over all conversations is due n / rate seconds after the start."""
    script = build(Scenario(load=Load(conversations=4, fragments=5, rate=rate)))
    due = [p.due_us for p in fragments(script)]
    assert due == [round(n * 1e6 / rate) for n in range(20)]
