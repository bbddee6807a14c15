"""Names of what is archived: keys made of ids by a template, and where manifests lie.

Below the store's prefix::

    transcripts/{conversation}.json               the transcript, as the key template says
    manifests/{conversation}/{key}.json           what is kept beside it: hashes, summary, claim
    parquet/date={date}/{conversation}.parquet    its segments as a table, by option; of a
                                                  communication: {conversation}+{communication}
    .uploads/                                     local folders only: files being written

Manifests have a tree of their own, by conversation: programs that read ``transcripts/`` find
nothing else there, all that is kept of a conversation is one listing, whatever the template was
when it was archived, and the store's own times of manifests tell when each was completed.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from steno.core.ids import is_id, quoted
from steno.errors import ConfigError, IntegrityError

DEFAULT_TEMPLATE: Final = "transcripts/{conversation}.json"
MANIFESTS: Final = "manifests"
PARQUET: Final = "parquet"
UPLOADS: Final = ".uploads"
ZSTD_SUFFIX: Final = ".zst"
MAX_KEY_BYTES: Final = 700
"""S3 and GCS take 1,024 bytes; a manifest's name has the key and a conversation in it."""

_RESERVED: Final = frozenset({MANIFESTS, PARQUET, UPLOADS})
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_FIELDS: Final = frozenset({"conversation", "communication", "date"})
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._=~!@+,%-]+")


class KeyTemplate:
    """Makes keys of ids.

    ``{conversation}`` has to be in it. Where a transcript is of one communication and the
    template does not name it, the communication becomes a level of its own:
    ``transcripts/{conversation}/{communication}.json``.

    Args:
        text: E.g. ``transcripts/{date}/{conversation}.json``; empty for the default.

    Raises:
        ConfigError: It is no key, could leave the prefix, or lies where manifests lie.
    """

    def __init__(self, text: str = "", *, setting: str = "archive.key") -> None:
        self.text = text or DEFAULT_TEMPLATE
        fields = _FIELD.findall(self.text)
        bare = _FIELD.sub("x", self.text)
        parts = bare.split("/")
        if "conversation" not in fields or not _FIELDS.issuperset(fields):
            raise ConfigError(
                "the key template is not acceptable",
                setting=setting,
                fix="It has {conversation} in it, and may have {communication} and {date}.",
            )
        if not all(part.strip(".") and _PLAIN.fullmatch(part) for part in parts):
            raise ConfigError(
                "the key template is no key",
                setting=setting,
                fix="Write names with / between them, of letters, digits and . _ = ~ ! @ + , % -",
            )
        if parts[0] in _RESERVED or self.text.endswith(ZSTD_SUFFIX):
            raise ConfigError("the key template uses a name that is taken", setting=setting)

    @property
    def is_dated(self) -> bool:
        """Whether the date is part of the key, so that another day gives another key."""
        return "{date}" in self.text

    def fill(
        self, conversation: str, *, communication: str = "", date: str = "", zstd: bool = False
    ) -> str:
        """Return the key of a transcript. Ids are percent-encoded: each stays a single part.

        Args:
            date: ``YYYY-MM-DD``; needed by a dated template alone.
            zstd: Whether it is compressed, which the key tells at its end.

        Raises:
            IntegrityError: An id is none that we accept, or the key would be too long.
        """
        if not is_id(conversation) or (communication and not is_id(communication)):
            raise IntegrityError("an id of the transcript is not acceptable")
        if self.is_dated and not _DATE.fullmatch(date):
            raise IntegrityError("the date of the transcript is not acceptable")
        text = self.text
        text = _with_communication(text) if communication else _without_communication(text)
        filled = (
            text.replace("{date}", date)
            .replace("{communication}", quoted(communication))
            .replace("{conversation}", quoted(conversation))
        )
        return checked_key(filled + ZSTD_SUFFIX if zstd else filled)

    def conversation_of(self, key: str) -> str:
        """Return whose transcript a key of this template is; empty for any other key."""
        for text in (_without_communication(self.text), _with_communication(self.text), self.text):
            found = re.fullmatch(_pattern(text), key.removesuffix(ZSTD_SUFFIX))
            if found is not None:
                conversation = unquote(found["conversation"])
                return conversation if is_id(conversation) else ""
        return ""

    @property
    def folder(self) -> str:
        """The folder that all keys are in; empty where they have none in common."""
        return self.text.partition("{")[0].rpartition("/")[0]

    def own_folder(self, conversation: str) -> str:
        """Return the folder that only this conversation's keys are in; empty for none."""
        if self.is_dated:
            return ""
        head, _, tail = _with_communication(self.text).partition("{conversation}/")
        return f"{head}{quoted(conversation)}" if tail and head[-1:] in ("", "/") else ""


def dates_in(key: str) -> list[str]:
    """Return what in a key may be its date."""
    return _DATE.findall(key)


def parquet_conversation(key: str) -> str:
    """Return whose table a key names; empty for a key of anything else."""
    root, _, rest = key.partition("/")
    name = rest.rpartition("/")[2].removesuffix(".parquet").partition("+")[0]
    return unquote(name) if root == PARQUET else ""


def parquet_key(conversation: str, *, date: str, communication: str = "") -> str:
    """Return the key of a transcript's segments as a table, partitioned by date as Hive does.

    Raises:
        IntegrityError: An id or the date is not acceptable.
    """
    whole = (conversation, communication) if communication else (conversation,)
    if not all(map(is_id, whole)) or not _DATE.fullmatch(date):
        raise IntegrityError("an id or the date of the transcript is not acceptable")
    return checked_key(f"{PARQUET}/date={date}/{'+'.join(map(quoted, whole))}.parquet")


def checked_key(key: str) -> str:
    """Return a key that names something below the prefix.

    Raises:
        IntegrityError: It does not, or is too long.
    """
    parts = key.split("/")
    if len(key) > MAX_KEY_BYTES or not all(
        len(part) <= 250 and part.strip(".") and _PLAIN.fullmatch(part) for part in parts
    ):
        raise IntegrityError("the key of an archived object is not acceptable")
    return key


def manifest_name(conversation: str, key: str) -> str:
    """Return where the manifest of an object lies."""
    return f"{MANIFESTS}/{quoted(conversation)}/{checked_key(key)}.json"


def key_of_manifest(name: str) -> str:
    """Return the key whose manifest lies there; empty for a name that is no manifest's."""
    root, _, rest = name.partition("/")
    _, _, tail = rest.partition("/")
    if root != MANIFESTS or not tail.endswith(".json"):
        return ""
    return tail.removesuffix(".json")


def _pattern(text: str) -> str:
    pattern, seen = "", False
    for place, part in enumerate(_FIELD.split(text)):
        if place % 2 == 0:
            pattern += re.escape(part)
        elif part == "conversation":
            pattern += "(?P=conversation)" if seen else "(?P<conversation>[^/]+)"
            seen = True
        else:
            pattern += _DATE.pattern if part == "date" else "[^/]+"
    return pattern


def _with_communication(text: str) -> str:
    """Put the communication in as a level after the conversation, before what follows it."""
    if "{communication}" in text:
        return text
    head, _, tail = text.rpartition("{conversation}")
    return f"{head}{{conversation}}/{{communication}}{tail}"


def _without_communication(text: str) -> str:
    """Leave the communication out: a whole level where it is one, else the id and a separator."""
    for spelling in (
        "/{communication}",
        "{communication}/",
        "-{communication}",
        ".{communication}",
    ):
        if spelling in text:
            text = text.replace(spelling, "")
    return text.replace("{communication}", "")
