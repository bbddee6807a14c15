"""Buckets that fail: every failure is an error of ours, and a rerun comes to the same result."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from obstore import exceptions as failures

from conformance.archive_store_contract import LARGE, PART, SMALL, large, put
from conformance.faulty_s3 import CANARY, FaultyS3
from steno.adapters.archive_store import Archive, ArchiveSettings, open_archive
from steno.adapters.archive_store.bucket import failure_of
from steno.adapters.object_store import REASONS
from steno.errors import (
    AuthError,
    ConfigError,
    IntegrityError,
    ObjectMissing,
    PeerUnavailable,
    StenoError,
    StorageError,
)
from steno.ports.archive import WriteOutcome

SIZES = pytest.mark.parametrize("size", [len(SMALL), LARGE])

BACKOFF = {
    "init_backoff": timedelta(milliseconds=5),
    "max_backoff": timedelta(milliseconds=20),
    "base": 2.0,
}


class Told:
    """Telemetry that keeps the names of warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, event: str, **fields: object) -> None:
        """Keep it."""
        self.warnings.append(event)


@pytest.fixture
def s3() -> Iterator[FaultyS3]:
    """A service without faults, as yet."""
    with FaultyS3().served() as server:
        yield server


def opened(
    s3: FaultyS3, *, url: str = "s3://bucket", telemetry: Any = None, **more: Any
) -> Archive:
    """Open the bucket, with few retries and short waits. Any: settings of several types."""
    options = {
        "access_key_id": "id",
        "secret_access_key": CANARY,
        "client_options": {"allow_http": True, "pool_max_idle_per_host": "0"},
        "retry_config": {"max_retries": 1, "backoff": BACKOFF},
    }
    settings: dict[str, Any] = {"lease_s": 1.0, "wait_s": 3.0, "part_bytes": PART, **more}
    return open_archive(
        ArchiveSettings(
            url=url, endpoint=s3.endpoint, region="us-east-1", options=options, **settings
        ),
        telemetry,
    )


def fails(archive: Archive, size: int, kind: type[StenoError]) -> StenoError:
    """Expect an archiving to fail, with nothing of the service's words in the error."""
    with pytest.raises(kind) as caught:
        put(archive, archive.item("conv-1", at_us=0), large(size=size))
    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


def succeeds(archive: Archive, size: int) -> WriteOutcome:
    """Archive it, and have it verified."""
    done = put(archive, archive.item("conv-1", at_us=0), large(size=size))
    assert archive.verify(done.manifest).problem == ""
    return done.outcome


def test_every_exception_of_the_library_is_one_of_ours() -> None:
    """None of their words is kept: they may quote credentials."""
    for kind in REASONS:
        error = failure_of(kind(CANARY))
        assert isinstance(error, StenoError)
        assert CANARY not in repr(error)
    assert isinstance(failure_of(failures.PermissionDeniedError("x")), AuthError)
    assert isinstance(failure_of(failures.GenericError("404 NoSuchBucket")), ObjectMissing)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("status code: 400 Bad Request: <Code>InvalidBucketName</Code>", StorageError),
        ("Received redirect without LOCATION, this normally indicates a region", StorageError),
        ("status code: 403 Forbidden", AuthError),
        ("status code: 408 Request Timeout", PeerUnavailable),
        ("status code: 429 Too Many Requests", PeerUnavailable),
        ("status code: 500 Internal Server Error", PeerUnavailable),
        ("error sending request", PeerUnavailable),
    ],
)
def test_what_the_library_has_no_class_for_is_told_by_its_status(
    words: str, kind: type[StenoError]
) -> None:
    """Whether it can pass, or needs a person."""
    error = failure_of(failures.GenericError(f"Generic S3 error: {words}"))
    assert type(error) is kind
    assert words not in repr(error)


