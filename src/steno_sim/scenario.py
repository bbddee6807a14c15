"""Scenario files: what is said, by whom, when, and with which blemishes.

A scenario is one TOML file (JSON with the same keys works too). It holds conversations,
or a load description, or names no conversation at all (an idle organisation). Unknown keys
are an error. The same file feeds both wire families: the transcript stream gets fragments,
the notification topics get utterances, the event socket gets segments.

Top level::

    title = "Two calls"          # for people
    seed = 0                     # default seed; --seed and Simulator(seed=) win
    stagger_s = 0.4              # start of conversation n: n times this, unless start_s is given
    lead_in_s = 0.0              # time between the announcement of a call and its first words
    partials_on_topic = true     # notification topics carry partials too, not only finals
    reflect_config = false       # after a config PUT the stream labels fragments with its language

    [style]                      # how speech is cut into fragments; every key has this default
    words_per_s = 2.6            # speed of speech
    piece_words = [2, 5]         # words that a fragment adds: least, most
    gap_s = 0.6                  # silence before a turn
    final_delay_s = 0.25         # from the last word to the final
    confidence = 0.92            # mean of finals; partials lie 0.05 lower
    mode = "growing"             # "growing": partials repeat the utterance from its start;
                                 # "increments": each fragment holds only new words

    [noise]                      # shares of the fragments, 0..1, all 0 by default
    duplicates = 0.05            # sent twice
    reorder = 0.05               # a partial changes places with the next partial of its utterance
    late = 0.02                  # growing only: the last partial comes again after its final

    [diarisation]                # blemishes of speaker segments; shares are 0..1, 0 by default
    labels = "numbers"           # "numbers": speaker_0, speaker_1 …; "roles": agent, customer,
                                 # agent-2 …; both local to the conversation
    no_speaker = 0.05            # segments without a speaker (topics: channel UNKNOWN)
    faint = 0.05                 # finals below 0.5
    unsure = 0.05                # finals from 0.5 to 0.85
    overlaps = 0.1               # turns that begin before the one before has ended
    never_final = 0.02           # only partials come
    corrected = 0.05             # the final comes again, with one more word and more confidence
    late = 0.05                  # the final comes late_s later, after what was said next
    late_s = 3.0
    joined = 0.1                 # the update waits and shares an event with the next one
    undiarised = 0.0             # conversations that name no speaker (topics: channel BOTH)
    wander_s = 0.0               # bounds of partials are off by up to so much

    [[faults]]                   # optional, any number: see steno_sim.faults
    kind = "drop"
    after = 100
    code = 1012

    [[conversations]]
    id = "…"                     # optional UUID; else made from title, seed and position
    start_s = 0.0                # optional
    language = "en-US"           # BCP-47, of every turn that names no other
    queue = "support"            # a name, or a UUID: the queue that announces it
    agent = "anna"               # a name, or a UUID: the agent's user id
    turns = [
      { who = "agent", say = "Good morning. How can I help you?" },
      { who = "customer", say = ["My card is {card:4111 1111 1111 1111}.", "Is that enough?"] },
      { who = "customer", say = "Prefiero hablar en español.", language = "es-ES" },
    ]

A turn is one utterance. ``say`` is a sentence, or a list of sentences spoken in one breath;
write one list item for each sentence, since the ground truth counts them. Further keys of a
turn: ``language``, ``mode``, ``after_s`` (silence before it; negative talks over the turn
before), ``confidence``, ``leg`` (1, 2, …: the communication it belongs to, as after some
transfers), ``pieces`` (cut exactly there: ``say`` must then be absent), ``agent`` (the call
was transferred to this agent before the turn; warm when the turn overlaps the one before),
``voice`` (a name for a further person at the same end) and ``blemishes`` (a list of
no_speaker, faint, unsure, never_final, corrected, late, joined: exactly these, in place of
the shares). A turn of ``who = "ivr"`` is a menu's prompt; the queue and the agent follow the
last one. A conversation's own ``diarised = false`` or ``true`` overrides the share.

Planted personal data stand in braces, ``{kind:words}``, kind one of ``phone card email ssn
iban`` or any word of lower-case letters. ``{phone#1:four one five}`` … ``{phone#1:five
five}`` are parts of one secret, in whichever fragments or turns they stand. Braces never
reach the wire; the truth lists what they held.

A load scenario has ``[load]`` in place of conversations::

    [load]
    conversations = 50
    fragments = 200              # of each conversation
    rate = 200.0                 # fragments/s over all conversations (0: flat out)
    final_every = 4              # every nth fragment of a conversation is final
    pii_every = 10               # every nth holds a phone number or an e-mail address (0: none)
    switch_every = 0             # every nth utterance is Spanish, at confidence 0.95 (0: never)
    language = "en-US"

Each fragment of a load starts with its mark, ``c7f12``: conversation 7, fragment 12. Marks
survive redaction, so a consumer's file tells what was lost, repeated or misattributed.
"""

from __future__ import annotations

import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from steno_sim.faults import Fault

Mode = Literal["growing", "increments"]
Who = Literal["customer", "agent", "ivr"]
BlemishKind = Literal["no_speaker", "faint", "unsure", "never_final", "corrected", "late", "joined"]

SHARES = (
    "no_speaker",
    "faint",
    "unsure",
    "overlaps",
    "never_final",
    "corrected",
    "late",
    "joined",
    "undiarised",
)
_NAME = re.compile(r"[a-z][a-z0-9_-]*\Z")


class ScenarioError(ValueError):
    """A scenario cannot be read; the message names the file and the place."""


