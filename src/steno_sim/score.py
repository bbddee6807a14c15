"""Comparing what a consumer received with what the simulator said.

Nothing of the product is used here: a received sentence is a pattern in which a mask stands for
as many words as the utterance's secrets have, and one more. An utterance is accounted for when
one sentence, or a few in a row, match it as a whole. So words that were lost, doubled, changed or
masked without being secret show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from steno_sim.ledger import Truth

MASK = re.compile(r"\[[A-Z]+\]")
_WORD = re.compile(r"[\W_]+")
_RUN = 6  # sentences of one utterance tried together, at the most
_SPARE_WORDS = 1


class Heard(msgspec.Struct, frozen=True):
    """A sentence as a consumer keeps it: its newest revision."""

    conversation: str
    participant: str
    text: str
    started_us: int


class Score(msgspec.Struct, frozen=True):
    """How the two compare.

    Attributes:
        sentences: Sentences of utterances that were delivered whole.
        lost: Of those, the sentences of utterances that no received sentences match.
        repeated: Received sentences that match nothing that was said, or say it again.
        leaked: Planted secrets that stand in a received text of their conversation.
    """

    sentences: int
    lost: int
    repeated: int
    leaked: int
    lost_ids: list[str] = []


def plain(text: str) -> str:
    """Return the words alone, case folded, one blank between them."""
    return " ".join(_WORD.sub(" ", text).casefold().split())


def _pattern(texts: Sequence[str], most: int) -> re.Pattern[str]:
    pieces = [plain(piece) for piece in MASK.split(" ".join(texts))]
    words = rf"(?:\S+ ?){{1,{most}}}"
    joined = re.escape(pieces[0])
    for piece in pieces[1:]:
        joined += rf" ?{words} ?" + re.escape(piece)
    return re.compile(joined)


def _matches(texts: Sequence[str], said: str, secret_words: int) -> bool:
    if not any(MASK.search(text) for text in texts):
        return plain(" ".join(texts)) == said
    if not secret_words:
        return False  # nothing was to be masked
    return _pattern(texts, secret_words + _SPARE_WORDS).fullmatch(said) is not None


def masks_match(text: str, said: str, secret_words: int) -> bool:
    """Tell whether a received text says, masks apart, what was said.

    Args:
        text: As received.
        said: ``plain`` words that were said.
        secret_words: How many of those were secret.
    """
    return _matches([text], said, secret_words)


def score(truth: Truth, heard: Iterable[Heard]) -> Score:
    """Count what was lost, repeated and leaked.

    Utterances that reached nobody, or only in part, are not asked for; what was received of
    them is not held against anybody either.
    """
    received = list(heard)
    lanes: dict[tuple[str, str], list[Heard]] = {}
    for each in received:
        lanes.setdefault((each.conversation, each.participant), []).append(each)
    for lane in lanes.values():
        lane.sort(key=lambda each: each.started_us)
    sentences = lost = 0
    lost_ids: list[str] = []
    partly: dict[tuple[str, str], list[str]] = {}
    for conversation in truth.conversations:
        for said in conversation.utterances:
            key = (conversation.id, said.participant)
            if said.delivered != "whole":
                partly.setdefault(key, []).append(plain(said.text))
                continue
            sentences += len(said.sentences)
            secret_words = sum(len(plain(secret.text).split()) for secret in said.secrets)
            if not _take(lanes.get(key, []), plain(said.text), secret_words):
                lost += len(said.sentences)
                lost_ids.append(said.id)
    repeated = sum(
        not _part_of(each.text, partly.get(key, [])) for key, lane in lanes.items() for each in lane
    )
    return Score(sentences, lost, repeated, leaks(truth, received), lost_ids)


def _take(lane: list[Heard], said: str, secret_words: int) -> bool:
    """Remove the sentences that say an utterance; False when there are none."""
    for start in range(len(lane)):
        for stop in range(start + 1, min(start + _RUN, len(lane)) + 1):
            if _matches([each.text for each in lane[start:stop]], said, secret_words):
                del lane[start:stop]
                return True
    return False


def _part_of(text: str, partly: Sequence[str]) -> bool:
    pieces = [piece for piece in map(plain, MASK.split(text)) if piece]
    return any(all(piece in said for piece in pieces) for said in partly)


def leaks(truth: Truth, heard: Iterable[Heard]) -> int:
    """Count the planted secrets that stand, whole, in a received text of their conversation."""
    texts: dict[str, str] = {}
    for each in heard:
        texts[each.conversation] = texts.get(each.conversation, "") + " | " + plain(each.text)
    return sum(
        plain(secret.text) in texts.get(conversation.id, "")
        for conversation in truth.conversations
        for said in conversation.utterances
        for secret in said.secrets
    )