def test_nobody_listens() -> None:
    """A clear error, soon."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = FaultyS3()
        nobody.port = bound.getsockname()[1]
        archive = opened(nobody)
        fails(archive, 1, PeerUnavailable)
        for call in (
            lambda: list(archive.manifests()),
            lambda: archive.manifest("transcripts/conv-1.json"),
            lambda: archive.erase("conv-1"),
        ):
            with pytest.raises(PeerUnavailable):
                call()


@SIZES
@pytest.mark.parametrize(("fault", "kind"), [("denied", AuthError), ("slow down", PeerUnavailable)])
def test_what_is_refused_can_be_archived_later(
    s3: FaultyS3, size: int, fault: str, kind: type[StenoError]
) -> None:
    """403 is about who we are; 503 passes."""
    s3.script = {name: [f"{fault}*"] for name in ("PUT", "PUT part")}
    fails(opened(s3), size, kind)
    s3.script = {}
    assert succeeds(opened(s3), size) is WriteOutcome.WRITTEN


@SIZES
def test_a_slow_down_that_passes_is_not_noticed(s3: FaultyS3, size: int) -> None:
    """The library asks again."""
    s3.script = {name: ["slow down"] for name in ("PUT", "GET", "HEAD", "BEGIN", "COMPLETE")}
    assert succeeds(opened(s3), size) is WriteOutcome.WRITTEN


@SIZES
def test_there_is_no_such_bucket(s3: FaultyS3, size: int) -> None:
    """It is said, with what to do."""
    archive = opened(s3, url="s3://nowhere")
    error = fails(archive, size, ObjectMissing)
    assert "bucket" in str(error)
    with pytest.raises(ObjectMissing, match="bucket"):
        list(archive.manifests())


@SIZES
def test_a_put_whose_answer_was_lost_is_found_again(s3: FaultyS3, size: int) -> None:
    """Objects, claims and manifests alike: the repeated put finds its own work."""
    archive = opened(s3)
    succeeds(archive, 1)
    archive.erase("conv-1")
    s3.script = {"PUT": ["lose answer"] * 2}
    succeeds(archive, size)
    assert [one.conversation for one in archive.manifests()] == ["conv-1"]
    assert not any(".claim-" in key for key in s3.objects)


@SIZES
def test_damage_on_the_way_is_found_by_reading_back(s3: FaultyS3, size: int) -> None:
    """No manifest says that it is complete."""
    archive = opened(s3)
    list(archive.manifests())
    archive._place.create("manifests/.conditional", b"{}")
    s3.script = {"PUT": ["damage"] if size < LARGE else [], "COMPLETE": ["damage"]}
    assert "read back" in str(fails(archive, size, IntegrityError))
    assert list(archive.manifests()) == []


@SIZES
def test_truncated_answers_are_never_taken_for_content(s3: FaultyS3, size: int) -> None:
    """Reading back, reading and verifying say that the store failed, not that it is damaged."""
    s3.script = {"GET": ["truncate*"]}
    fails(opened(s3), size, PeerUnavailable)
    s3.script = {}
    archive = opened(s3)
    succeeds(opened(s3), size)
    manifest = archive.manifest("transcripts/conv-1.json")
    assert manifest is not None
    s3.script = {"GET": ["truncate*"]}
    with pytest.raises(PeerUnavailable):
        archive.verify(manifest)
    with pytest.raises(PeerUnavailable):
        b"".join(archive.read_by(manifest))


def test_an_upload_that_fails_is_taken_back(s3: FaultyS3) -> None:
    """Its parts are not left to be paid for, and the claim is given back."""
    archive = opened(s3)
    s3.script = {"COMPLETE": ["denied"]}
    fails(archive, LARGE, AuthError)
    assert s3.uploads == {}
    writer = archive.writer(archive.item("conv-1", at_us=0))
    writer.write(large())
    writer.abort()
    assert s3.uploads == {}
    assert "transcripts/conv-1.json" not in s3.objects
    began = time.monotonic()
    assert succeeds(opened(s3, lease_s=30.0), LARGE) is WriteOutcome.WRITTEN
    assert time.monotonic() - began < 10.0


def test_a_server_that_dies_in_the_middle_of_an_upload(s3: FaultyS3) -> None:
    """An error, and a rerun after its return takes over what is left of the claim."""
    s3.script = {"PUT part": ["drop*"]}
    fails(opened(s3), LARGE, PeerUnavailable)
    s3.script = {}
    assert succeeds(opened(s3), LARGE) is WriteOutcome.WRITTEN


def test_a_live_claim_is_waited_for_and_then_told(s3: FaultyS3) -> None:
    """Somebody else writes: nothing is uploaded twice, and nobody waits for ever."""
    first = opened(s3, lease_s=30.0)
    writer = first.writer(first.item("conv-1", at_us=0))
    writer.write(large())
    second = opened(s3, wait_s=0.2)
    assert "somebody else is archiving" in str(fails(second, LARGE, StorageError))
    assert writer.finish(b"{}").outcome is WriteOutcome.WRITTEN
    assert succeeds(second, LARGE) is WriteOutcome.SAME


def test_whoever_waits_finds_what_the_other_has_archived(s3: FaultyS3) -> None:
    """Equal content is success then."""
    first = opened(s3, lease_s=30.0)
    writer = first.writer(first.item("conv-1", at_us=0))
    writer.write(large())
    outcomes: list[WriteOutcome] = []
    waiting = threading.Thread(
        target=lambda: outcomes.append(succeeds(opened(s3, wait_s=30.0), LARGE))
    )
    waiting.start()
    while s3.requests.count("GET") < 6:  # it has read the claim more than once
        time.sleep(0.01)
    writer.finish(b"{}")
    waiting.join()
    assert outcomes == [WriteOutcome.SAME]
    assert s3.requests.count("BEGIN") == 1


def test_a_claim_is_kept_while_its_writer_has_nothing_to_write(s3: FaultyS3) -> None:
    """A download that stalls for longer than a lease loses nothing."""
    first = opened(s3, lease_s=0.9)  # renewed every 0.3 s; a busy machine comes late to it
    writer = first.writer(first.item("conv-1", at_us=0))
    writer.write(large())
    time.sleep(1.3)
    fails(opened(s3, wait_s=0.1), LARGE, StorageError)
    assert writer.finish(b"{}").outcome is WriteOutcome.WRITTEN
    assert not any(".claim-" in key for key in s3.objects)


def test_a_writer_that_lost_its_claim_overwrites_nothing(s3: FaultyS3) -> None:
    """It slept past its lease; another has archived, and what that was decides."""
    sleeper = opened(s3, lease_s=0.3)
    writer = sleeper.writer(sleeper.item("conv-1", at_us=0))
    writer.write(large())
    claim = writer._claim  # type: ignore[attr-defined]  # as if the machine had slept
    claim._stop.set()
    claim._keeper.join()
    time.sleep(0.4)
    assert succeeds(opened(s3), LARGE) is WriteOutcome.WRITTEN
    before = dict(s3.objects)
    assert writer.finish(b"{}").outcome is WriteOutcome.SAME
    assert s3.objects == before


@SIZES
@pytest.mark.parametrize("conditional", ["ignored", "unknown"])
def test_a_store_without_conditions_is_looked_at_first(
    s3: FaultyS3, size: int, conditional: str
) -> None:
    """Whether it refuses the condition or ignores it; a warning says so, once."""
    s3.conditional = conditional
    told = Told()
    archive = opened(s3, telemetry=told)
    assert succeeds(archive, size) is WriteOutcome.WRITTEN
    assert succeeds(archive, size) is WriteOutcome.SAME
    with pytest.raises(StorageError):
        put(archive, archive.item("conv-1", at_us=0), b"other")
    assert told.warnings == ["archive.unconditional_store_met"]
    assert Told().warnings == []


def test_a_store_with_conditions_is_asked_once(s3: FaultyS3) -> None:
    """One request more in a process, and no warning."""
    told = Told()
    archive = opened(s3, telemetry=told)
    succeeds(archive, 1)
    before = len(s3.requests)
    again = opened(s3, telemetry=told)
    put(again, again.item("conv-2", at_us=0), b"{}")
    assert len(s3.requests) - before <= 7
    assert told.warnings == []


@pytest.mark.parametrize("url", ["s3://", "ftp://x/y", "s3://u:p@bucket", "s3://bucket/../x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError):
        open_archive(ArchiveSettings(url=url))


def test_nothing_is_sent_before_it_is_used(s3: FaultyS3) -> None:
    """Opening is free."""
    opened(s3)
    assert s3.requests == []
