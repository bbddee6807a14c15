"""References and exports as documents, from files of every form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.adapters.scoring import Document, Piece, read_document
from steno.core.quality import normalised
from steno.core.subtitles import rttm_line
from steno.errors import ConfigError

S = 1_000_000


def read(path: Path, text: str) -> Document:
    path.write_text(text, encoding="utf-8")
    return read_document(path, setting="REFERENCE")


def test_rttm(tmp_path: Path) -> None:
    """Names come back as they were written; other types of line and remarks are passed over."""
    text = (
        ";; a remark\n"
        "SPKR-INFO c1 1 <NA> <NA> <NA> unknown a <NA> <NA>\n"
        + rttm_line("c 1", 1_500_000, 3 * S, "agent 2")
        + "\n"
        + "SPEAKER c2 1 0.25 .5 <NA> <NA> b <NA>\n"
    )
    assert read(tmp_path / "r.RTTM", text) == Document(
        {
            "c 1": [Piece("agent 2", 1_500_000, 3 * S, None)],
            "c2": [Piece("b", 250_000, 750_000, None)],
        },
        has_words=False,
    )


def test_stm(tmp_path: Path) -> None:
    """Labels are taken off, ignored times are left out, a line without words is a piece."""
    text = (
        ";; remark\n"
        "c1 1 a 0.0 1.5 <o,f0,male> hello there\n"
        "c1 1 b 2 3 yes\n"
        "c1 1 b 4 5 IGNORE_TIME_SEGMENT_IN_SCORING\n"
        "c1 1 b 6 7\n"
    )
    assert [
        (one.speaker, one.end_us, (one.text or "").strip())
        for one in read(tmp_path / "r.stm", text).pieces["c1"]
    ] == [("a", 1_500_000, "hello there"), ("b", 3 * S, "yes"), ("b", 7 * S, "")]


OURS = {
    "conversation_id": "c1",
    "speaker": "a",
    "text": "hi",
    "start_seconds": 0.5,
    "end_seconds": 1.0,
    "confidence": 0.9,
    "is_final": True,
    "timestamp": "2026-03-01T10:00:00Z",
}
PIECE = Piece("a", 500_000, S, "hi")


def test_our_exports_and_seglst_are_read_alike(tmp_path: Path) -> None:
    """The document's JSON, JSON lines, and SegLST, where times may be absent or text."""
    whole = read(tmp_path / "e.json", json.dumps({"totalSegments": 1, "segments": [OURS]}))
    lines = read(tmp_path / "e.jsonl", json.dumps(OURS) + "\n\n" + json.dumps(OURS) + "\n")
    partial = read(tmp_path / "p.jsonl", json.dumps({**OURS, "is_final": False}))
    assert whole == Document({"c1": [PIECE]})
    assert lines == Document({"c1": [PIECE, PIECE]})
    assert partial == Document({})
    seglst = [
        {"session_id": "c1", "speaker": 1, "words": "hi", "start_time": "0.5", "end_time": 1},
        {"session_id": "c1", "speaker": "a", "words": ["hi", "ho"]},
    ]
    assert read(tmp_path / "s.json", json.dumps(seglst)) == Document(
        {"c1": [Piece("1", 500_000, S, "hi"), Piece("a", None, None, "hi ho")]}, has_times=False
    )


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("r.rttm", "SPEAKER c 1 0 1 <NA> <NA> a\nSPEAKER secret", "line 2"),
        ("r.rttm", "SPEAKER secret 1 zero 1 <NA> <NA> a <NA>", "line 1"),
        ("r.rttm", "SPEAKER secret 1 nan 1 <NA> <NA> a <NA>", "line 1"),
        ("r.rttm", "SPEAKER secret 1 5 -1 <NA> <NA> a <NA>", "line 1"),
        ("r.stm", "secret 1 a 0", "line 1"),
        ("r.stm", "c 1 a 5 4 secret", "line 1"),
        ("r.json", '{"segments": "secret"}', "its beginning"),
        ("r.json", '[{"speaker": "secret"}]', "segment 1"),
        ("r.jsonl", '{"session_id": "c"}\n{"secret', "line 2"),
    ],
)
def test_what_is_wrong_is_told_by_its_place_alone(
    tmp_path: Path, name: str, text: str, place: str
) -> None:
    """Never with what stands there."""
    with pytest.raises(ConfigError, match=place) as caught:
        read(tmp_path / name, text)
    assert "secret" not in str(caught.value)
    assert caught.value.setting == "REFERENCE"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Absent, of an unknown form, not UTF-8."""
    with pytest.raises(ConfigError, match="cannot be read"):
        read_document(tmp_path / "absent.rttm", setting="REFERENCE")
    with pytest.raises(ConfigError, match="form of the file is not known"):
        read(tmp_path / "r.txt", "")
    (tmp_path / "r.stm").write_bytes(b"c 1 a 0 1 \xff")
    with pytest.raises(ConfigError, match="line 1: not UTF-8"):
        read_document(tmp_path / "r.stm", setting="REFERENCE")


@given(text=st.binary(max_size=60), form=st.sampled_from([".rttm", ".stm", ".json", ".jsonl"]))
def test_any_bytes_are_a_document_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, form: str
) -> None:
    """Whatever stands in a file."""
    path = tmp_path_factory.getbasetemp() / f"any{form}"
    path.write_bytes(text)
    try:
        assert isinstance(read_document(path, setting="REFERENCE"), Document)
    except ConfigError:
        pass


def test_spelling_is_taken_off() -> None:
    """What is left are words and the apostrophes within them."""
    assert normalised("  It’s “Ok”—the dogs' 3.5 [REDACTED] ﬁsh_y! ") == (
        "it's ok the dogs 3 5 redacted fish y"
    )


# --- the extra ----------------------------------------------------------------------------------


def test_a_missing_library_is_one_clear_error() -> None:
    """It names what to install; nothing is imported before it is needed."""
    program = (
        "import sys\n"
        "sys.modules['meeteval'] = None\n"
        "from steno.adapters.scoring import require_scoring\n"
        "assert not {'scipy', 'numpy', 'meeteval.wer'} & set(sys.modules)\n"
        "try:\n"
        "    require_scoring()\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ConfigError scoring needs a library")
    assert "pip install 'steno[score]'" in done.stdout
