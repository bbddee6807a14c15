"""Lists and objects of a stored transcript that are open while it is read."""

from __future__ import annotations

from enum import Enum, auto


class Place(Enum):
    """Where in its grammar a list or object is."""

    FIRST = auto()
    """An element or key, or the end."""
    ANOTHER = auto()
    """An element or key: there was a comma."""
    COLON = auto()
    VALUE = auto()
    NEXT = auto()
    """A comma or the end."""


class Kind(Enum):
    """What the values of a list or object are."""

    ROOT = auto()
    """The object at the top: members are kept, opened (lists), or passed over."""
    SEGMENTS = auto()
    """The document's ``transcript``, or a bare list at the top (legacy files)."""
    PARTICIPANTS = auto()
    """Either shape's ``participants``."""
    TRANSCRIPTS = auto()
    """The platform's ``transcripts``."""
    TRANSCRIPT = auto()
    """One of them: its ``phrases`` are opened, ``language`` and ``startTime`` are kept."""
    PHRASES = auto()
    """The platform's segments."""
    IGNORED = auto()
    """A list or object that nobody asked for, too large to be passed over whole."""


class Frame:
    """A list or object that is open.

    Attributes:
        key: The member that is being read, of an object.
        opened: Lists that were found in it.
        started_ms: When the communication began, as far as it is known here; 0 for not.
        mark: How elements of this list begin, as the first of them does.
        not_before: Until the file is that long no guess is worth its time.
    """

    __slots__ = ("is_list", "key", "kind", "mark", "not_before", "opened", "place", "started_ms")

    def __init__(self, kind: Kind, *, is_list: bool, started_ms: int = 0) -> None:
        self.kind = kind
        self.is_list = is_list
        self.place = Place.FIRST
        self.key = ""
        self.opened: set[str] = set()
        self.started_ms = started_ms
        self.mark: bytes | None = None
        self.not_before = 0
