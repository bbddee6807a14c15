"""Stored transcripts of one region."""

from __future__ import annotations

from aiohttp import web

from steno_sim.archive.settings import ArchiveSettings
from steno_sim.region import Region
from steno_sim.world import World


class Archive:
    """Stored transcripts of one region.

    Args:
        region: Whose tokens, limits and faults hold.
        world: Whose conversations have transcripts of what was said.
        settings: Their behaviour.
    """

    def __init__(self, region: Region, world: World, settings: ArchiveSettings) -> None:
        self.settings = settings
        self._region = region
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        """Give the routes of stored transcripts."""
        return []

    def stats(self) -> dict[str, object]:
        """Give the counts."""
        return {}
