"""The state directory and its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from steno.adapters.state_dir import StateDir, default_state_dir
from steno.errors import ConfigError, StorageError

HOLD = """
import sys
from pathlib import Path
from steno.adapters.state_dir import StateDir
StateDir(Path(sys.argv[1])).lock()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/var/state", "HOME": "/home/x"}, "/var/state/steno"),
        ({"HOME": "/home/x"}, "/home/x/.local/state/steno"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/x"}, "/home/x/.local/state/steno"),
    ],
)
def test_the_default_follows_the_xdg_rules(environment: dict[str, str], expected: str) -> None:
    """``$XDG_STATE_HOME/steno`` where it is set to a whole path."""
    assert default_state_dir(environment) == Path(expected)


def test_naming_it_touches_nothing(tmp_path: Path) -> None:
    """Only ``prepare`` and ``lock`` make the directory."""
    state = StateDir(tmp_path / "steno")
    assert state.owner_pid() is None
    assert state.database.parent == state.root
    assert not state.root.exists()


def test_it_is_for_its_owner_only(tmp_path: Path) -> None:
    """Made with 0700, and closed where it was open."""
    root = tmp_path / "deep" / "steno"
    root.mkdir(parents=True, mode=0o755)
    state = StateDir(root)
    state.prepare()
    for folder in (root, state.tokens):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Its owner could read and replace what is stored."""
    os.chown(tmp_path, 65534, 65534)
    try:
        with pytest.raises(ConfigError, match="another user"):
            StateDir(tmp_path).prepare()
    finally:
        os.chown(tmp_path, 0, 0)


def test_a_file_in_its_place_is_a_clear_error(tmp_path: Path) -> None:
    """The error names the setting."""
    (tmp_path / "steno").touch()
    with pytest.raises(ConfigError) as caught:
        StateDir(tmp_path / "steno").prepare()
    assert caught.value.setting == "state_dir"


def test_one_owner_at_a_time_and_the_kernel_takes_the_lock_back(tmp_path: Path) -> None:
    """A second process is told the pid of the first; after a kill the directory is free."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        state = StateDir(tmp_path)
        with pytest.raises(StorageError) as caught:
            state.lock()
        assert caught.value.fields["pid"] == holder.pid
        assert str(holder.pid) in str(caught.value)
        assert state.owner_pid() == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with state:
        assert state.owner_pid() == os.getpid()
        assert StateDir(tmp_path).owner_pid() == os.getpid()
        with pytest.raises(StorageError, match="another process"):
            StateDir(tmp_path).lock()
    assert state.owner_pid() is None
    assert StateDir(tmp_path).owner_pid() is None
