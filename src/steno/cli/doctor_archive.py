"""The part of ``steno doctor`` that looks at the archive of stored transcripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steno.adapters.doctor import Finding
    from steno.config import Config

CHECK = "archive"


def wants_archive(config: Config) -> bool:
    """Tell whether somebody has said where the archive is; the default bucket is left alone."""
    return "archive.url" in config.origins


async def examine_archive(config: Config, tell: Callable[[Finding], None]) -> None:
    """Put something small into the archive, read it and delete it; tell whether that works."""
    import asyncio

    from steno.adapters.doctor import Area, Finding, Verdict
    from steno.adapters.doctor.findings import failed_by
    from steno.app.archive_place import place_of
    from steno.errors import AuthError, ConfigError, StenoError

    try:
        await asyncio.to_thread(lambda: place_of(config).probe())
    except (AuthError, ConfigError) as error:
        tell(failed_by(CHECK, error))
    except StenoError as error:
        tell(failed_by(CHECK, error, area=Area.CONSUMER))
    else:
        what = "it can be written, read and deleted from"
        tell(Finding(CHECK, Verdict.OK, what, area=Area.CONSUMER))
