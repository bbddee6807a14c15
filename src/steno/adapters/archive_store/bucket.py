"""An archive in a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steno.adapters.archive_store.place import Place
from steno.adapters.archive_store.settings import ArchiveSettings
from steno.errors import ConfigError

if TYPE_CHECKING:
    from steno.ports import Telemetry


def open_bucket(settings: ArchiveSettings, telemetry: Telemetry | None) -> Place:
    """Return the bucket at an address.

    Raises:
        ConfigError: Address or an option is not acceptable.
    """
    raise ConfigError("object storage is not there yet", setting="archive.url")
