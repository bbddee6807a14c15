"""What every archive does, wherever it lies: inherited by the tests of each kind of place."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Final

import pytest

from steno.adapters.archive_store import Archive
from steno.errors import IntegrityError, ObjectMissing, PreconditionFailed, StenoError, StorageError
from steno.ports.archive import Archived, NewItem, WriteOutcome

Open = Callable[..., Archive]

MB: Final = 1024 * 1024
SUMMARY: Final = b'{"total_turns":2,"archived_at":"2026-03-01T10:00:00Z"}'
SMALL: Final = b'{"transcript":[],"participants":[]}'
PART: Final = 64 * 1024
LARGE: Final = 3 * PART + 5000
"""More than is put at once, so that it goes in parts."""
DAY_US: Final = 86_400_000_000


def large(seed: int = 0, size: int = LARGE) -> bytes:
    """Return content that does not compress to less than a part."""
    line = hashlib.shake_256(seed.to_bytes(4, "big")).digest(60_000)
    return (line * (size // len(line) + 1))[:size]


def put(archive: Archive, item: NewItem, content: bytes, *, pieces: int = 20_000) -> Archived:
    """Archive content, in pieces, and give up where it fails."""
    writer = archive.writer(item)
    try:
        for start in range(0, len(content), pieces):
            writer.write(content[start : start + pieces])
        return writer.finish(SUMMARY)
    except BaseException:
        writer.abort()
        raise


def content_of(archive: Archive, key: str) -> bytes:
    """Read an object to its end."""
    return b"".join(archive.read(key))


class ArchiveRules:
    """The rules. ``opened`` is a fixture that opens one place again and again."""

    @pytest.mark.parametrize("size", [0, 1, LARGE])
    def test_what_is_written_is_read_and_its_manifest_tells_of_it(
        self, opened: Open, size: int
    ) -> None:
        """Sizes, hashes, the summary and the address."""
        archive, content = opened(), large(size=size)
        item = archive.item("conv-1", made_with="document", at_us=0)
        done = put(archive, item, content)
        assert done.outcome is WriteOutcome.WRITTEN
        assert done.url == archive.url_of(item.key)
        assert done.url.endswith("/transcripts/conv-1.json")
        manifest = opened().manifest(item.key)
        assert manifest is not None
        assert manifest == done.manifest
        assert (manifest.state, manifest.size) == ("complete", size)
        assert manifest.sha256 == manifest.content_sha256 == hashlib.sha256(content).hexdigest()
        assert (manifest.made_with, manifest.archived_at) == ("document", "2026-03-01T10:00:00Z")
        assert json.loads(bytes(manifest.summary)) == json.loads(SUMMARY)
        assert content_of(opened(), item.key) == content
        assert archive.verify(manifest).problem == ""

    @pytest.mark.parametrize("size", [len(SMALL), LARGE])
    def test_equal_content_is_success_and_different_a_conflict(
        self, opened: Open, size: int
    ) -> None:
        """Nothing is overwritten, whichever way either would have been put."""
        archive, content = opened(), large(size=size)
        item = archive.item("conv-1", at_us=0)
        put(archive, item, content)
        assert put(archive, item, content, pieces=7777).outcome is WriteOutcome.SAME
        for other in (SMALL, large(seed=1), content + b" "):
            with pytest.raises(PreconditionFailed, match="something else is archived"):
                put(archive, item, other)
        assert content_of(archive, item.key) == content
        assert len(list(archive.manifests())) == 1

    def test_a_conflict_by_other_options_says_so(self, opened: Open) -> None:
        """The same transcript made otherwise is a difference and not damage."""
        archive = opened()
        put(archive, archive.item("conv-1", made_with="document", at_us=0), b"{}")
        with pytest.raises(PreconditionFailed, match="made with other options"):
            put(archive, archive.item("conv-1", made_with="document redacted", at_us=0), b"[]")

    @pytest.mark.parametrize("size", [len(SMALL), LARGE])
    def test_an_object_without_manifest_is_adopted_or_a_conflict(
        self, opened: Open, size: int
    ) -> None:
        """A killed writer left it, or a program that follows the same layout."""
        archive, content = opened(), large(size=size)
        item = archive.item("conv-1", at_us=0)
        put(archive, item, content)
        forget(archive, item)
        with pytest.raises(PreconditionFailed):
            put(archive, item, content[:-1] + b"?")
        assert archive.manifest(item.key) is None
        assert put(archive, item, content).outcome is WriteOutcome.SAME
        found = archive.manifest(item.key)
        assert found is not None
        assert archive.verify(found).problem == ""

    @pytest.mark.parametrize("size", [len(SMALL), LARGE])
    def test_a_manifest_whose_object_is_gone_gives_way(self, opened: Open, size: int) -> None:
        """An erasure that was killed, or somebody's own deletion."""
        archive = opened()
        item = archive.item("conv-1", at_us=0)
        put(archive, item, b"[1]")
        assert archive._place.delete(item.key)
        done = put(archive, item, large(size=size))
        assert done.outcome is WriteOutcome.WRITTEN
        assert archive.manifest(item.key) == done.manifest
        assert archive.verify(done.manifest).problem == ""

    def test_compressed_content_has_both_hashes(self, opened: Open) -> None:
        """By option: the key ends in .zst, and what is read is the content."""
        archive, content = opened(compress=True), large(size=3 * MB)
        item = archive.item("conv-1", communication="comm-1", at_us=0)
        assert item.key == "transcripts/conv-1/comm-1.json.zst"
        done = put(archive, item, content)
        assert done.manifest.size < len(content)
        assert done.manifest.content_encoding == "zstd"
        assert done.manifest.content_sha256 == hashlib.sha256(content).hexdigest()
        assert done.manifest.sha256 != done.manifest.content_sha256
        assert content_of(archive, item.key) == content
        assert archive.verify(done.manifest).problem == ""
        assert put(archive, item, content).outcome is WriteOutcome.SAME

    @pytest.mark.parametrize("size", [len(SMALL), LARGE])
    @pytest.mark.parametrize("same", [True, False])
    def test_of_two_writers_exactly_one_wins(self, opened: Open, size: int, same: bool) -> None:
        """Both end with a right answer, and what lies there is one of the two, whole."""
        contents = [large(size=size), large(size=size) if same else large(seed=1, size=size)]
        results: list[Archived | Exception | None] = [None, None]
        start = threading.Barrier(2)

        def write(number: int) -> None:
            archive = opened(lease_s=5.0, wait_s=20.0)
            item = archive.item("conv-1", at_us=0)
            start.wait()
            try:
                results[number] = put(archive, item, contents[number])
            except StenoError as error:
                results[number] = error

        threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [number for number in range(2) if isinstance(results[number], Archived)]
        if same:
            assert won == [0, 1], results
        else:
            assert len(won) == 1, results
            assert isinstance(results[1 - won[0]], PreconditionFailed), results
        archive = opened()
        manifest = archive.manifest("transcripts/conv-1.json")
        assert manifest is not None
        assert content_of(archive, manifest.key) == contents[won[0]]

    @pytest.mark.parametrize("size", [1, LARGE])
    def test_what_is_aborted_leaves_nothing_that_is_seen(self, opened: Open, size: int) -> None:
        """Neither object nor manifest, and the key is free at once."""
        archive = opened()
        item = archive.item("conv-1", at_us=0)
        writer = archive.writer(item)
        writer.write(large(size=size))
        writer.abort()
        writer.abort()
        assert list(archive.manifests()) == []
        assert [listed.name for listed in archive._place.names("transcripts")] == []
        assert put(archive, item, b"{}").outcome is WriteOutcome.WRITTEN

    @pytest.mark.parametrize("summary", [b"[]", b"{", b"\xff", b'{"a":"' + b"x" * MB + b'"}'])
    def test_a_summary_that_cannot_be_kept_is_refused_before_anything_is_put(
        self, opened: Open, summary: bytes
    ) -> None:
        """A manifest has to be readable."""
        archive = opened()
        writer = archive.writer(archive.item("conv-1", at_us=0))
        writer.write(b"{}")
        with pytest.raises(IntegrityError):
            writer.finish(summary)
        writer.abort()
        assert list(archive._place.names("transcripts")) == []

    def test_a_writer_ends_once(self, opened: Open) -> None:
        """A second end is a bug of the caller's, and told."""
        archive = opened()
        writer = archive.writer(archive.item("conv-1", at_us=0))
        writer.write(b"{}")
        writer.finish(SUMMARY)
        with pytest.raises(StorageError, match="ended before"):
            writer.finish(SUMMARY)

    def test_damage_is_found(self, opened: Open) -> None:
        """By reading, which raises at its end, and by verification."""
        archive = opened()
        item = archive.item("conv-1", at_us=0)
        manifest = put(archive, item, b'{"a":1}').manifest
        archive._place.delete(item.key)
        assert archive.verify(manifest).problem == "the object is missing"
        with pytest.raises(ObjectMissing):
            content_of(archive, item.key)
        archive._place.create(item.key, b'{"a":2}')
        assert archive.verify(manifest).problem == "it is damaged"
        with pytest.raises(IntegrityError):
            content_of(archive, item.key)

    def test_a_damaged_manifest_is_told_and_the_others_go_on(self, opened: Open) -> None:
        """Its key alone is told."""
        archive = opened()
        for conversation in ("conv-1", "conv-2", "conv-3"):
            put(archive, archive.item(conversation, at_us=0), b"{}")
        name = "manifests/conv-2/transcripts/conv-2.json.json"
        archive._place.delete(name)
        archive._place.create(name, b'{"version":1,"key":"transcripts/../x"')
        damaged: list[str] = []
        found = [one.conversation for one in archive.manifests(on_damaged=damaged.append)]
        assert found == ["conv-1", "conv-3"]
        assert damaged == ["transcripts/conv-2.json"]
        with pytest.raises(IntegrityError):
            list(archive.manifests())

    def test_manifests_are_found_by_conversation_and_time(self, opened: Open) -> None:
        """Ids that are prefixes of one another are told apart; ids are never paths."""
        archive = opened()
        for conversation in ("conv-1", "conv-11", "conv:1"):
            put(archive, archive.item(conversation, at_us=0), b"{}")
        put(archive, archive.item("conv-1", communication="c", at_us=0), b"{}")
        keys = ["transcripts/conv-1.json", "transcripts/conv-1/c.json"]
        assert [one.key for one in archive.manifests(conversation="conv-1")] == keys
        assert [one.key for one in archive.manifests(conversation="conv:1")] == [
            "transcripts/conv%3A1.json"
        ]
        assert [one.key for one in archive.manifests(conversation="conv")] == []
        assert len(list(archive.manifests(since_us=1))) == 4
        assert len(list(archive.manifests(since_us=10**17))) == 0
        for one in archive.manifests():
            assert archive.manifest(one.key) == one

    def test_manifests_are_found_whatever_the_template_was(self, opened: Open) -> None:
        """By key alone, too."""
        archive = opened(key="years/{date}/{conversation}/t.json")
        put(archive, archive.item("conv-1", at_us=0), b"{}")
        key = "years/1970-01-01/conv-1/t.json"
        found = opened().manifest(key)
        assert found is not None
        assert found.key == key
        assert content_of(opened(), key) == b"{}"

    def test_a_rerun_on_another_day_finds_its_own_work(self, opened: Open) -> None:
        """The date in a key is that of the first run."""
        archive = opened(key="{date}/{conversation}.json")
        put(archive, archive.item("conv-1", at_us=0), b"{}")
        again = archive.item("conv-1", at_us=3 * DAY_US)
        assert again.key == "1970-01-01/conv-1.json"
        assert archive.item("conv-2", at_us=3 * DAY_US).key == "1970-01-04/conv-2.json"
        other = archive.item("conv-1", communication="c", at_us=3 * DAY_US)
        assert other.key == "1970-01-04/conv-1/c.json"
        assert put(archive, again, b"{}").outcome is WriteOutcome.SAME

    def test_erasing_takes_all_of_one_conversation_and_nothing_else(self, opened: Open) -> None:
        """Objects, manifests, tables, and what a killed writer left without a manifest."""
        archive = opened()
        for conversation in ("conv-1", "conv-11"):
            put(archive, archive.item(conversation, at_us=0), b"{}")
            put(archive, archive.item(conversation, communication="a", at_us=0), b"{}")
            put(archive, archive.item(conversation, communication="b", at_us=0), b"{}")
            put(archive, archive.parquet_item(conversation, at_us=0), b"PAR1")
            put(
                archive,
                archive.parquet_item(conversation, communication="b", at_us=0),
                b"PAR1",
            )
        forget(archive, archive.item("conv-1", at_us=0))
        forget(archive, archive.item("conv-1", communication="a", at_us=0))
        forget(archive, archive.parquet_item("conv-1", communication="b", at_us=0))
        assert archive.erase("conv-1") == 5
        left = [
            listed.name
            for folder in ("transcripts", "parquet", "manifests")
            for listed in archive._place.names(folder)
        ]
        assert [name for name in left if "conv-1." in name or "conv-1/" in name] == []
        assert len(list(archive.manifests())) == 5
        assert archive.erase("conv-1") == 0

    def test_a_key_that_leaves_the_prefix_is_refused(self, opened: Open) -> None:
        """Whoever made it."""
        archive = opened()
        for key in ("../x", "a/../../x", "/x", "a//x", "", ".", "a/b\n"):
            with pytest.raises(IntegrityError):
                archive.writer(NewItem(key=key, conversation="conv-1"))
            with pytest.raises(IntegrityError):
                archive.url_of(key)


def forget(archive: Archive, item: NewItem) -> None:
    """Take an object's manifest away, as if its writer had been killed before it."""
    quoted = item.conversation.replace(":", "%3A")
    assert archive._place.delete(f"manifests/{quoted}/{item.key}.json")
