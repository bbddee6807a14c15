"""Rules for every test: nothing may stay behind, and Hypothesis has no clock."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy, so time says nothing about a test.
settings.register_profile("steno", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("steno"), max_examples=5000)
settings.load_profile("steno")

TASK_GRACE_S = 1.0
SOCKET_GRACE_S = 3.0
_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Watch the tasks of every asynchronous test, before any fixture of its own is made."""
    if not isinstance(item, pytest.Function):
        return
    property_test = getattr(item.obj, "hypothesis", None)
    body = item.obj if property_test is None else property_test.inner_test
    if inspect.iscoroutinefunction(body):
        item.fixturenames.insert(0, "no_task_left")


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail a test which leaves a task running, once its fixtures are gone."""
    before = asyncio.all_tasks()
    yield
    loop = asyncio.get_running_loop()
    end = loop.time() + TASK_GRACE_S
    while (left := _left(before)) and loop.time() < end:
        await asyncio.wait(left, timeout=0.05)
    names = sorted(task.get_coro().__qualname__ for task in left)  # type: ignore[union-attr]
    if left:
        pytest.fail(f"tasks left behind: {', '.join(names)}", pytrace=False)


def _left(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    now = asyncio.all_tasks() - before
    return {task for task in now if task is not asyncio.current_task()}


@pytest.fixture(autouse=True)
def no_socket_left() -> Iterator[None]:
    """Fail a test which leaves a TCP socket open.

    gRPC closes its sockets from a thread of its own, hence the grace. Sockets made by fixtures
    of a wider scope were there before and do not count.
    """
    before = _sockets()
    yield
    if not _tcp(_sockets() - before):
        return
    gc.collect()
    end = time.monotonic() + SOCKET_GRACE_S
    while left := _tcp(_sockets() - before):
        if time.monotonic() > end:
            pytest.fail(f"{len(left)} TCP sockets left open", pytrace=False)
        time.sleep(0.02)


def _sockets() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the folder's own descriptor is gone by now
            continue
        if name.startswith("socket:["):
            found.add(name[8:-1])
    return found


def _tcp(inodes: set[str]) -> set[str]:
    if not inodes:
        return inodes
    known: set[str] = set()
    for table in _TABLES:
        if table.exists():
            known |= {line.split()[9] for line in table.read_text().splitlines()[1:]}
    return inodes & known
