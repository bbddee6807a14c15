"""Paths and keys with the conversation's id in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from steno.adapters.durable_files import sync_folder
from steno.core.ids import is_id, quoted
from steno.errors import ConfigError, IntegrityError

CONVERSATION: Final = "{conversation}"


class PathTemplate:
    """A path in which ``{conversation}`` may stand for an id.

    Raises:
        ConfigError: It is empty, or no path.
    """

    def __init__(self, text: str, *, setting: str = "out") -> None:
        if not text or "\0" in text:
            raise ConfigError("the export has no usable name", setting=setting)
        self.text = text

    @property
    def is_per_conversation(self) -> bool:
        """Whether every conversation has a path of its own."""
        return CONVERSATION in self.text

    def fill(self, conversation: str) -> str:
        """Return the path of a conversation.

        The id is percent-encoded and stays one part of a name: it cannot leave the folder.

        Raises:
            IntegrityError: The id is none that we accept.
        """
        if not self.is_per_conversation:
            return self.text
        if not is_id(conversation):
            raise IntegrityError("a conversation's id is not acceptable")
        return self.text.replace(CONVERSATION, quoted(conversation))

    @property
    def fixed_folder(self) -> Path:
        """The folder that has to be there: the last one before any id."""
        return Path(os.path.dirname(self.text.partition(CONVERSATION)[0]) or ".")

    def make_folders(self, path: Path) -> None:
        """Make the folders whose names have an id in them; the others have to exist.

        Raises:
            OSError: One cannot be made.
        """
        if CONVERSATION not in os.path.dirname(self.text):
            return
        fixed = self.fixed_folder
        missing = []
        folder = path.parent
        while folder != fixed and not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)
