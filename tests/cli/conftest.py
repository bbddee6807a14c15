"""What commands that run inside the test's own process must not leave behind."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """A command narrows the umask and takes over stray errors and libraries' logs."""
    mask = os.umask(0o022)
    os.umask(mask)
    root = logging.getLogger()
    hooks = sys.unraisablehook, threading.excepthook
    handlers, level = list(root.handlers), root.level
    yield
    os.umask(mask)
    sys.unraisablehook, threading.excepthook = hooks
    root.handlers[:] = handlers
    root.setLevel(level)