class Style(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How speech is cut into fragments; see the module's text for units."""

    words_per_s: float = 2.6
    piece_words: tuple[int, int] = (2, 5)
    gap_s: float = 0.6
    final_delay_s: float = 0.25
    confidence: float = 0.92
    mode: Mode = "growing"


class Noise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares of fragments that are blemished on the wire."""

    duplicates: float = 0.0
    reorder: float = 0.0
    late: float = 0.0


class Diarisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How speakers are labelled, and shares of segments that are blemished."""

    labels: Literal["numbers", "roles"] = "numbers"
    no_speaker: float = 0.0
    faint: float = 0.0
    unsure: float = 0.0
    overlaps: float = 0.0
    never_final: float = 0.0
    corrected: float = 0.0
    late: float = 0.0
    late_s: float = 3.0
    joined: float = 0.0
    undiarised: float = 0.0
    wander_s: float = 0.0


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One utterance of one participant."""

    who: Who
    say: str | list[str] = ""
    pieces: list[str] = []
    language: str = ""
    mode: Mode | None = None
    after_s: float | None = None
    confidence: float | None = None
    leg: int = 1
    agent: str = ""
    voice: str = ""
    blemishes: list[BlemishKind] | None = None

    @property
    def sentences(self) -> list[str]:
        """The sentences as written, braces included."""
        if self.pieces:
            return [" ".join(self.pieces)]
        return [self.say] if isinstance(self.say, str) else self.say


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One conversation."""

    turns: list[Turn]
    id: str = ""
    start_s: float | None = None
    language: str = "en-US"
    queue: str = "support"
    agent: str = "agent"
    diarised: bool | None = None


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A generated load of marked fragments."""

    conversations: int = 50
    fragments: int = 200
    rate: float = 200.0
    final_every: int = 4
    pii_every: int = 10
    switch_every: int = 0
    language: str = "en-US"
    queue: str = "load"


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole scenario file, checked."""

    title: str = ""
    seed: int = 0
    stagger_s: float = 0.4
    lead_in_s: float = 0.0
    partials_on_topic: bool = True
    reflect_config: bool = False
    style: Style = Style()
    noise: Noise = Noise()
    diarisation: Diarisation = Diarisation()
    faults: list[Fault] = []
    conversations: list[Call] = []
    load: Load | None = None


def decode(data: bytes, *, form: Literal["toml", "json"], source: str = "") -> Scenario:
    """Give the checked scenario of a file's bytes.

    Args:
        data: UTF-8 text of the file.
        form: Its notation.
        source: Name for error messages.

    Raises:
        ScenarioError: Not TOML or JSON, an unknown key, a wrong type, or a rule broken.
    """
    try:
        text = data.decode()
        raw = tomllib.loads(text) if form == "toml" else json.loads(text)
        scenario = msgspec.convert(raw, Scenario)
    except (ValueError, msgspec.ValidationError) as exc:
        raise ScenarioError(f"{source or 'scenario'}: {exc}") from None
    _check(scenario, source or "scenario")
    return scenario


def names() -> list[str]:
    """Give the names of the scenarios that come with the package."""
    folder = resources.files("steno_sim") / "scenarios"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load(source: str | Path) -> Scenario:
    """Give the scenario of a packaged name (``demo``) or of a file.

    Raises:
        ScenarioError: No such scenario, or it is faulty.
    """
    if isinstance(source, str) and _NAME.match(source):
        entry = resources.files("steno_sim") / "scenarios" / f"{source}.toml"
        if not entry.is_file():
            raise ScenarioError(f"no scenario {source!r}; there are {', '.join(names())}")
        return decode(entry.read_bytes(), form="toml", source=source)
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ScenarioError(f"{path}: {exc.strerror}") from None
    return decode(data, form="json" if path.suffix == ".json" else "toml", source=str(path))


def _check(scenario: Scenario, source: str) -> None:
    least, most = scenario.style.piece_words
    if not 1 <= least <= most:
        raise ScenarioError(f"{source}: style.piece_words must be [least, most] from 1 up")
    if scenario.style.words_per_s <= 0:
        raise ScenarioError(f"{source}: style.words_per_s must be above 0")
    for name in ("duplicates", "reorder", "late"):
        if not 0 <= getattr(scenario.noise, name) <= 1:
            raise ScenarioError(f"{source}: noise.{name} must lie in 0..1")
    _check_diarisation(scenario.diarisation, source)
    if scenario.load is not None and scenario.conversations:
        raise ScenarioError(f"{source}: a scenario has conversations or a load, not both")
    if scenario.load is not None:
        _check_load(scenario.load, source)
    for number, call in enumerate(scenario.conversations):
        for place, turn in enumerate(call.turns):
            where = f"{source}: conversation {number}, turn {place}"
            if bool(turn.say) == bool(turn.pieces):
                raise ScenarioError(f"{where}: give say or pieces, one of them")
            if not all(s.strip() for s in [*turn.sentences, *turn.pieces]):
                raise ScenarioError(f"{where}: an empty text")
            if turn.who == "ivr" and any(t.who == "agent" for t in call.turns[:place]):
                raise ScenarioError(f"{where}: a menu speaks before any agent")


def _check_diarisation(spec: Diarisation, source: str) -> None:
    for name in SHARES:
        if not 0 <= getattr(spec, name) <= 1:
            raise ScenarioError(f"{source}: diarisation.{name} must lie in 0..1")
    if spec.late_s < 0 or spec.wander_s < 0:
        raise ScenarioError(f"{source}: diarisation.late_s and wander_s start from 0")


def _check_load(spec: Load, source: str) -> None:
    if spec.conversations < 1 or spec.fragments < 1 or spec.final_every < 1:
        raise ScenarioError(f"{source}: load.conversations, fragments and final_every start from 1")
    if spec.rate < 0 or spec.pii_every < 0 or spec.switch_every < 0:
        raise ScenarioError(f"{source}: load.rate, pii_every and switch_every start from 0")
