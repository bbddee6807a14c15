"""Comparing what a recogniser's transcripts say with what the spoken calls said.

A recogniser errs, so words are aligned and counted, not matched: the word error rate is edits
over words said. A mask (``[REDACTED]``, ``[CARD]``) stands for the words of a secret at no cost;
over other words it costs them. Whether a secret leaked does not depend on the alignment: its
digits are looked for in the digits that the texts show, however they are written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

import msgspec

from steno_sim.calls.voices import SpokenSecret, SpokenTurn
from steno_sim.score import MASK, Heard

SECRET_KINDS = ("phone", "card")
"""What must not be readable; an order number may be."""
_PART_DIGITS = 6

_TOKEN = re.compile(r"\[[A-Z_]+\]|[^\W_]+(?:['’][^\W_]+)?")
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGITS = {word: str(digit) for digit, word in enumerate(_NAMES)} | {"oh": "0", "o": "0"}
_TIMES = {"double": 2, "triple": 3}


class SpokenTruth(msgspec.Struct, frozen=True):
    """What one played call said; ``participants`` are the consumer's names of its channels."""

    name: str
    conversation: str
    participants: dict[str, str]
    turns: list[SpokenTurn]


class CallScore(msgspec.Struct, frozen=True):
    """How one call was understood.

    Attributes:
        words: Words said. edits: Changes that make the received words of them.
        turns: Turns said. lost: Of those, turns of which less than half of the words arrived.
        repeated: Received texts of two words or more, most of whose words nobody said there.
        leaked: Secrets whose digits are all readable, in order.
        partly: Secrets of which at least six digits in a row are readable, but not all.
    """

    name: str
    conversation: str
    words: int
    edits: int
    turns: int
    lost: int
    repeated: int
    leaked: int
    partly: int

    @property
    def word_error_rate(self) -> float:
        """Edits over words said."""
        return self.edits / self.words if self.words else 0.0


class SpeechScore(msgspec.Struct, frozen=True):
    """How all calls were understood."""

    calls: list[CallScore]

    def total(self, name: str) -> int:
        """Give the sum of a count over the calls."""
        return sum(getattr(call, name) for call in self.calls)

    @property
    def word_error_rate(self) -> float:
        """Edits over words said, of all calls together."""
        return self.total("edits") / max(self.total("words"), 1)

    def summary(self) -> dict[str, float | int]:
        """Give the totals."""
        names = ("turns", "lost", "repeated", "leaked", "partly", "words")
        return {name: self.total(name) for name in names} | {
            "word_error_rate": round(self.word_error_rate, 4)
        }


def score_speech(
    truths: Iterable[SpokenTruth],
    heard: Iterable[Heard],
    *,
    kinds: Collection[str] = SECRET_KINDS,
) -> SpeechScore:
    """Score what a consumer received against what was said.

    Args:
        truths: The calls that were played.
        heard: Every sentence's newest revision.
        kinds: Kinds of secrets that must not be readable.
    """
    lanes: dict[tuple[str, str], list[Heard]] = {}
    for each in heard:
        lanes.setdefault((each.conversation, each.participant), []).append(each)
    for lane in lanes.values():
        lane.sort(key=lambda each: each.started_us)
    return SpeechScore([_score_call(truth, lanes, kinds) for truth in truths])


def _score_call(
    truth: SpokenTruth, lanes: dict[tuple[str, str], list[Heard]], kinds: Collection[str]
) -> CallScore:
    edits = words = lost = repeated = 0
    texts: list[str] = []
    for channel, participant in truth.participants.items():
        turns = [turn for turn in truth.turns if turn.channel == channel]
        lane = [each.text for each in lanes.get((truth.conversation, participant), [])]
        texts.append(" ".join(lane))
        found = align(turns, lane)
        edits += found.edits
        words += found.words
        lost += found.lost
        repeated += found.repeated
    secrets = [s for turn in truth.turns for s in turn.secrets if s.kind in kinds]
    shown = [_longest_shown(secret, texts) for secret in secrets]
    whole = sum(n == len(s.digits) for s, n in zip(secrets, shown, strict=True))
    part = sum(_PART_DIGITS <= n < len(s.digits) for s, n in zip(secrets, shown, strict=True))
    return CallScore(
        truth.name,
        truth.conversation,
        words,
        edits,
        len(truth.turns),
        lost,
        repeated,
        whole,
        part,
    )


class Alignment(msgspec.Struct, frozen=True):
    """How the texts of one participant lie on the turns said."""

    words: int
    edits: int
    lost: int
    repeated: int


