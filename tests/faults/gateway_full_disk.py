"""``steno`` on a disk that is full while a file exists, for machines where none can be mounted.

Usage: gateway_full_disk.py FLAG live …
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import apsw

from steno.adapters.store_sqlite import SqliteStore

NAME = "steno-full-disk"


class FullFile(apsw.VFSFile):
    """A file that takes no more while the flag is there."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], flag: Path) -> None:
        super().__init__("", name, flags)
        self._flag = flag

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # the interface's name
        if self._flag.exists():
            raise apsw.FullError
        super().xWrite(data, offset)

    def excepthook(self, *args: object) -> bool:
        return True


class FullDisk(apsw.VFS):
    """SQLite's way to files, with ``FullFile`` in it."""

    def __init__(self, flag: Path) -> None:
        super().__init__(NAME, "")
        self._flag = flag

    def xOpen(  # noqa: N802  # the interface's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return FullFile(name, flags, self._flag)

    def excepthook(self, *args: object) -> bool:
        return True


if __name__ == "__main__":
    disk = FullDisk(Path(sys.argv.pop(1)))
    SqliteStore.open = partial(SqliteStore.open, vfs=NAME)  # type: ignore[method-assign]
    from steno.cli.main import main

    main()
