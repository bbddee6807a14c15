"""The archive over a bucket or a folder (``ports.archive.ArchiveStore``)."""

from __future__ import annotations

from collections.abc import Iterator

from steno.adapters.archive_store.keys import KeyTemplate
from steno.adapters.archive_store.settings import ArchiveSettings
from steno.ports.archive import ArchiveWriter, Manifest, NewItem, Verdict


def open_archive(settings: ArchiveSettings) -> Archive:
    """Return the archive at an address. Nothing is sent before it is used.

    Raises:
        ConfigError: Address, key template or an option is not acceptable.
        StorageError: The local folder cannot be made.
    """
    return Archive(settings)


class Archive:
    """Written once: equal content is success, different content a conflict.

    Safe to use from several threads; a writer belongs to one at a time.
    """

    def __init__(self, settings: ArchiveSettings) -> None:
        self._settings = settings
        self._template = KeyTemplate(settings.key)

    def item(
        self, conversation: str, *, communication: str = "", made_with: str = "", at_us: int
    ) -> NewItem:
        """Return what describes a transcript to ``writer``: key by the template, and encoding.

        Where the key has a date in it and the conversation was archived before, made in the same
        way, the key of then is taken: a rerun on another day finds its own work.

        Args:
            at_us: UTC microseconds; the date of the key.
        """
        raise NotImplementedError

    def parquet_item(
        self, conversation: str, *, communication: str = "", made_with: str = "", at_us: int
    ) -> NewItem:
        """Return what describes a transcript's segments as a table, in the same way."""
        raise NotImplementedError

    def url_of(self, key: str) -> str:
        """See ``ArchiveStore``."""
        raise NotImplementedError

    def writer(self, item: NewItem) -> ArchiveWriter:
        """See ``ArchiveStore``."""
        raise NotImplementedError

    def manifest(self, key: str, *, conversation: str = "") -> Manifest | None:
        """See ``ArchiveStore``. Quick where the conversation is given; else names are listed."""
        raise NotImplementedError

    def manifests(self, *, conversation: str = "", since_us: int = 0) -> Iterator[Manifest]:
        """See ``ArchiveStore``; ``since_us`` leaves out what the store knows to be older."""
        raise NotImplementedError

    def read(self, key: str) -> Iterator[bytes]:
        """See ``ArchiveStore``."""
        raise NotImplementedError

    def verify(self, manifest: Manifest) -> Verdict:
        """See ``ArchiveStore``."""
        raise NotImplementedError

    def erase(self, conversation: str) -> int:
        """See ``ArchiveStore``."""
        raise NotImplementedError
