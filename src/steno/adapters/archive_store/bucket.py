"""An archive in a bucket: S3 and what speaks like it, Google Cloud, Azure, memory."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import obstore
from obstore import exceptions as failures

from steno.adapters.archive_store.content import Piece
from steno.adapters.archive_store.keys import MANIFESTS
from steno.adapters.archive_store.place import MAX_MANIFEST_BYTES, Listed
from steno.adapters.archive_store.settings import ArchiveSettings
from steno.adapters.object_store import StoreSettings, open_store, reason_of
from steno.errors import (
    AuthError,
    ConfigError,
    IntegrityError,
    ObjectMissing,
    PeerUnavailable,
    StenoError,
    StorageError,
)
from steno.ports.archive import ArchiveWriter, NewItem

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from steno.ports import Telemetry

PARTS_AT_ONCE: Final = 2

_JSON: Final = "application/json"
_PROBE: Final = f"{MANIFESTS}/.conditional"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_STATUS: Final = re.compile(r"status code: (\d{3}) ")
_DENIED: Final = frozenset({401, 403})
_PASSING: Final = frozenset({408, 429})
_REFUSED: Final = (failures.AlreadyExistsError, failures.PreconditionError)


def open_bucket(settings: ArchiveSettings, telemetry: Telemetry | None) -> Bucket:
    """Return the bucket at an address.

    Raises:
        ConfigError: Address or an option is not acceptable.
    """
    parts = urlsplit(settings.url)
    if parts.scheme != "memory" and not parts.netloc:
        raise ConfigError(
            "the archive's address names no bucket",
            setting="archive.url",
            fix="Write s3://bucket/prefix, gs://…, az://…, file:///folder, or a plain path.",
        )
    store, prefix, _ = open_store(
        StoreSettings(
            url=settings.url,
            endpoint=settings.endpoint,
            region=settings.region,
            deadline_s=settings.deadline_s,
            options=settings.options,
        )
    )
    base = f"{parts.scheme}://{parts.netloc}/{prefix}"
    # Whoever speaks S3 is asked: many do, and not all keep conditions.
    is_known = parts.scheme not in ("s3", "s3a")
    return Bucket(store, base, prefix, settings, telemetry, is_known=is_known)


class Bucket:
    """Objects below a prefix.

    Args:
        base: Address of the prefix, with ``/`` at its end.
        is_known: The store is known to put conditionally.
    """

    def __init__(
        self,
        store: ObjectStore,
        base: str,
        prefix: str,
        settings: ArchiveSettings,
        telemetry: Telemetry | None,
        *,
        is_known: bool,
    ) -> None:
        self._store = store
        self._base = base
        self._prefix = prefix
        self._telemetry = telemetry
        self._conditional: bool | None = True if is_known else None
        self._lock = threading.Lock()
        self.settings = settings

    def url_of(self, key: str) -> str:
        """Return ``s3://bucket/prefix/key``."""
        return self._base + key

    def writer(self, item: NewItem) -> ArchiveWriter:
        """Begin an object."""
        from steno.adapters.archive_store.bucket_writer import BucketWriter

        return BucketWriter(self, item)

    def create(self, name: str, data: bytes) -> bool:
        """Put something small, unless there is something of that name."""
        return self.put_new(name, data, {"Content-Type": _JSON})

    def put_new(self, name: str, data: bytes, attributes: dict[str, str]) -> bool:
        """Put an object in one request, on condition; False when there is one of that name.

        Without conditions of the store it is looked for and then put: who puts between the two
        is overwritten.
        """
        if self._is_conditional():
            return self._put(name, data, attributes, mode="create")
        return self.size(name) is None and self._put(name, data, attributes, mode="overwrite")

    def put_parts(self, name: str, pieces: Iterator[Piece], attributes: dict[str, str]) -> None:
        """Put an object in parts; the store shows it when the last one is there.

        An exception of ``pieces`` passes through, and what was put is taken back.
        """
        # Not within `_told`: what `pieces` raises is not the store's.
        obstore.put(
            self._store,
            self._prefix + name,
            pieces,
            attributes=attributes,
            use_multipart=True,
            chunk_size=self.settings.part_bytes,
            max_concurrency=PARTS_AT_ONCE,
        )

    def small(self, name: str) -> bytes | None:
        """Return something small."""
        try:
            found = obstore.get(self._store, self._prefix + name)
            if found.meta["size"] > MAX_MANIFEST_BYTES:
                raise IntegrityError("a manifest is too large")
            return bytes(found.bytes())
        except FileNotFoundError as error:
            if is_bucket(error):
                raise failure_of(error) from None
            return None
        except (failures.BaseError, OSError) as error:
            raise failure_of(error) from None

    def size(self, name: str) -> int | None:
        """Return an object's size."""
        try:
            return int(obstore.head(self._store, self._prefix + name)["size"])
        except FileNotFoundError:
            return None
        except (failures.BaseError, OSError) as error:
            raise failure_of(error) from None

    def pieces(self, name: str) -> Iterator[Piece]:
        """Return what is stored, a part at a time: each has the whole time of a request."""
        size = self.size(name)
        if size is None:
            raise ObjectMissing("there is no such archived object")
        return self._ranges(name, size)

    def names(self, folder: str) -> Iterator[Listed]:
        """Return all below a folder, in order, a thousand at a time."""
        skip = len(self._prefix)
        try:
            for chunk in obstore.list(self._store, self._prefix + folder, chunk_size=1000):
                for found in chunk:
                    modified = (found["last_modified"] - _EPOCH) // _US
                    yield Listed(found["path"][skip:], found["size"], modified)
        except (failures.BaseError, OSError) as error:
            raise failure_of(error) from None

    def delete(self, name: str) -> bool:
        """Delete an object; looked for first, because stores do not tell."""
        if self.size(name) is None:
            return False
        try:
            obstore.delete(self._store, self._prefix + name)
        except FileNotFoundError:
            return False
        except (failures.BaseError, OSError) as error:
            raise failure_of(error) from None
        return True

    def _ranges(self, name: str, size: int) -> Iterator[Piece]:
        step = self.settings.part_bytes
        for start in range(0, size, step):
            end = min(start + step, size)
            try:
                found = obstore.get_range(self._store, self._prefix + name, start=start, end=end)
            except FileNotFoundError:
                raise ObjectMissing("the archived object was deleted meanwhile") from None
            except (failures.BaseError, OSError) as error:
                raise failure_of(error) from None
            if len(found) != end - start:
                raise PeerUnavailable("the object store gave less than it said")
            yield memoryview(found)

    def _put(self, name: str, data: bytes, attributes: dict[str, str], *, mode: Any) -> bool:
        # Any: the library's literal and dictionary types
        try:
            obstore.put(
                self._store,
                self._prefix + name,
                data,
                attributes=attributes,
                mode=mode,
                use_multipart=False,
            )
        except _REFUSED:
            return False
        except (failures.BaseError, OSError) as error:
            raise failure_of(error) from None
        return True

    def _is_conditional(self) -> bool:
        """Tell whether the store refuses to create twice. It is asked once, where not known."""
        with self._lock:
            if self._conditional is None:
                self._conditional = self._found_conditional()
                if not self._conditional and self._telemetry is not None:
                    self._telemetry.warning("archive.unconditional_store_met")
            return self._conditional

    def _found_conditional(self) -> bool:
        """Put the same twice on condition. What is put stays, and saves others one of the two."""
        for _ in range(2):
            try:
                obstore.put(
                    self._store, self._prefix + _PROBE, b"{}", mode="create", use_multipart=False
                )
            except _REFUSED:
                return True
            except (failures.BaseError, OSError) as error:
                if _is_unknown(error):
                    return False
                raise failure_of(error) from None
        return False


