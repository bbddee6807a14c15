"""``host:port``, as listeners and gRPC consumers are written."""

from __future__ import annotations

from steno.errors import ConfigError


def split_address(text: str, *, setting: str, origin: str = "") -> tuple[str, int]:
    """Return host and port of ``host:port``; IPv6 in brackets; an empty host means all.

    Raises:
        ConfigError: Not of that form.
    """
    name, colon, port = text.strip().rpartition(":")
    bracketed = name.startswith("[") and name.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise _wrong(setting, origin)
    host = name[1:-1] if bracketed else name
    if (":" in host and not bracketed) or any(c.isspace() or c in "/@[]" for c in host):
        raise _wrong(setting, origin)
    return host, int(port)


def _wrong(setting: str, origin: str) -> ConfigError:
    return ConfigError("not an address", setting=setting, origin=origin, fix="Write host:port.")
