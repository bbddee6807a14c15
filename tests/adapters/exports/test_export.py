"""Exports: whole or not at all, wherever they go."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.adapters.exports import ExportReport, export, require_target
from steno.adapters.object_store import StoreSettings
from steno.core.ids import is_id
from steno.errors import (
    AuthError,
    ConfigError,
    IntegrityError,
    ObjectMissing,
    PeerUnavailable,
    StenoError,
    StorageError,
    StorageFull,
)

CANARY = "canary-4155550142"


class Lines:
    """A form: each item is a line."""

    def __init__(self, *, holds_many: bool = True) -> None:
        self.holds_many = holds_many

    @property
    def encode(self) -> Callable[[Iterable[str]], Iterator[bytes]]:
        return lambda items: (f"{item}\n".encode() for item in items)


class Broken(Exception):
    """What a source may raise."""


def calls(**conversations: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    return ((name.replace("_", "-"), iter(items)) for name, items in conversations.items())


def breaks_after(count: int, text: str = "x") -> Iterator[str]:
    yield from [text] * count
    raise Broken


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# --- files -----------------------------------------------------------------------------------


def test_file_holds_all_and_is_its_owners(tmp_path: Path) -> None:
    """Every conversation, in order; mode 0600, even over a file that was open to others."""
    out = tmp_path / "out.txt"
    out.write_text("old")
    out.chmod(0o644)
    told: list[int] = []
    report = export(
        calls(call_1=["a", "b"], call_2=[], call_3=["c"]), Lines(), str(out), progress=told.append
    )
    assert out.read_text() == "a\nb\nc\n"
    assert out.stat().st_mode & 0o777 == 0o600
    assert report == ExportReport(segments=3, conversations=2, bytes=6, paths=1)
    assert told == [3]
    assert names(tmp_path) == ["out.txt"]


def test_nothing_to_export_replaces_nothing(tmp_path: Path) -> None:
    """What was exported before stays, and the report says 0."""
    out = tmp_path / "out.txt"
    assert export(calls(call_1=[]), Lines(), str(out)) == ExportReport()
    assert names(tmp_path) == []
    out.write_text("old")
    assert export(iter(()), Lines(), str(out)) == ExportReport()
    assert out.read_text() == "old"


def test_failing_source_leaves_the_old_file(tmp_path: Path) -> None:
    """The source's own error comes out; nothing else is left in the folder."""
    out = tmp_path / "out.txt"
    out.write_text("old")
    with pytest.raises(Broken):
        export(calls(call_1=breaks_after(5000)), Lines(), str(out))
    assert out.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_stop_ends_it_soon_and_leaves_the_old_file(tmp_path: Path) -> None:
    """``stop`` is seen while one conversation has no end."""
    out = tmp_path / "out.txt"
    out.write_text("old")
    stop = threading.Event()

    def endless() -> Iterator[str]:
        while True:
            yield "x"

    def progress(segments: int) -> None:
        assert segments <= 3000
        if segments >= 2000:
            stop.set()

    report = export(calls(call_1=endless()), Lines(), str(out), progress=progress, stop=stop)
    assert report == ExportReport(stopped=True)
    assert out.read_text() == "old"


@pytest.fixture
def file_limit() -> Iterator[None]:
    """Let writes beyond the file size limit fail instead of ending the process."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


def test_file_that_cannot_grow_leaves_the_old_one(tmp_path: Path, file_limit: None) -> None:
    """A write that fits in part is an error without the text, and the old file stays."""
    out = tmp_path / "out.txt"
    out.write_text("old")
    with pytest.raises(StorageError) as caught:
        export(calls(call_1=[CANARY] * 1000), Lines(), str(out))
    assert CANARY not in str(caught.value)
    assert out.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """No room is an error that trying again can cure, and the old file stays."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    try:
        (disk / "out.txt").write_text("old")
        with pytest.raises(StorageFull) as caught:
            export(calls(call_1=["x" * 1000] * 1000), Lines(), str(disk / "out.txt"))
        assert caught.value.retryable
        assert (disk / "out.txt").read_text() == "old"
        assert names(disk) == ["out.txt"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


_ENDLESS = """
import sys
from itertools import repeat
from steno.adapters.exports import export
class Lines:
    holds_many = True
    encode = staticmethod(lambda items: (f"{item}\\n".encode() for item in items))
export([("call-1", repeat("x" * 1000))], Lines(), sys.argv[1])
"""


def test_killed_export_leaves_the_old_file(tmp_path: Path) -> None:
    """After ``kill -9`` the old file is whole, and the next export leaves nothing beside it."""
    out = tmp_path / "out.txt"
    out.write_text("old")
    process = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(out)], env=environment())
    part = tmp_path / ".out.txt.part"
    try:
        until = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size > 100_000):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        with pytest.raises(StorageError, match="another process"):
            export(calls(call_1=["new"]), Lines(), str(out))
    finally:
        process.kill()
        process.wait()
    assert out.read_text() == "old"
    export(calls(call_1=["new"]), Lines(), str(out))
    assert out.read_text() == "new\n"
    assert names(tmp_path) == ["out.txt"]


