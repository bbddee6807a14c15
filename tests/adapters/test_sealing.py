"""Sealing, and the key file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.adapters.sealing import KEY_BYTES, AesGcmSealer, load_sealer
from steno.errors import ConfigError, IntegrityError, StorageError

SEALER = AesGcmSealer(bytes(range(KEY_BYTES)))


@given(st.binary(max_size=4000), st.text(max_size=50))
def test_what_is_sealed_opens_to_the_same(plain: bytes, context: str) -> None:
    """Round trip, and never the same bytes twice."""
    sealed = SEALER.seal(plain, context=context)
    assert SEALER.open(sealed, context=context) == plain
    assert SEALER.seal(plain, context=context) != sealed


def test_nothing_of_the_plain_text_is_visible() -> None:
    """Not even a part of it."""
    sealed = SEALER.seal(b"my number is four one five" * 10, context="c")
    assert b"number" not in sealed


@given(st.integers(min_value=0), st.integers(1, 255))
def test_any_change_is_noticed(at: int, flip: int) -> None:
    """Every byte is authenticated."""
    sealed = bytearray(SEALER.seal(b"secret words", context="c"))
    sealed[at % len(sealed)] ^= flip
    with pytest.raises(IntegrityError):
        SEALER.open(bytes(sealed), context="c")


def test_every_truncation_is_noticed() -> None:
    """A blob cut anywhere does not open."""
    sealed = SEALER.seal(b"secret words", context="c")
    for length in range(len(sealed)):
        with pytest.raises(IntegrityError):
            SEALER.open(sealed[:length], context="c")


def test_another_context_or_key_does_not_open() -> None:
    """A blob belongs to its conversation and its key; the error quotes nothing of it."""
    sealed = SEALER.seal(b"secret words", context="a")
    with pytest.raises(IntegrityError):
        SEALER.open(sealed, context="b")
    with pytest.raises(IntegrityError) as caught:
        AesGcmSealer(bytes(KEY_BYTES)).open(sealed, context="a")
    assert "secret" not in str(caught.value)


def test_the_key_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    """A second start reads the same key."""
    path = tmp_path / "journal.key"
    sealed = load_sealer(path).seal(b"x", context="c")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_sealer(path).open(sealed, context="c") == b"x"
    assert list(tmp_path.iterdir()) == [path]


def test_two_that_make_the_key_at_once_share_it(tmp_path: Path) -> None:
    """Whoever comes second uses the first one's key."""
    path = tmp_path / "journal.key"
    sealers: list[AesGcmSealer] = []
    threads = [threading.Thread(target=lambda: sealers.append(load_sealer(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = sealers[0].seal(b"x", context="c")
    assert [sealer.open(sealed, context="c") for sealer in sealers] == [b"x"] * 8


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """The error says what to do."""
    path = tmp_path / "journal.key"
    load_sealer(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_sealer(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """A planted key is not used."""
    path = tmp_path / "journal.key"
    load_sealer(path)
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigError, match="another user"):
        load_sealer(path)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    """A cut file, a link, a folder."""
    path = tmp_path / "journal.key"
    path.touch(mode=0o600)
    with pytest.raises(IntegrityError):
        load_sealer(path)
    link = tmp_path / "link.key"
    link.symlink_to(path)
    with pytest.raises(StorageError):
        load_sealer(link)
    with pytest.raises(StorageError):
        load_sealer(tmp_path / "missing" / "journal.key")
