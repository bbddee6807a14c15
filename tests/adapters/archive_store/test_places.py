"""Every kind of place keeps the rules of an archive."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance import swift
from conformance.archive_store_contract import (
    MB,
    PART,
    ArchiveRules,
    Open,
    content_of,
    large,
    put,
)
from conformance.faulty_s3 import FaultyS3
from steno.adapters.archive_store import Archive, ArchiveSettings, open_archive
from steno.adapters.archive_store.bucket import Bucket, open_bucket

QUICK = {"lease_s": 2.0, "wait_s": 10.0, "part_bytes": PART}


def s3_options() -> dict[str, Any]:
    """Settings of the library that leave no connection open behind a test."""
    return {
        "access_key_id": swift.KEY_ID,
        "secret_access_key": swift.SECRET,
        "client_options": {"allow_http": True, "pool_max_idle_per_host": "0"},
    }


class TestFolder(ArchiveRules):
    """A local folder."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Open:
        """Open the same folder again and again."""
        return lambda **more: open_archive(ArchiveSettings(url=str(tmp_path / "a"), **more))


class TestMemory(ArchiveRules):
    """Memory: the library's own, which keeps conditions as buckets do."""

    @pytest.fixture
    def opened(self) -> Open:
        """Open archives over one store: each bucket of memory is otherwise its own."""
        first: list[Bucket] = []

        def again(**more: Any) -> Archive:  # settings of several types
            settings = ArchiveSettings(url="memory:///pre/fix", **{**QUICK, **more})
            first.append(open_bucket(settings, None))
            bucket = first[-1]
            bucket._store = first[0]._store
            return Archive(bucket, settings)

        return again


class TestSwift(ArchiveRules):
    """A real S3-compatible server."""

    @pytest.fixture
    def opened(self, swift_server: swift.Swift) -> Open:
        """Open the same new bucket again and again."""
        name = f"bucket-{uuid.uuid4().hex}"
        swift_server.make_bucket(name)
        return _over(swift_server.endpoint, f"s3://{name}/pre/fix")

    def test_parts_have_the_size_that_real_stores_want(self, opened: Open) -> None:
        """With settings as they are by default."""
        archive = opened(part_bytes=ArchiveSettings(url="x").part_bytes)
        item, content = archive.item("conv-1", at_us=0), large(size=17 * MB)
        put(archive, item, content, pieces=MB)
        assert content_of(archive, item.key) == content

    def test_content_types_and_encodings_are_kept(
        self, opened: Open, swift_server: swift.Swift
    ) -> None:
        """So that other programs read what it is."""
        import obstore

        archive = opened(compress=True)
        item = archive.item("conv-1", at_us=0)
        for one, content in ((item, b"{}"), (archive.parquet_item("conv-1", at_us=0), large())):
            put(archive, one, content)
        bucket: Any = archive._place  # what lies behind the port
        found = obstore.get(bucket._store, bucket._prefix + item.key).attributes
        assert found["Content-Type"] == "application/json"
        assert found["Content-Encoding"] == "zstd"


class TestFaultless(ArchiveRules):
    """The service that the tests of faults use keeps the rules while it has none."""

    @pytest.fixture
    def opened(self) -> Any:  # a generator fixture of Open
        """Open the same bucket again and again."""
        with FaultyS3().served() as s3:
            yield _over(s3.endpoint, "s3://bucket/pre/fix")


def _over(endpoint: str, url: str) -> Callable[..., Archive]:
    def again(**more: Any) -> Archive:  # settings of several types
        return open_archive(
            ArchiveSettings(
                url=url,
                endpoint=endpoint,
                region=swift.REGION,
                options=s3_options(),
                **{**QUICK, **more},
            )
        )

    return again