def environment() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A rename onto a device, a pipe, a link or a folder would destroy it.

    All of them are made here: with the rule broken, a device of the machine would be lost.
    """
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with contextlib.suppress(PermissionError):  # only the superuser makes devices
        os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    before = {path: path.lstat().st_mode for path in tmp_path.iterdir()}
    for path in before.keys() - {tmp_path / "real"}:
        with pytest.raises(ConfigError):
            export(calls(call_1=["new"]), Lines(), str(path))
    assert {path: path.lstat().st_mode for path in tmp_path.iterdir()} == before
    assert (tmp_path / "real").read_text() == "old"


def test_file_left_by_a_killed_export_becomes_its_owners(tmp_path: Path) -> None:
    """What lies at the temporary name is emptied, and closed to others."""
    part = tmp_path / ".out.txt.part"
    part.write_text("torn and longer than what follows")
    part.chmod(0o644)
    export(calls(call_1=["new"]), Lines(), str(tmp_path / "out.txt"))
    assert (tmp_path / "out.txt").read_text() == "new\n"
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o600


def test_planted_file_beside_the_export_is_not_followed(tmp_path: Path) -> None:
    """A link at the temporary name does not lead the text elsewhere."""
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / ".out.txt.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        export(calls(call_1=["new"]), Lines(), str(tmp_path / "out.txt"))
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    """A mistyped path is told, not made."""
    with pytest.raises(StorageError):
        export(calls(call_1=["a"]), Lines(), str(tmp_path / "typo" / "out.txt"))
    assert names(tmp_path) == []


def test_what_cannot_be_written_shows_before_the_work(tmp_path: Path) -> None:
    """A missing folder, what is no file, no address; a folder with an id in it will be made."""
    (tmp_path / "there").write_text("old")
    missing = str(tmp_path / "typo" / "out.txt")
    for out in (missing, f"{tmp_path}/typo/{{conversation}}.txt", str(tmp_path), "s3://bucket"):
        with pytest.raises(ConfigError):
            require_target(out)
    require_target(str(tmp_path), replaced=False)  # a sink appends to what it can open
    with pytest.raises(ConfigError):
        require_target(missing, replaced=False)
    for name in ("there", "new", "{conversation}/out.txt", "calls-{conversation}"):
        require_target(str(tmp_path / name))
    require_target(f"file://{tmp_path}/made/later.txt")
    require_target("-")
    assert names(tmp_path) == ["there"]


def test_file_address_is_a_path(tmp_path: Path) -> None:
    """``file:///`` has the same promises, and makes its folders."""
    out = tmp_path / "new folder" / "call-1.txt"
    address = f"file://{tmp_path}/new%20folder/{{conversation}}.txt"
    report = export(calls(call_1=["a"]), Lines(), address)
    assert out.read_text() == "a\n"
    assert out.stat().st_mode & 0o777 == 0o600
    assert report.paths == 1


# --- one for each conversation ---------------------------------------------------------------


def test_each_conversation_has_its_file(tmp_path: Path) -> None:
    """Folders named by an id are made; a conversation without segments has no file."""
    out = str(tmp_path / "{conversation}" / "of-{conversation}.txt")
    report = export(calls(call_1=["a"], call_2=[], call_3=["b", "c"]), Lines(holds_many=False), out)
    assert report == ExportReport(segments=3, conversations=2, bytes=6, paths=2)
    assert names(tmp_path) == ["call-1", "call-3"]
    assert (tmp_path / "call-3" / "of-call-3.txt").read_text() == "b\nc\n"
    assert (tmp_path / "call-3").stat().st_mode & 0o777 == 0o700


