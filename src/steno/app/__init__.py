"""The composition root: builds every object from the settings, and nothing else does."""

from steno.app.gateway import run_gateway

__all__ = ["run_gateway"]
