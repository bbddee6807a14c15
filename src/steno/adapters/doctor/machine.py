"""Checks of this machine: the state directory and the database library."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from steno.adapters.doctor.findings import Area, Finding, fail, ok, warn

LEAST_SQLITE: Final = (3, 51, 3)
"""Older ones can lose data when the write-ahead log is reset (WAL-reset bug)."""

LOW_SPACE_BYTES: Final = 1024**3
NO_SPACE_BYTES: Final = 64 * 1024**2


def check_state_dir(folder: Path) -> list[Finding]:
    """Look at mode, owner, space and whether a file can be made; nothing is left behind.

    A folder that is not there yet is no fault: it is made at the first start.
    """
    check = "state directory"
    try:
        found = folder.stat()
    except FileNotFoundError:
        parent = next((p for p in folder.parents if p.exists()), folder)
        if not os.access(parent, os.W_OK | os.X_OK):
            return [fail(check, "it cannot be made", "Choose another --state-dir", Area.MACHINE)]
        return [ok(check, "not there yet; made at the first start", Area.MACHINE), _space(parent)]
    except OSError as error:
        what = f"it cannot be looked at ({type(error).__name__})"
        return [fail(check, what, "Check its path and rights", Area.MACHINE)]
    findings = []
    if found.st_uid != os.geteuid():
        findings.append(fail(check, "it belongs to somebody else", "Run chown on it", Area.MACHINE))
    elif found.st_mode & 0o077:
        what = f"others have rights on it (mode {found.st_mode & 0o777:04o})"
        findings.append(fail(check, what, "Run chmod 700 on it", Area.MACHINE))
    else:
        findings.append(check_writable(check, folder))
    return [*findings, _space(folder)]


def check_sqlite() -> Finding:
    """Look at the version of SQLite that the database really uses."""
    import apsw

    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")[:3]) >= LEAST_SQLITE:
        return ok("SQLite", f"version {version}", Area.MACHINE)
    least = ".".join(map(str, LEAST_SQLITE))
    return fail("SQLite", f"version {version}", f"apsw with SQLite {least} or newer", Area.MACHINE)


def check_writable(check: str, folder: Path, found: str = "mode 0700, writable") -> Finding:
    """Write a file into a folder and remove it; ``found`` is what is said when it works."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        what = f"nothing can be written there ({type(error).__name__})"
        return fail(check, what, "Check its rights and the disk", Area.MACHINE)
    return ok(check, found, Area.MACHINE)


def _space(folder: Path) -> Finding:
    check = "disk space"
    free = shutil.disk_usage(folder).free
    what = f"{free // 1024**2} MiB free"
    if free < NO_SPACE_BYTES:
        return fail(check, what, "Free some: nothing can be stored otherwise", Area.MACHINE)
    if free < LOW_SPACE_BYTES:
        return warn(check, what, "Free some, or shorten store.acked_days", Area.MACHINE)
    return ok(check, what, Area.MACHINE)
