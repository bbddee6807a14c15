"""A Swift server for the tests of one process, started by the first that wants it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import swift


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[swift.Swift]:
    """A running server; skipped where it is not installed, unless it has to be."""
    if not swift.is_installed() and not swift.IS_REQUIRED:
        pytest.skip(swift.MISSING)
    server = swift.Swift(Path(tmp_path_factory.mktemp("swift")))
    try:
        server.start()
        yield server
    finally:
        server.stop()