def _is_unknown(error: BaseException) -> bool:
    """Tell whether the store knows no conditions; stores that do not may also ignore them."""
    return isinstance(error, failures.NotSupportedError) or "501 Not Implemented" in str(error)


def is_bucket(error: BaseException) -> bool:
    """Tell whether the bucket is what is missing. The words go nowhere else."""
    return "NoSuchBucket" in str(error)


def _status_of(error: BaseException) -> int:
    """Return the HTTP status that the library's words tell; 0 for none."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def failure_of(error: BaseException) -> StenoError:
    """Return an exception of the library as one of ours; its words may quote credentials."""
    if isinstance(error, FileNotFoundError) or is_bucket(error):
        return ObjectMissing("there is no such bucket", fix="Make it, or name another.")
    reason = reason_of(error)
    # Much fails without a class of its own, lists all the time.
    status = _status_of(error)
    if reason == "AuthError" or status in _DENIED:
        return AuthError(
            "the object store refused our credentials",
            fix="They come from the provider's own variables, such as AWS_ACCESS_KEY_ID.",
        )
    if (400 <= status < 500 and status not in _PASSING) or "redirect" in str(error):
        return StorageError(
            "the object store refused the request",
            fix="Look at the bucket's name, its region, and the endpoint.",
            status=status or None,
        )
    if reason == "PeerUnavailable":
        return PeerUnavailable("the object store is unavailable")
    if reason == "ConfigError":
        return ConfigError("an option of the object store is not known", setting="archive.url")
    return StorageError("the object store cannot be used", cause=reason)
