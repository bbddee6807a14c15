"""Opening the archive of the settings."""

from __future__ import annotations

from steno.adapters.archive_store import Archive, ArchiveSettings, open_archive
from steno.config import Config
from steno.ports import Telemetry


def place_of(config: Config, telemetry: Telemetry | None = None) -> Archive:
    """Open the archive of the settings. Nothing is sent before it is used.

    Args:
        telemetry: Told where a store cannot refuse to write over what is there.

    Raises:
        ConfigError: Its address or key template is not acceptable.
        StorageError: The local folder cannot be made.
    """
    wanted = config.archive
    return open_archive(
        ArchiveSettings(
            url=wanted.url,
            endpoint=wanted.endpoint,
            region=wanted.region,
            key=wanted.key,
            compress=wanted.compress,
        ),
        telemetry,
    )
