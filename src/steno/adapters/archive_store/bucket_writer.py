"""One object being put into a bucket.

Up to a part (8 MB) is kept and put at once, on condition that the key is free. More goes in parts,
which no store takes on condition by this library: the key is claimed first (``claims``). Either
is read back before the manifest says that it is complete. Between a small object and a claim for
the same key: the small writer looks for claims after its put, a claimant for an object after its
claim and once more before its last part; whichever comes second sees the other.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Final

from obstore import exceptions as failures

from steno.adapters.archive_store.bucket import Bucket, failure_of
from steno.adapters.archive_store.claims import Chain, Claim, ClaimLost
from steno.adapters.archive_store.content import Encoder, Piece, stored_sums
from steno.adapters.archive_store.place import (
    compared,
    finished_manifest,
    keep_manifest,
    manifest_of,
)
from steno.errors import IntegrityError, StorageError
from steno.ports.archive import Archived, Manifest, NewItem, WriteOutcome

_GATHERED: Final = 1024 * 1024
_WAITING: Final = 2
_LOOK_S: Final = 0.25
_LOOKS: Final = 4


class BucketWriter:
    """One object being written. Where there is one already, content is only hashed."""

    def __init__(self, bucket: Bucket, item: NewItem) -> None:
        self._bucket = bucket
        self._item = item
        self._encoder = Encoder(item.content_encoding)
        self._kept = bytearray()
        self._is_large = False
        self._upload: _Upload | None = None
        self._claim: Claim | None = None
        self._ended = False
        settings = bucket.settings
        self._gathered = min(_GATHERED, settings.part_bytes)
        self._chain = Chain(bucket, item, lease_s=settings.lease_s, wait_s=settings.wait_s)

    def write(self, data: bytes) -> None:
        """Add content."""
        self._store(self._encoder.encode(data))

    def finish(self, summary: bytes) -> Archived:
        """Put it, read it back, put the manifest beside it."""
        try:
            self._store(self._encoder.end())
            self._end()
            manifest = finished_manifest(self._item, self._encoder.sums(), summary)
            kept = self._finish_large(manifest) if self._is_large else self._finish_small(manifest)
        finally:
            self._drop()
        written = kept is not None
        if kept is None:
            kept = compared(self._bucket, self._item, manifest)
            self._chain.tidy()
        outcome = WriteOutcome.WRITTEN if written else WriteOutcome.SAME
        return Archived(outcome, self._bucket.url_of(self._item.key), kept)

    def abort(self) -> None:
        """Take back what was put, and give the claim back."""
        if not self._ended:
            self._ended = True
            self._drop()

    def _store(self, piece: Piece) -> None:
        if self._is_large and self._upload is None:
            return  # it is only compared
        self._kept += piece
        if not self._is_large and len(self._kept) > self._bucket.settings.part_bytes:
            self._grow()
        if self._upload is not None and len(self._kept) >= self._gathered:
            kept, self._kept = self._kept, bytearray()
            self._upload.write(kept)

    def _grow(self) -> None:
        """Claim the key and begin to put parts, if the object is not there."""
        self._is_large = True
        if self._bucket.size(self._item.key) is None:
            self._claim = self._chain.claim()
        if self._claim is None or self._bucket.size(self._item.key) is not None:
            self._kept = bytearray()
            return
        self._upload = _Upload(self._bucket, self._item)

    def _finish_small(self, manifest: Manifest) -> Manifest | None:
        """Return the manifest; None when an object was there, to be compared."""
        key = self._item.key
        if not self._bucket.put_new(key, bytes(self._kept), _attributes(self._item)):
            return None
        claims = self._chain.wait()
        if stored_sums(self._bucket.pieces(key)) != (manifest.size, manifest.sha256):
            if claims.number >= 0 or self._is_others():
                return None  # who put it had not seen ours, and that content is the one
            raise IntegrityError("what was read back is not what was written")
        kept = keep_manifest(self._bucket, manifest, ours=claims.number < 0)
        if claims.number >= 0:
            self._chain.tidy()
        return kept

    def _is_others(self) -> bool:
        """Tell whether what lies there was put by somebody at the same instant as ours.

        Some stores let two create the same, and the later stays; its writer puts a manifest soon.
        """
        for _ in range(_LOOKS):
            if self._bucket.size(manifest_of(self._item)) is not None:
                return True
            time.sleep(_LOOK_S)
        return False

    def _finish_large(self, manifest: Manifest) -> Manifest | None:
        if self._upload is None or self._claim is None:
            return None
        key = self._item.key
        self._upload.write(self._kept)
        try:
            self._claim.check()
        except ClaimLost:
            self._upload.abort()
            self._chain.wait()
            if self._bucket.size(key) is None:
                raise
            return None
        if self._bucket.size(key) is not None:
            return None
        self._upload.finish()
        self._claim.check()
        if stored_sums(self._bucket.pieces(key)) != (manifest.size, manifest.sha256):
            self._claim.check()
            self._bucket.delete(key)
            raise IntegrityError("what was read back is not what was written")
        kept = keep_manifest(self._bucket, manifest, ours=True)
        self._claim.remove()
        self._claim = None
        return kept

    def _end(self) -> None:
        if self._ended:
            raise StorageError("the writer was ended before")
        self._ended = True

    def _drop(self) -> None:
        self._kept = bytearray()
        if self._upload is not None:
            self._upload.abort()
        if self._claim is not None:
            self._claim.give_back()
            self._claim = None


class _Aborted(Exception):
    """Ends an upload from within."""


class _Upload:
    """Parts being put, by a thread of its own: the library pulls, our caller pushes."""

    def __init__(self, bucket: Bucket, item: NewItem) -> None:
        self._bucket = bucket
        self._item = item
        self._pieces: queue.Queue[Piece | None] = queue.Queue(_WAITING)
        self._aborted = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="archive-upload", daemon=True)
        self._thread.start()

    def write(self, piece: Piece) -> None:
        """Hand a piece over; it must not be changed any more.

        Raises:
            StorageError, TransportError, AuthError: An earlier piece could not be put.
        """
        self._push(piece)

    def finish(self) -> None:
        """Wait until the store has all of it, and shows it."""
        self._push(None)
        self._thread.join()
        self._raise()

    def abort(self) -> None:
        """End the upload; harmless after its end."""
        self._aborted = True
        while self._thread.is_alive():
            try:
                self._pieces.put(None, timeout=_LOOK_S)
            except queue.Full:
                continue
            self._thread.join(_LOOK_S)

    def _push(self, piece: Piece | None) -> None:
        while self._thread.is_alive():
            try:
                self._pieces.put(piece, timeout=_LOOK_S)
            except queue.Full:
                continue
            return
        self._raise()
        raise StorageError("the upload ended too early")

    def _raise(self) -> None:
        failure = self._failure
        if failure is None:
            return
        if isinstance(failure, (failures.BaseError, OSError)):
            raise failure_of(failure) from None
        raise StorageError("the upload failed", cause=type(failure).__name__)

    def _run(self) -> None:
        try:
            self._bucket.put_parts(self._item.key, self._pulled(), _attributes(self._item))
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self._failure = error

    def _pulled(self) -> Iterator[Piece]:
        while (piece := self._pieces.get()) is not None:
            if self._aborted:
                break
            yield piece
        if self._aborted:
            raise _Aborted


def _attributes(item: NewItem) -> dict[str, str]:
    attributes = {"Content-Type": item.content_type}
    if item.content_encoding:
        attributes["Content-Encoding"] = item.content_encoding
    return attributes
