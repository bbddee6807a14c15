"""Object stores by their address, and their library's exceptions as classes of ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from obstore import exceptions as failures
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store, from_url

from steno.errors import ConfigError

_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "file", "memory"})

REASONS: Final[dict[type[BaseException], str]] = {
    failures.PermissionDeniedError: "AuthError",
    failures.UnauthenticatedError: "AuthError",
    failures.NotFoundError: "ObjectMissing",  # the bucket
    failures.GenericError: "PeerUnavailable",
    failures.JoinError: "StorageError",
    failures.InvalidPathError: "StorageError",
    failures.NotSupportedError: "StorageError",
    failures.NotModifiedError: "StorageError",
    failures.PreconditionError: "PeerUnavailable",  # lost a race against ourselves: again
    failures.AlreadyExistsError: "PeerUnavailable",
    failures.UnknownConfigurationKeyError: "ConfigError",
    failures.BaseError: "StorageError",
}
"""Every exception of the library as a class of ours; none of them is about a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """One bucket or folder.

    Attributes:
        url: ``s3://bucket/prefix``, ``gs://…``, ``az://…``, ``file:///folder`` or
            ``memory:///``. Credentials come from the provider's own variables.
        endpoint, region: Of an S3-compatible service.
        deadline_s: Limit of one request with the library's own retries.
        options: Further settings of the store, by the library's names.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    deadline_s: float = 30.0
    options: dict[str, Any] = field(default_factory=dict)  # the library's own names and types


def reason_of(error: BaseException) -> str:
    """Return the class of ours for an exception of the library."""
    for kind in type(error).__mro__:
        if kind in REASONS:
            return REASONS[kind]
    return "StorageError"


def open_store(settings: StoreSettings) -> tuple[ObjectStore, str, Path | None]:
    """Return the store, the prefix of every key in it, and the folder when it is local.

    Raises:
        ConfigError: URL or options are not acceptable.
    """
    parts = urlsplit(settings.url)
    if parts.scheme not in _SCHEMES or parts.username or parts.password or parts.query:
        raise ConfigError(
            "the object store's URL is not one we know",
            setting="url",
            fix="Write s3://bucket/prefix, gs://…, az://… or file:///folder.",
        )
    path = unquote(parts.path)
    if any(part in ("..", ".") for part in path.split("/")) or not path.isprintable():
        raise ConfigError("the prefix is not acceptable", setting="url")
    try:
        if parts.scheme == "memory":
            return MemoryStore(), _prefix(path), None
        if parts.scheme == "file":
            folder = Path(path)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return LocalStore(folder), "", folder
        return _remote(settings, parts.scheme, parts.netloc), _prefix(path), None
    except (failures.BaseError, OSError, ValueError, TypeError) as error:
        # The library's words may quote credentials from the environment.
        raise ConfigError(
            "the object store cannot be used", setting="url", error_class=type(error).__name__
        ) from None


def _remote(settings: StoreSettings, scheme: str, bucket: str) -> ObjectStore:
    options = dict(settings.options)
    # Short: the relay waits and retries, and it knows about the other destinations.
    options.setdefault(
        "retry_config",
        {"max_retries": 3, "retry_timeout": timedelta(seconds=settings.deadline_s)},
    )
    if settings.region:
        options["region"] = settings.region
    if scheme in ("s3", "s3a"):
        if settings.endpoint:
            options["endpoint"] = settings.endpoint
            if settings.endpoint.startswith("http://"):
                options.setdefault("client_options", {"allow_http": True})
        return S3Store(bucket, **options)
    return from_url(f"{scheme}://{bucket}", **options)


def _prefix(path: str) -> str:
    trimmed = path.strip("/")
    return f"{trimmed}/" if trimmed else ""
