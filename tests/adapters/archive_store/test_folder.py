"""A local folder: private, durable, whole or not at all, and cheap."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.archive_store_contract import MB, content_of, large, put
from steno.adapters.archive_store import Archive, ArchiveSettings, open_archive
from steno.errors import ConfigError, StorageError, StorageFull
from steno.ports.archive import WriteOutcome


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """A folder that is not there yet."""
    return open_archive(ArchiveSettings(url=str(tmp_path / "a" / "b")))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def parts(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "a" / "b" / ".uploads").glob("*.part"))


def test_files_and_folders_are_for_their_owner_only(archive: Archive, tmp_path: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        put(archive, archive.item("conv-1", communication="c", at_us=0), b"{}")
    finally:
        os.umask(before)
    for path in (tmp_path / "a").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_nothing_is_made_before_it_is_used(archive: Archive, tmp_path: Path) -> None:
    """Looking makes no folders."""
    assert archive.manifest("transcripts/c.json") is None
    assert list(archive.manifests()) == []
    assert archive.erase("conv-1") == 0
    assert list(tmp_path.iterdir()) == []


def test_addresses_may_be_plain_or_urls(tmp_path: Path) -> None:
    """Both name the same folder, blanks and all."""
    plain = open_archive(ArchiveSettings(url=str(tmp_path / "a b")))
    done = put(plain, plain.item("conv-1", at_us=0), b"{}")
    assert done.url == (tmp_path / "a b" / "transcripts" / "conv-1.json").as_uri()
    by_url = open_archive(ArchiveSettings(url=(tmp_path / "a b").as_uri()))
    assert content_of(by_url, "transcripts/conv-1.json") == b"{}"
    for url in ("file://host/a", "file:///a/../b", "", " "):
        with pytest.raises(ConfigError):
            open_archive(ArchiveSettings(url=url))


def test_a_full_disk_is_told_and_leaves_nothing(archive: Archive, tmp_path: Path) -> None:
    """No part of a file stays, and the same work succeeds later."""
    item = archive.item("conv-1", at_us=0)
    with largest_file(4 * 1024 * 1024), pytest.raises(StorageFull):
        put(archive, item, large(size=8 * MB))
    assert parts(tmp_path) == []
    assert archive.manifest(item.key) is None
    assert put(archive, item, large(size=8 * MB)).outcome is WriteOutcome.WRITTEN


def test_a_disk_that_fills_up_before_the_manifest(archive: Archive, tmp_path: Path) -> None:
    """The object is there, and a rerun gives it its manifest."""
    item = archive.item("conv-1", at_us=0)
    writer = archive.writer(item)
    writer.write(b"{}")
    with largest_file(100), pytest.raises(StorageFull):
        writer.finish(b'{"archived_at":"2026-03-01T10:00:00Z"}')
    assert parts(tmp_path) == []
    assert put(archive, item, b"{}").outcome is WriteOutcome.SAME
    found = archive.manifest(item.key)
    assert found is not None
    assert archive.verify(found).problem == ""


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    """The archive's folder is a file."""
    (tmp_path / "a").write_text("x")
    archive = open_archive(ArchiveSettings(url=str(tmp_path / "a")))
    with pytest.raises(StorageError):
        archive.writer(archive.item("conv-1", at_us=0))


def test_a_link_in_the_way_is_not_followed(archive: Archive, tmp_path: Path) -> None:
    """What lies at a key is a file of ours or an error."""
    (tmp_path / "secret").write_text("{}")
    item = archive.item("conv-1", at_us=0)
    put(archive, item, b"{}")
    place = tmp_path / "a" / "b" / item.key
    place.unlink()
    place.symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError):
        put(archive, item, b"{}")
    with pytest.raises(StorageError):
        content_of(archive, item.key)


def test_what_a_killed_writer_left_goes_and_what_a_live_one_writes_stays(
    archive: Archive, tmp_path: Path
) -> None:
    """A lock tells them apart; younger ones are left alone."""
    uploads = tmp_path / "a" / "b" / ".uploads"
    live = archive.writer(archive.item("conv-1", at_us=0))
    live.write(large())
    (live_part,) = parts(tmp_path)
    (uploads / "old.part").write_bytes(b"x")
    (uploads / "young.part").write_bytes(b"x")
    for path in (live_part, uploads / "old.part"):
        os.utime(path, (time.time() - 3600,) * 2)
    other = open_archive(ArchiveSettings(url=str(tmp_path / "a" / "b")))
    put(other, other.item("conv-2", at_us=0), b"{}")
    assert sorted(parts(tmp_path)) == sorted([live_part, uploads / "young.part"])
    assert live.finish(b"{}").outcome is WriteOutcome.WRITTEN


def test_a_file_system_without_links_is_written_in_turn(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By renaming, which is whole, too; nothing is overwritten."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    item = archive.item("conv-1", at_us=0)
    assert put(archive, item, b"{}").outcome is WriteOutcome.WRITTEN
    assert put(archive, item, b"{}").outcome is WriteOutcome.SAME
    with pytest.raises(StorageError):
        put(archive, item, b"[]")
    assert content_of(archive, item.key) == b"{}"


def test_what_was_read_back_decides(archive: Archive, tmp_path: Path) -> None:
    """A file that is not what was written is never given its place."""
    item = archive.item("conv-1", at_us=0)
    writer = archive.writer(item)
    writer.write(large(size=MB))
    (part,) = parts(tmp_path)
    with part.open("r+b") as file:
        file.write(b"?")
    with pytest.raises(StorageError, match="read back"):
        writer.finish(b"{}")
    assert archive.manifest(item.key) is None
    assert not (tmp_path / "a" / "b" / item.key).exists()
    assert parts(tmp_path) == []


def test_memory_does_not_grow_with_what_is_written(archive: Archive) -> None:
    """A few buffers, for 64 MB as for one."""
    piece = large(size=100_000)
    tracemalloc.start()
    try:
        writer = archive.writer(archive.item("conv-1", at_us=0))
        for _ in range(640):
            writer.write(piece)
        writer.finish(b"{}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_reading_a_bomb_takes_no_more_than_a_block(archive: Archive, tmp_path: Path) -> None:
    """What is compressed is given in pieces, however much a piece of it holds."""
    packed = open_archive(ArchiveSettings(url=str(tmp_path / "a" / "b"), compress=True))
    item = packed.item("conv-1", at_us=0)
    writer = packed.writer(item)
    for _ in range(64):
        writer.write(bytes(1024 * 1024))
    assert writer.finish(b"{}").manifest.size < 64 * 1024
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in packed.read(item.key))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 64 * 1024 * 1024
    assert peak < 8 * 1024 * 1024


def test_heavy_libraries_are_not_needed_for_a_folder(tmp_path: Path) -> None:
    """Neither the object stores' nor compression's nor tables'."""
    code = (
        "import sys\n"
        "from steno.adapters.archive_store import ArchiveSettings, open_archive\n"
        f"archive = open_archive(ArchiveSettings(url={str(tmp_path)!r}))\n"
        "writer = archive.writer(archive.item('c', at_us=0))\n"
        "writer.finish(b'{}')\n"
        "print(sorted({'obstore', 'zstandard', 'polars', 'numpy', 'aiohttp'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