def test_what_was_whole_before_an_error_stays(tmp_path: Path) -> None:
    """One conversation's damage does not undo another's export."""
    out = str(tmp_path / "{conversation}.txt")
    with pytest.raises(Broken):
        export(calls(call_1=["a"], call_2=breaks_after(3)), Lines(), out)
    assert names(tmp_path) == ["call-1.txt"]


@given(conversation=st.text() | st.sampled_from(["../x", "a/b", "..", "/etc/x", "a:b", "a\0b"]))
def test_no_id_leaves_the_folder(
    tmp_path_factory: pytest.TempPathFactory, conversation: str
) -> None:
    """An id becomes one part of a name, or is refused."""
    folder = tmp_path_factory.mktemp("exports")
    out = str(folder / "in" / "{conversation}")
    (folder / "in").mkdir()
    if not is_id(conversation):
        with pytest.raises(IntegrityError):
            export([(conversation, iter(["a"]))], Lines(), out)
        assert names(folder / "in") == []
    else:
        export([(conversation, iter(["a"]))], Lines(), out)
        [name] = names(folder / "in")
        assert unquote(name) == conversation
    assert names(folder) == ["in"]


# --- standard output -------------------------------------------------------------------------

_STDOUT = """
import sys
from steno.adapters.exports import export
from steno.diarisation.exports import Format, text_form
from steno.diarisation.views import SegmentView
def one(conversation, n):
    return SegmentView(conversation, "agent", "x" * 1000, n, n + 1, 0.9, True, 0)
calls = [(name, iter([one(name, n) for n in range(int(sys.argv[2]))])) for name in sys.argv[3:]]
try:
    report = export(calls, text_form(Format(sys.argv[1])), "-")
    print(report.segments, report.cut_short, file=sys.stderr)
except Exception as error:
    print(type(error).__name__, file=sys.stderr)
"""


def to_stdout(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", _STDOUT, *arguments],
        env=environment(),
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=True,
        timeout=60,
    )


def test_standard_output_holds_the_export_alone() -> None:
    """Nothing but the document is written."""
    done = to_stdout("json", "3", "call-1", "call-2")
    assert json.loads(done.stdout)["totalSegments"] == 6
    assert done.stderr == b"6 False\n"


def test_reader_that_goes_away_is_no_error() -> None:
    """``steno diarise export | head`` ends quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = to_stdout("jsonl", "2000", "call-1", stdout=writing)
    finally:
        os.close(writing)
    assert done.stderr == b"0 True\n"


def test_full_standard_output_is_an_error() -> None:
    """A device without room is told apart from a reader that went away."""
    with open("/dev/full", "wb") as full:
        done = to_stdout("jsonl", "3", "call-1", stdout=full.fileno())
    assert done.stderr == b"StorageFull\n"


def test_subtitles_of_two_conversations_print_nothing() -> None:
    """That they do not fit is known at the end; until then nothing is shown."""
    done = to_stdout("srt", "2000", "call-1", "call-2")
    assert (done.stdout, done.stderr) == (b"", b"ConfigError\n")
    assert to_stdout("srt", "2000", "call-1").stdout.count(b" --> ") == 2000


# --- object stores ---------------------------------------------------------------------------


class FakeS3(HTTPServer):
    """An S3 service with uploads in parts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _S3Request)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.refuses = (0, "")  # status, code