def align(turns: Sequence[SpokenTurn], texts: Sequence[str]) -> Alignment:
    """Align the texts of one participant, in order, with the turns."""
    said, secret, turn_of = _said(turns)
    got = [(word, index) for index, text in enumerate(texts) for word in tokens(text)]
    matched, used, edits = _align(said, secret, [word for word, _ in got])
    lost = sum(
        2 * sum(matched[i] for i in places) < len(places)
        for number in range(len(turns))
        if (places := [i for i, turn in enumerate(turn_of) if turn == number])
    )
    repeated = 0
    for number in range(len(texts)):
        own = [used[j] for j, (_, index) in enumerate(got) if index == number]
        repeated += len(own) > 1 and 2 * sum(own) < len(own)
    return Alignment(len(said), edits, lost, repeated)


def tokens(text: str) -> list[str]:
    """Give the words of a text in lower case, masks as they are, digits spelled out."""
    out: list[str] = []
    for token in _TOKEN.findall(text):
        if token.isascii() and token.isdigit():
            out.extend(_NAMES[int(digit)] for digit in token)
        else:
            out.append(token if MASK.fullmatch(token) else token.casefold())
    return out


def _said(turns: Sequence[SpokenTurn]) -> tuple[list[str], list[bool], list[int]]:
    """Give the words of all turns, which of them are secret, and the turn of each."""
    said: list[str] = []
    secret: list[bool] = []
    turn_of: list[int] = []
    for number, turn in enumerate(turns):
        own = tokens(turn.text)
        marks = [False] * len(own)
        for each in turn.secrets:
            hidden = tokens(each.text)
            for start in range(len(own) - len(hidden) + 1):
                if own[start : start + len(hidden)] == hidden:
                    marks[start : start + len(hidden)] = [True] * len(hidden)
        said += own
        secret += marks
        turn_of += [number] * len(own)
    return said, secret, turn_of


def _align(
    said: Sequence[str], secret: Sequence[bool], got: Sequence[str]
) -> tuple[list[bool], list[bool], int]:
    """Align by least edits; give which words said arrived, which received were said, edits."""
    rows, columns = len(said) + 1, len(got) + 1
    masks = [MASK.fullmatch(word) is not None for word in got]
    cost = [[0] * columns for _ in range(rows)]
    step = [[""] * columns for _ in range(rows)]
    for i in range(rows):
        for j in range(columns):
            if i or j:
                cost[i][j], step[i][j] = min(_moves(cost, said, secret, got, masks, i, j))
    matched, used = [False] * len(said), [False] * len(got)
    i, j = rows - 1, columns - 1
    while i or j:
        move = step[i][j]
        if move in ("a match", "b mask", "c more"):
            matched[i - 1] = used[j - 1] = True
        i -= move != "f extra"
        j -= move in ("a match", "b mask", "d wrong", "f extra")
    return matched, used, cost[-1][-1]


def _moves(
    cost: list[list[int]],
    said: Sequence[str],
    secret: Sequence[bool],
    got: Sequence[str],
    masks: Sequence[bool],
    i: int,
    j: int,
) -> list[tuple[int, str]]:
    """Give the ways to this place: the cost of each, and its name (earlier letters win)."""
    moves: list[tuple[int, str]] = []
    if i and j:
        before = cost[i - 1][j - 1]
        if masks[j - 1]:
            # A mask covers its first word, and may go on covering secret words.
            moves.append((before, "b mask") if secret[i - 1] else (before + 1, "d wrong"))
            if secret[i - 1]:
                moves.append((cost[i - 1][j], "c more"))
        elif said[i - 1] == got[j - 1]:
            moves.append((before, "a match"))
        else:
            moves.append((before + 1, "d wrong"))
    if i:
        moves.append((cost[i - 1][j] + 1, "e missing"))
    if j:
        moves.append((cost[i][j - 1] + 1, "f extra"))
    return moves


def readable_digits(text: str) -> list[str]:
    """Give the runs of digits a text shows, as figures or words; anything else ends a run."""
    runs, run, times = [], "", 1
    for token in _TOKEN.findall(text):
        word = token.casefold()
        digit = _DIGITS.get(word, word if word.isascii() and word.isdigit() else "")
        if word in _TIMES:
            times = _TIMES[word]
        elif digit:
            run += digit * times
            times = 1
        else:
            runs.append(run)
            run, times = "", 1
    return [found for found in (*runs, run) if found]


def _longest_shown(secret: SpokenSecret, texts: Sequence[str]) -> int:
    """Give how many digits in a row of a secret one participant's texts show."""
    runs = [run for text in texts for run in readable_digits(text)]
    whole = secret.digits
    for size in range(len(whole), 0, -1):
        pieces = {whole[at : at + size] for at in range(len(whole) - size + 1)}
        if any(piece in run for piece in pieces for run in runs):
            return size
    return 0
