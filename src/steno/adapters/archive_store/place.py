"""What the archive asks of a bucket or a folder, and what both tell of their failures."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

import msgspec

from steno.adapters.archive_store.content import Piece, Sums, sums_of
from steno.adapters.archive_store.keys import manifest_name
from steno.errors import (
    IntegrityError,
    ObjectMissing,
    PreconditionFailed,
    StenoError,
    StorageError,
    StorageFull,
)
from steno.ports.archive import ArchiveWriter, Manifest, NewItem

VERSION: Final = 1
COMPLETE: Final = "complete"
CLAIMED: Final = "claimed"
MAX_MANIFEST_BYTES: Final = 1024 * 1024
MAX_SUMMARY_BYTES: Final = MAX_MANIFEST_BYTES // 2

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Listed(NamedTuple):
    """A name in a place, and when its content was put there (UTC us)."""

    name: str
    size: int
    modified_us: int


class Place(Protocol):
    """A bucket or a folder. Calls may raise ``StorageError``, ``TransportError``, ``AuthError``."""

    def url_of(self, key: str) -> str:
        """Return an object's address."""

    def writer(self, item: NewItem) -> ArchiveWriter:
        """Begin an object."""

    def create(self, name: str, data: bytes) -> bool:
        """Put something small (JSON); False when there is something of that name."""

    def small(self, name: str) -> bytes | None:
        """Return something small; None where nothing is."""

    def size(self, name: str) -> int | None:
        """Return an object's size as it is stored; None where nothing is."""

    def pieces(self, name: str) -> Iterator[Piece]:
        """Return what is stored, in pieces that are valid until the next one is taken.

        Raises:
            ObjectMissing: Nothing is.
        """

    def names(self, folder: str) -> Iterator[Listed]:
        """Return all below a folder, in order."""

    def delete(self, name: str) -> bool:
        """Delete; False where there was nothing to see."""


def finished_manifest(item: NewItem, sums: Sums, summary: bytes) -> Manifest:
    """Return the manifest of an object, complete.

    Raises:
        IntegrityError: The summary is no JSON object, or too large to be kept.
    """
    if len(summary) > MAX_SUMMARY_BYTES:
        raise IntegrityError("the summary is too large", size=len(summary))
    return Manifest(
        version=VERSION,
        key=item.key,
        state=COMPLETE,
        conversation=item.conversation,
        communication=item.communication,
        size=sums.size,
        sha256=sums.sha256,
        content_sha256=sums.content_sha256,
        content_type=item.content_type,
        content_encoding=item.content_encoding,
        made_with=item.made_with,
        archived_at=_archived_at(summary) or utc_text(),
        summary=msgspec.Raw(summary),
    )


def read_manifest(place: Place, name: str) -> Manifest | None:
    """Return what is kept beside an object; None where nothing is.

    Raises:
        IntegrityError: It cannot be read.
    """
    data = place.small(name)
    return None if data is None else decode_manifest(data)


def decode_manifest(data: bytes) -> Manifest:
    """Return a manifest.

    Raises:
        IntegrityError: It is none, or of a version that is not known.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise IntegrityError("the manifest of an archived object is damaged") from None
    if manifest.version != VERSION:
        raise IntegrityError("a manifest is of a version we do not know", found=manifest.version)
    return manifest


def manifest_of(item: NewItem) -> str:
    """Return where an item's manifest lies."""
    return manifest_name(item.conversation, item.key)


def keep_manifest(place: Place, manifest: Manifest, *, ours: bool) -> Manifest:
    """Put a manifest beside its object, and return the one that is there then.

    Args:
        ours: The object was not there until we put it: what another manifest says of it is of
            an object that is gone, and gives way.

    Raises:
        PreconditionFailed: The manifest that is there is of other content.
    """
    name = manifest_name(manifest.conversation, manifest.key)
    data = msgspec.json.encode(manifest)
    for _ in range(3):
        if place.create(name, data):
            return manifest
        found = read_manifest(place, name)
        if found is None:
            continue  # erased meanwhile
        if is_same(found, manifest):
            return found
        if not ours:
            raise conflict(found, made_with=manifest.made_with)
        place.delete(name)
    raise StorageError("somebody else archives and erases the same transcript")


def compared(place: Place, item: NewItem, manifest: Manifest) -> Manifest:
    """Return the manifest of equal content that is there already.

    Args:
        manifest: What would be said of our content.

    Raises:
        PreconditionFailed: The content that is there is different.
        IntegrityError: It is not what its manifest says.
        ObjectMissing: It was deleted meanwhile.
    """
    found = read_manifest(place, manifest_of(item))
    if found is None:
        return _adopted(place, item, manifest)
    if not is_same(found, manifest):
        raise conflict(found, made_with=item.made_with)
    size = place.size(item.key)
    if size is None:
        raise ObjectMissing("the archived object was deleted meanwhile")
    if size != found.size:
        raise IntegrityError(
            "what is archived is not what its manifest says",
            fix="Find out by `steno archived verify`; erase it to archive it anew.",
        )
    return found


def _adopted(place: Place, item: NewItem, manifest: Manifest) -> Manifest:
    """Give an object that has no manifest one, should it have our content.

    A killed writer left it, or a program that follows the same layout.
    """
    try:
        sums = sums_of(place.pieces(item.key), item.content_encoding)
    except IntegrityError:
        raise conflict(None, made_with=item.made_with) from None
    if sums.content_sha256 != manifest.content_sha256:
        raise conflict(None, made_with=item.made_with)
    as_stored = msgspec.structs.replace(manifest, size=sums.size, sha256=sums.sha256)
    return keep_manifest(place, as_stored, ours=False)


def is_same(one: Manifest, other: Manifest) -> bool:
    """Tell whether two manifests are of equal content, stored alike."""
    return (
        one.content_sha256 == other.content_sha256
        and one.content_encoding == other.content_encoding
    )


def conflict(found: Manifest | None, *, made_with: str) -> PreconditionFailed:
    """Return the error for other content under the same key; nothing of it is told."""
    if found is not None and found.made_with != made_with:
        return PreconditionFailed(
            "the transcript is archived already, made with other options",
            fix="Use the same options, another key template, or erase it first.",
        )
    return PreconditionFailed(
        "something else is archived under that key",
        fix="It was left as it is. Use another key template, or erase it first.",
    )


def os_failure(error: OSError, summary: str) -> StenoError:
    """Return an operating system's error as one of ours."""
    if error.errno in _FULL:
        return StorageFull("no space is left in the archive's folder", errno=error.errno)
    return StorageError(summary, errno=error.errno, cause=type(error).__name__)


def utc_text() -> str:
    """Return the time, RFC 3339 UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Head(msgspec.Struct):
    archived_at: str = ""


def _archived_at(summary: bytes) -> str:
    try:
        return msgspec.json.decode(summary, type=_Head).archived_at
    except (msgspec.MsgspecError, UnicodeError):
        raise IntegrityError("the summary is no JSON object") from None
