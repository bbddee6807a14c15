"""What commands that run inside the test's own process must not leave behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """A command narrows the process's umask; the next test has the usual one."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