class _S3Request(BaseHTTPRequestHandler):
    server: FakeS3

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        key, query = self._asked()
        if "uploads" in query:
            self.server.parts[key] = {}
            self._answer(f"<InitiateMultipartUploadResult><UploadId>{key}</UploadId>"
                         "</InitiateMultipartUploadResult>")  # fmt: skip
            return
        assert b"CompleteMultipartUpload" in body
        parts = self.server.parts.pop(key)
        self.server.objects[key] = b"".join(parts[number] for number in sorted(parts))
        self._answer("<CompleteMultipartUploadResult><ETag>e</ETag>"
                     "</CompleteMultipartUploadResult>")  # fmt: skip

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key, query = self._asked()
        if "partNumber" in query:
            self.server.parts[key][int(query["partNumber"][0])] = body
        else:
            self.server.objects[key] = body
        self._answer("")

    def do_DELETE(self) -> None:
        self.server.parts.pop(self._asked()[0], None)
        self._answer("")

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)

    def _answer(self, body: str) -> None:
        status, code = self.server.refuses
        if status:
            body = f"<Error><Code>{code}</Code><Message>{CANARY}</Message></Error>"
        self.send_response(status or 200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


@contextmanager
def s3() -> Iterator[tuple[FakeS3, StoreSettings]]:
    """Serve a fake S3, and give the settings for it."""
    with FakeS3() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield (
                server,
                StoreSettings(
                    url="",
                    endpoint=f"http://127.0.0.1:{server.server_port}",
                    region="eu-west-1",
                    options={"skip_signature": True, "retry_config": {"max_retries": 0}},
                ),
            )
        finally:
            server.shutdown()
            thread.join()


def test_object_is_put_in_parts() -> None:
    """What is longer than a part arrives whole, under the key of the address."""
    line = "x" * 99_999
    with s3() as (server, settings):
        report = export(
            calls(call_1=[line] * 100), Lines(), "s3://bucket/a%20b/out.txt", store=settings
        )
    assert server.objects == {"/bucket/a b/out.txt": (line + "\n").encode() * 100}
    assert report == ExportReport(segments=100, conversations=1, bytes=10_000_000, paths=1)


def test_object_for_each_conversation() -> None:
    """The key holds the encoded id."""
    with s3() as (server, settings):
        export(
            [("a:1", iter(["x"])), ("b", iter([]))],
            Lines(),
            "s3://bucket/{conversation}.txt",
            store=settings,
        )
    assert server.objects == {"/bucket/a%3A1.txt": b"x\n"}


def test_unfinished_object_never_appears() -> None:
    """An error half-way leaves what was there, and is the source's own error."""
    with s3() as (server, settings):
        server.objects["/bucket/out.txt"] = b"old"
        with pytest.raises(Broken):
            export(
                calls(call_1=breaks_after(200, "x" * 99_999)),
                Lines(),
                "s3://bucket/out.txt",
                store=settings,
            )
    assert server.objects == {"/bucket/out.txt": b"old"}


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", AuthError),
        (404, "NoSuchBucket", ObjectMissing),
        (503, "SlowDown", PeerUnavailable),
        (500, "InternalError", PeerUnavailable),
    ],
)
def test_refusal_is_an_error_of_ours(status: int, code: str, error: type[StenoError]) -> None:
    """The class tells what helps; the service's words and the address stay out."""
    with s3() as (server, settings):
        server.refuses = (status, code)
        with pytest.raises(error) as caught:
            export(calls(call_1=["x"]), Lines(), "s3://bucket/out.txt", store=settings)
    assert CANARY not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    "out",
    [
        "",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/folder/",
        "s3://bucket/a?x=1",
        "s3://bucket/../x",
        "s3://bucket/a%2F..%2Fb",
        "s3://bucket/a%0Ab",
        "s3://me:secret@bucket/a",
        "ftp://host/a",
        "file://host/a",
        "file:///",
        "a\0b",
    ],
)
def test_address_that_names_nothing_is_refused(out: str) -> None:
    """A configuration error, before anything is read; a secret in it stays out."""
    with pytest.raises(ConfigError) as caught:
        export(calls(call_1=breaks_after(0)), Lines(), out)
    assert "secret" not in str(caught.value)


def test_locked_temporary_file_of_ours_is_respected(tmp_path: Path) -> None:
    """Two exports to one file never mix: the second one is told."""
    with open(tmp_path / ".out.txt.part", "wb") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process"):
            export(calls(call_1=["a"]), Lines(), str(tmp_path / "out.txt"))
    export(calls(call_1=["a"]), Lines(), str(tmp_path / "out.txt"))
    assert names(tmp_path) == ["out.txt"]


def test_a_file_that_is_appended_to_is_not_replaced(tmp_path: Path) -> None:
    """Whoever appends would go on in the old one, which nobody sees any more."""
    out = tmp_path / "out.txt"
    with out.open("wb") as followed:
        fcntl.flock(followed, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="being appended to"):
            export(calls(call_1=["a"]), Lines(), str(out))
    assert out.read_bytes() == b""
    export(calls(call_1=["a"]), Lines(), str(out))
    assert out.read_bytes() == b"a\n"
    assert names(tmp_path) == ["out.txt"]
