"""Files without a name."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from steno.adapters.private_file import PrivateFile
from steno.errors import StorageError, StorageFull


def test_what_is_written_comes_back_and_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lines and as a whole."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = PrivateFile()
    file.write(b"one\n")
    file.write(b"two\n")
    assert list(tmp_path.iterdir()) == []
    assert b"".join(file.pieces()) == b"one\ntwo\n"
    file.seek(4)
    assert list(file) == [b"two\n"]
    file.close()
    file.close()


def test_no_room_is_told_as_such_and_closing_is_no_second_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether it shows when it is written or when what is buffered is read."""
    if not os.path.exists("/dev/full"):
        pytest.skip("the system has no device that is always full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda mode: open("/dev/full", mode))  # noqa: SIM115
    small, large = PrivateFile(), PrivateFile()
    small.write(b"few")
    with pytest.raises(StorageFull, match="TMPDIR") as found:
        small.seek(0)
    assert found.value.fields["errno"] == errno.ENOSPC
    with pytest.raises(StorageFull):
        large.write(bytes(1 << 20))
    small.close()
    large.close()


def test_a_folder_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error of ours."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))
    with pytest.raises(StorageError):
        PrivateFile()
