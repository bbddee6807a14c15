"""The WebSocket server that takes call audio: TCP, TLS, upgrades, frames and a reading rhythm."""

from __future__ import annotations

from steno.adapters.audio_server.server import AudioServer
from steno.adapters.audio_server.settings import ServerSettings

__all__ = ["AudioServer", "ServerSettings"]
