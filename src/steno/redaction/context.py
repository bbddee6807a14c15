"""What the words around a number say it is: a phone, a card, an order, a price.

The nearest word decides. Words for what stays ("order", "invoice") count only close to the
number, because they are frequent words ("in order to") and a miss costs a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from steno.redaction.marks import NAMES, TELLING
from steno.redaction.spoken import Table, Topic
from steno.redaction.tokens import PLAIN, TAKEN, Token

_BEFORE = 10
_AFTER = 6
_KEEP_BEFORE = 6
_KEEP_ALONE = 3
"""A word such as "order" without "number" counts up to this many words before."""

_NEAR = 2
_STRONG_ALONE = frozenset({Topic.SSN, Topic.IBAN, Topic.CODE, Topic.ACCOUNT})
_PHRASES: dict[tuple[str, str], Topic] = {
    ("in", "case"): Topic.NONE,
    ("in", "order"): Topic.NONE,
    ("part", "of"): Topic.NONE,
    ("security", "code"): Topic.CODE,
    ("social", "media"): Topic.NONE,
    ("social", "network"): Topic.NONE,
    ("sort", "code"): Topic.ACCOUNT,
    ("en", "caso"): Topic.NONE,
    ("identity", "card"): Topic.ACCOUNT,
    ("redes", "social"): Topic.NONE,
}
_IN_PHRASES = frozenset(word for pair in _PHRASES for word in pair)
_STRONG_ENDINGS = ("nummer",)
_SENTENCE_ENDS = (".", "?", "!", ";")


class Context(NamedTuple):
    """A topic, and whether it was named as a number's ("phone number"), not in passing.

    ``hinted``: it comes from an earlier sentence, not from the number's own.
    ``firm``: it outweighs what the words behind a number say.
    """

    topic: Topic = Topic.NONE
    strong: bool = False
    hinted: bool = False
    firm: bool = False

    @property
    def suspicious(self) -> bool:
        """The words raise the suspicion that a number here is a secret."""
        return self.topic not in (Topic.NONE, Topic.KEEP)


NOTHING = Context()
_CONTEXTS = {(topic, strong): Context(topic, strong) for topic in Topic for strong in (True, False)}


def topic_at(tokens: list[Token], index: int, table: Table) -> Context:
    """The topic named by the word at ``index``; none for most words."""
    token = tokens[index]
    word = token.text
    topic = table.topics.get(word)
    if topic is None or token.kind == TAKEN:
        if token.marks & NAMES:
            return _of_number_word(tokens, index, table)
        if word[-6:] == "nummer" and len(word) > 8 and token.kind == PLAIN:
            return Context(Topic.KEEP, strong=True)
        if word == "code" and _word(tokens, index - 1) in ("security", "sort"):
            return Context(_PHRASES[_word(tokens, index - 1), word], strong=True)
        return NOTHING
    if word in _IN_PHRASES:
        for pair in ((_word(tokens, index - 1), word), (word, _word(tokens, index + 1))):
            if pair in _PHRASES:
                return Context(_PHRASES[pair], strong=_PHRASES[pair] != Topic.NONE)
    strong = topic in _STRONG_ALONE or word.endswith(_STRONG_ENDINGS)
    if not strong:
        for near in tokens[max(0, index - _NEAR - 1) : index + _NEAR + 1]:
            if near.marks & NAMES:
                strong = True
    return _CONTEXTS[topic, strong]


def _of_number_word(tokens: list[Token], index: int, table: Table) -> Context:
    """The topic of "number": with "my" it is a phone number; alone it says nothing."""
    if _word(tokens, index - 1) in table.mine:
        return Context(Topic.PHONE, strong=True)
    return NOTHING


def of_run(tokens: list[Token], first: int, last: int, table: Table, hint: Context) -> Context:
    """The context of the number in tokens ``first`` to ``last``.

    Args:
        hint: What earlier sentences were about; used where the sentence itself says nothing.
    """
    before, distance = _look(tokens, range(first - 1, max(-1, first - 1 - _BEFORE), -1), table)
    if before.suspicious:
        return before
    stop = min(len(tokens), last + 1 + _AFTER)
    after, _ = _look(tokens, range(last + 1, stop), table, within_sentence=True)
    if before.topic == Topic.KEEP and distance <= (_KEEP_BEFORE if before.strong else _KEEP_ALONE):
        return before
    if hint.firm:
        return hint._replace(hinted=True)
    if after.suspicious and after.topic == Topic.CALL:
        after = NOTHING
    if after.topic != Topic.NONE and (after.suspicious or after.strong):
        return after
    return hint if hint is NOTHING else hint._replace(hinted=True)


def of_sentence(tokens: list[Token], telling: Iterable[int], table: Table) -> Context:
    """What a sentence is about; a suspicious topic outweighs one that keeps numbers.

    Args:
        telling: Indices of the tokens marked so.
    """
    found = NOTHING
    for index in telling:
        context = topic_at(tokens, index, table)
        if context is not NOTHING:
            found = outweigh(found, context)
    return found


def outweigh(found: Context, context: Context) -> Context:
    """The weightier of what was ``found`` before and the ``context`` behind it."""
    if context.topic == Topic.NONE or (found.strong and not context.strong):
        return found
    return context if context.suspicious or not found.suspicious else found


def _look(
    tokens: list[Token], indices: range, table: Table, *, within_sentence: bool = False
) -> tuple[Context, int]:
    words = 0
    for index in indices:
        token = tokens[index]
        if within_sentence and token.text in _SENTENCE_ENDS:
            break
        if token.kind == PLAIN and len(token.text) > 1:
            words += 1
        if not token.marks & TELLING:
            continue
        context = topic_at(tokens, index, table)
        if context.topic != Topic.NONE:
            return context, words
    return NOTHING, words


def _word(tokens: list[Token], index: int) -> str:
    return tokens[index].text if 0 <= index < len(tokens) else ""
