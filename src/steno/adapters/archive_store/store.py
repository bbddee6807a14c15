"""The archive over a bucket or a folder (``ports.archive.ArchiveStore``)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from steno.adapters.archive_store.content import ZSTD, Decoder, stored_sums
from steno.adapters.archive_store.folder import Folder
from steno.adapters.archive_store.keys import (
    MANIFESTS,
    PARQUET,
    KeyTemplate,
    checked_key,
    dates_in,
    key_of_manifest,
    manifest_name,
    parquet_conversation,
    parquet_key,
)
from steno.adapters.archive_store.place import COMPLETE, Place, read_manifest
from steno.adapters.archive_store.settings import ArchiveSettings
from steno.core.ids import is_id, quoted
from steno.errors import ConfigError, IntegrityError, ObjectMissing, StorageError
from steno.ports.archive import ArchiveWriter, Manifest, NewItem, Verdict

if TYPE_CHECKING:
    from steno.ports import Telemetry

PARQUET_TYPE: Final = "application/vnd.apache.parquet"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PROBE: Final = b'{"by":"steno doctor"}'
_SKEW_US: Final = 3_600_000_000
"""Clocks of the store and of whoever archived may differ by so much."""


def open_archive(settings: ArchiveSettings, telemetry: Telemetry | None = None) -> Archive:
    """Return the archive at an address. Nothing is sent or made before it is used.

    Args:
        telemetry: Told when a store cannot put conditionally.

    Raises:
        ConfigError: Address, key template or an option is not acceptable.
    """
    folder = _local_folder(settings.url)
    if folder is not None:
        return Archive(Folder(folder), settings)
    from steno.adapters.archive_store.bucket import open_bucket

    return Archive(open_bucket(settings, telemetry), settings)


class Archive:
    """Written once: equal content is success, different content a conflict.

    Safe to use from several threads; a writer belongs to one at a time.
    """

    def __init__(self, place: Place, settings: ArchiveSettings) -> None:
        self._place = place
        self._template = KeyTemplate(settings.key)
        self._compress = settings.compress

    def item(
        self, conversation: str, *, communication: str = "", made_with: str = "", at_us: int
    ) -> NewItem:
        """Return what describes a transcript to ``writer``: key by the template, and encoding.

        Where the key has a date in it and the same was archived before, made in the same way, the
        key of then is taken: a rerun on another day finds its own work.

        Args:
            at_us: UTC microseconds; the date of the key.

        Raises:
            IntegrityError: An id is not acceptable.
            StorageError, AuthError: The archive cannot be asked.
        """
        encoding = ZSTD if self._compress else ""

        def key(date: str) -> str:
            return self._template.fill(
                conversation, communication=communication, date=date, zstd=bool(encoding)
            )

        return NewItem(
            key=self._key(key, conversation, at_us) if self._template.is_dated else key(""),
            conversation=conversation,
            communication=communication,
            content_encoding=encoding,
            made_with=made_with,
        )

    def parquet_item(
        self, conversation: str, *, communication: str = "", made_with: str = "", at_us: int
    ) -> NewItem:
        """Return what describes a transcript's segments as a table, in the same way.

        Raises:
            IntegrityError: An id is not acceptable.
            StorageError, AuthError: The archive cannot be asked.
        """

        def key(date: str) -> str:
            return parquet_key(conversation, communication=communication, date=date)

        return NewItem(
            key=self._key(key, conversation, at_us),
            conversation=conversation,
            communication=communication,
            content_type=PARQUET_TYPE,
            made_with=made_with,
        )

    def url_of(self, key: str) -> str:
        """See ``ArchiveStore``."""
        return self._place.url_of(checked_key(key))

    def writer(self, item: NewItem) -> ArchiveWriter:
        """See ``ArchiveStore``. Memory: 1 MB into a folder, four parts (32 MB) into a bucket."""
        manifest_name(item.conversation, item.key)  # refuses keys that could leave the prefix
        return self._place.writer(item)

    def manifest(self, key: str, *, conversation: str = "") -> Manifest | None:
        """See ``ArchiveStore``. One request if the conversation is given, else names are listed."""
        if conversation:
            return read_manifest(self._place, manifest_name(conversation, key))
        name = self._name_of(checked_key(key))
        return read_manifest(self._place, name) if name else None

    def manifests(
        self,
        *,
        conversation: str = "",
        since_us: int = 0,
        on_damaged: Callable[[str], None] | None = None,
    ) -> Iterator[Manifest]:
        """See ``ArchiveStore``: in order of conversations, then keys.

        Args:
            since_us: Leaves out, unread, what the store knows to be older than this (UTC us).
            on_damaged: Called with the key of an object whose manifest cannot be read, which is
                then left out; without it that is an ``IntegrityError``.
        """
        for listed in self._place.names(_folder(conversation)):
            key = key_of_manifest(listed.name)
            if not key or listed.modified_us < since_us - _SKEW_US:
                continue
            try:
                found = read_manifest(self._place, listed.name)
                if (
                    found is not None
                    and manifest_name(found.conversation, found.key) != listed.name
                ):
                    raise IntegrityError("a manifest is not in its own place")
            except IntegrityError:
                if on_damaged is None:
                    raise
                on_damaged(key)
                continue
            if found is not None:
                yield found

    def read(self, key: str) -> Iterator[bytes]:
        """See ``ArchiveStore``. Without a manifest nothing can be compared, and it raises."""
        manifest = self.manifest(key)
        if manifest is None:
            raise ObjectMissing("there is no manifest of such an archived object")
        return self.read_by(manifest)

    def read_by(self, manifest: Manifest) -> Iterator[bytes]:
        """Return content whose manifest is at hand; like ``read``."""
        decoder = Decoder(manifest.content_encoding)
        for piece in decoder.decode(self._place.pieces(manifest.key)):
            yield bytes(piece)
        sums = decoder.sums()
        if (sums.size, sums.sha256, sums.content_sha256) != (
            manifest.size,
            manifest.sha256,
            manifest.content_sha256,
        ):
            raise IntegrityError("the archived object is not what its manifest says")

    def verify(self, manifest: Manifest) -> Verdict:
        """See ``ArchiveStore``. Reads all of it; decompresses too."""
        key = manifest.key
        if manifest.state != COMPLETE:
            return Verdict(key, "it was never completed")
        decoder = Decoder(manifest.content_encoding)
        try:
            for _ in decoder.decode(self._place.pieces(key)):
                pass
        except ObjectMissing:
            return Verdict(key, "the object is missing")
        except IntegrityError:
            size, digest = stored_sums(self._place.pieces(key))
            same = (size, digest) == (manifest.size, manifest.sha256)
            return Verdict(key, "it is damaged" if not same else "it was stored damaged", size)
        sums = decoder.sums()
        if sums.size != manifest.size:
            return Verdict(key, "its size is not that of the manifest", sums.size)
        if sums.sha256 != manifest.sha256:
            return Verdict(key, "it is damaged", sums.size)
        if sums.content_sha256 != manifest.content_sha256:
            return Verdict(key, "it was stored damaged", sums.size)
        return Verdict(key, "", sums.size)

    def erase(self, conversation: str) -> int:
        """See ``ArchiveStore``: objects first, each before its manifest.

        What lies where the template and the tables would have it goes too, manifest or not: a
        killed writer may have left it. An upload that is running is not stopped.
        """
        deleted = 0
        for listed in list(self._place.names(_folder(conversation))):
            key = key_of_manifest(listed.name)
            if key:
                deleted += self._place.delete(checked_key(key))
            self._place.delete(listed.name)
        return deleted + sum(map(self._place.delete, list(self._strays(conversation))))

    def probe(self) -> None:
        """Find out whether something can be put, read and deleted; nothing of it stays.

        Raises:
            StorageError, StorageFull, AuthError, TransportError: One of them cannot be done.
        """
        name = f"steno-doctor-{secrets.token_hex(8)}"
        if not self._place.create(name, _PROBE):
            raise StorageError("what nobody has put is there already")
        try:
            if self._place.small(name) != _PROBE:
                raise IntegrityError("what was read back is not what was written")
        finally:
            self._place.delete(name)

    def _strays(self, conversation: str) -> Iterator[str]:
        """Return keys of a conversation's objects that have no manifest."""
        template = self._template
        if template.is_dated:
            for listed in self._place.names(template.folder):
                if template.conversation_of(listed.name) == conversation:
                    yield listed.name
        else:
            yield from (template.fill(conversation, zstd=zstd) for zstd in (False, True))
            own = template.own_folder(conversation)
            yield from (listed.name for listed in self._place.names(own)) if own else ()
        for listed in self._place.names(PARQUET):
            if parquet_conversation(listed.name) == conversation:
                yield listed.name

    def _key(self, key: Callable[[str], str], conversation: str, at_us: int) -> str:
        fresh = key((_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%d"))
        for listed in self._place.names(_folder(conversation)):
            known = key_of_manifest(listed.name)
            if any(key(date) == known for date in dates_in(known)):
                return known
        return fresh

    def _name_of(self, key: str) -> str:
        """Return where a key's manifest lies, whoever's it is; empty for none."""
        for conversation in (self._template.conversation_of(key), parquet_conversation(key)):
            if is_id(conversation):
                name = manifest_name(conversation, key)
                if self._place.size(name) is not None:
                    return name
        for listed in self._place.names(MANIFESTS):
            if key_of_manifest(listed.name) == key:
                return listed.name
        return ""


def _folder(conversation: str) -> str:
    """Return where the manifests are, or one conversation's."""
    if not conversation:
        return MANIFESTS
    if not is_id(conversation):
        raise IntegrityError("a conversation's id is not acceptable")
    return f"{MANIFESTS}/{quoted(conversation)}"


def _local_folder(url: str) -> Path | None:
    """Return the folder that an address or a plain path names; None for anything remote."""
    if "://" not in url:
        if not url.strip() or "\0" in url:
            raise ConfigError("the archive has no address", setting="archive.url")
        return Path(url).absolute()
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    path = unquote(parts.path)
    if parts.netloc or parts.query or not path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(
            "the archive's address is not acceptable",
            setting="archive.url",
            fix="Write file:///folder, or a plain path.",
        )
    return Path(path)
