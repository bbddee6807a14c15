"""Verification of the audit log: everything that can be found is, and its place is told."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conformance.audit_logs import BEGAN, contents, entry, head_anchor, writer
from steno.adapters.audit_log import AuditPlaces, read_head
from steno.core.audit_chain import (
    MAX_UNSEALED,
    Checkpoint,
    EntryLine,
    KeyLine,
    Signer,
    Tip,
    checkpoint_line,
    decode_line,
    entry_line,
    key_line,
    line_hash,
)
from steno.core.audit_verify import MAX_FINDINGS, Anchor, Findings, split_lines, verify

Files = list[tuple[str, bytes]]
FOREIGN = Ed25519PrivateKey.from_private_bytes(bytes(32))
STRANGER = Signer(FOREIGN.public_key().public_bytes_raw(), FOREIGN.sign)


class Log(NamedTuple):
    """A closed log of several files, its key, and its head note as an anchor."""

    files: Files
    key: bytes
    head: Anchor


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A real log of 40 entries in several files."""
    folder = tmp_path_factory.mktemp("log")
    one = writer(folder)
    one.open()
    for number in range(40):
        one.write([entry(number)])
    one.close()
    key = bytes.fromhex(read_head(AuditPlaces.of(folder).head).public_key)
    files = [(name, b"".join(lines)) for name, lines in contents(folder)]
    assert len(files) >= 4
    return Log(files, key, head_anchor(folder))


def check(files: Files, log: Log, *anchors: Anchor, **more: Any) -> Findings:  # Any: passed on
    lines = [(name, split_lines(data)) for name, data in files]
    return verify(lines, keys=[log.key], anchors=anchors, **more)


# --- mutations ---


def a_file(files: Files, rng: random.Random) -> tuple[int, list[bytes]]:
    place = rng.randrange(len(files))
    return place, list(split_lines(files[place][1]))


def with_lines(files: Files, place: int, lines: list[bytes]) -> Files:
    return [
        (name, b"".join(lines)) if at == place else (name, data)
        for at, (name, data) in enumerate(files)
    ]


def change_byte(files: Files, rng: random.Random) -> Files:
    place = rng.randrange(len(files))
    name, data = files[place]
    at = rng.randrange(len(data))
    other = bytes([data[at] ^ (1 << rng.randrange(8))])
    return [*files[:place], (name, data[:at] + other + data[at + 1 :]), *files[place + 1 :]]


def delete_lines(files: Files, rng: random.Random) -> Files:
    place, lines = a_file(files, rng)
    at = rng.randrange(len(lines))
    return with_lines(files, place, lines[:at] + lines[at + rng.randint(1, 3) :])


def duplicate_line(files: Files, rng: random.Random) -> Files:
    place, lines = a_file(files, rng)
    at = rng.randrange(len(lines))
    return with_lines(files, place, [*lines[: at + 1], *lines[at:]])


def swap_lines(files: Files, rng: random.Random) -> Files:
    place, lines = a_file(files, rng)
    one, two = rng.sample(range(len(lines)), 2)
    lines[one], lines[two] = lines[two], lines[one]
    return with_lines(files, place, lines)


def insert_line(files: Files, rng: random.Random) -> Files:
    """A line that continues the one before it, as good as it can be made without the key."""
    place, lines = a_file(files, rng)
    at = rng.randint(1, len(lines))
    before = decode_line(lines[at - 1][:-1])
    assert before is not None
    tip = Tip(before.seq, line_hash(lines[at - 1][:-1]))
    _, line = entry_line(tip, entry(rng.randrange(1000)), at=BEGAN)
    return with_lines(files, place, [*lines[:at], line, *lines[at:]])


def truncate(files: Files, rng: random.Random) -> Files:
    place = rng.randrange(len(files))
    name, data = files[place]
    return [*files[:place], (name, data[: rng.randrange(len(data))]), *files[place + 1 :]]


def truncate_log(files: Files, rng: random.Random) -> Files:
    place = rng.randrange(len(files))
    name, data = files[place]
    return [*files[:place], (name, data[: rng.randrange(len(data))])]


def move_line(files: Files, rng: random.Random) -> Files:
    one, lines = a_file(files, rng)
    moved = lines.pop(rng.choice([0, -1, rng.randrange(len(lines))]))
    files = with_lines(files, one, lines)
    two = rng.choice([at for at in range(len(files)) if at != one])
    lines = list(split_lines(files[two][1]))
    lines.insert(rng.randint(0, len(lines)), moved)
    return with_lines(files, two, lines)


def drop_file(files: Files, rng: random.Random) -> Files:
    place = rng.randrange(len(files))
    return files[:place] + files[place + 1 :]


def swap_files(files: Files, rng: random.Random) -> Files:
    one, two = rng.sample(range(len(files)), 2)
    other = list(files)
    other[one], other[two] = (files[one][0], files[two][1]), (files[two][0], files[one][1])
    return other


def edit(
    files: Files, rng: random.Random, kind: type, **fields: Callable[[Any], object]
) -> tuple[int, int, list[bytes]]:  # Any: of the field
    """Change one field of a line of a kind, well spelt."""
    place, lines = a_file(files, rng)
    while not (ats := [at for at, raw in enumerate(lines) if isinstance(decode(raw), kind)]):
        place, lines = a_file(files, rng)
    at = rng.choice(ats)
    name = rng.choice(list(fields))
    line = decode(lines[at])
    other = msgspec.structs.replace(line, **{name: fields[name](getattr(line, name))})
    lines[at] = msgspec.json.encode(other) + b"\n"
    return place, at, lines


def decode(raw: bytes) -> Any:  # Any: a line of one of four kinds
    return decode_line(raw[:-1])


def edit_entry(files: Files, rng: random.Random) -> Files:
    place, _, lines = edit(
        files, rng, EntryLine, status=lambda _: "failed", seq=lambda seq: seq + 1
    )
    return with_lines(files, place, lines)


def edit_checkpoint(files: Files, rng: random.Random) -> Files:
    place, _, lines = edit(
        files,
        rng,
        Checkpoint,
        count=lambda count: count + 1,
        timestamp=lambda _: "2026-11-21T10:15:00.124Z",
        signature=lambda text: text[::-1],
        key_id=lambda text: text[::-1],
        prev=lambda text: text[::-1],
    )
    return with_lines(files, place, lines)


def replace_key(files: Files, rng: random.Random) -> Files:
    """A key of one's own in the key line, and checkpoints signed with it, all in one file."""
    place, _, lines = edit(files, rng, KeyLine, seq=lambda seq: seq)
    first = decode(lines[0])
    return with_lines(files, place, forged(lines, Tip(first.seq - 1, first.prev), STRANGER, 0))


def forge(files: Files, rng: random.Random) -> Files:
    """An entry changed, and every hash after it made anew; signatures stay, or are a stranger's."""
    place, at, lines = edit(
        files, rng, EntryLine, status=lambda _: "failed", actor=lambda _: "nobody"
    )
    signer = rng.choice([None, STRANGER])
    before = decode(lines[at])
    files = with_lines(files, place, forged(lines, Tip(before.seq - 1, before.prev), signer, at))
    if rng.random() < 0.5:
        return files
    for later in range(place + 1, len(files)):  # to the end of the log
        previous = list(split_lines(files[later - 1][1]))[-1]
        rest = list(split_lines(files[later][1]))
        tip = Tip(decode(rest[0]).seq - 1, line_hash(previous[:-1]))
        files = with_lines(files, later, forged(rest, tip, signer, 0))
    return files


def forged(lines: list[bytes], tip: Tip, signer: Signer | None, start: int) -> list[bytes]:
    """Chain the lines from ``start`` on anew, as one can who lacks the key."""
    made = lines[:start]
    for raw in lines[start:]:
        line = decode(raw)
        count = tip.count
        if isinstance(line, Checkpoint) and signer is not None:
            count_there = Tip(tip.seq, tip.hash, line.count)
            tip, other = checkpoint_line(count_there, signer, at=BEGAN)
        elif isinstance(line, KeyLine) and signer is not None:
            tip, other = key_line(tip, signer.public_key, at=BEGAN)
        else:
            body = msgspec.json.encode(msgspec.structs.replace(line, prev=tip.hash))
            tip, other = Tip(tip.seq + 1, line_hash(body), count), body + b"\n"
        made.append(other)
    return made


MUTATIONS: list[Callable[[Files, random.Random], Files]] = [
    change_byte,
    delete_lines,
    duplicate_line,
    swap_lines,
    insert_line,
    truncate,
    truncate_log,
    move_line,
    drop_file,
    swap_files,
    edit_entry,
    edit_checkpoint,
    replace_key,
    forge,
]
FORGERIES = {replace_key, forge}


def flat(files: Files) -> list[tuple[str, int, bytes]]:
    return [
        (name, number, raw)
        for name, data in files
        for number, raw in enumerate(split_lines(data), start=1)
    ]


def near(mutated: Files, original: Files, *, forged: bool) -> set[tuple[str, int]]:
    """Where a finding must be: by the first line that differs; if forged, to the checkpoint after.

    The line before it and the one after it count: of two that do not fit, either may be told.
    """
    lines, there = flat(mutated), flat(original)
    at = next((n for n, (a, b) in enumerate(zip(lines, there, strict=False)) if a != b), None)
    if at is None:
        at = min(len(lines), len(there))
    last = at + 1
    if forged:
        while last < len(lines) and not isinstance(decode(lines[last - 1][2]), Checkpoint):
            last += 1
    found = {(name, line) for name, line, _ in lines[max(0, at - 1) : last + 1]}
    if at >= len(lines):  # the end is gone: told at the end of what is left
        found |= {(mutated[-1][0], line) for line in (0, lines[-1][1] if lines else 0)}
    return found


@pytest.mark.parametrize("part", range(5))
def test_every_mutation_is_found_where_it_is(log: Log, part: int) -> None:
    """A thousand random mutations of a real log: all found, and the place told."""
    rng = random.Random(f"audit {part}")
    for _ in range(200):
        mutate = rng.choice(MUTATIONS)
        mutated = mutate(log.files, rng)
        while mutated == log.files:
            mutated = mutate(log.files, rng)
        found = check(mutated, log, log.head)
        assert not found.sound, mutate.__name__
        told = {(finding.file, finding.line) for finding in found.findings}
        assert told & near(mutated, log.files, forged=mutate in FORGERIES), (
            mutate.__name__,
            found.findings[:3],
        )


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_before_the_last_checkpoint_no_anchor_is_needed(
    log: Log, mutate: Callable[[Files, random.Random], Files]
) -> None:
    """Whatever happens to files before the last one is found by chain and signatures alone."""
    rng = random.Random("no anchor")
    *older, last = log.files
    for _ in range(20):
        mutated = mutate(older, rng)
        while mutated == older or (mutated and last in mutated):
            mutated = mutate(older, rng)
        assert not check([*mutated, last], log).sound


def test_the_log_as_it_was_written_is_sound(log: Log) -> None:
    """Nothing is found where nothing was done, whatever is known from elsewhere."""
    for anchors in ([], [log.head]):
        found = check(log.files, log, *anchors)
        assert found.sound
        assert found.entries == 40
        assert found.unsealed_entries == 0
        assert found.sealed_seq == found.last_seq == log.head.seq
        assert found.last_hash == log.head.hash
    assert check(log.files, log, log.head).notes == ()


def test_each_changed_line_is_told_by_its_number(log: Log) -> None:
    """One line changed in its content: one finding, at that line."""
    for place, (name, data) in enumerate(log.files):
        lines = list(split_lines(data))
        for at, raw in enumerate(lines):
            if b'"actor":"steno"' not in raw:
                continue
            other = [*lines[:at], raw.replace(b'"steno"', b'"stena"'), *lines[at + 1 :]]
            found = check(with_lines(log.files, place, other), log, log.head)
            assert [(one.file, one.line) for one in found.findings] == [(name, at + 1)]


def test_unknown_key_is_told(log: Log) -> None:
    """A log signed with another key than the given one is not sound, nor with none given."""
    lines = [(name, split_lines(data)) for name, data in log.files]
    found = verify(lines, keys=[STRANGER.public_key], anchors=[log.head])
    assert not found.sound
    assert all("a key that was not given" in finding.what for finding in found.findings)
    assert found.sealed_seq == 0


def test_a_fingerprint_is_as_good_as_the_key(log: Log) -> None:
    """The key is read from the log when its fingerprint is known."""
    lines = [(name, list(split_lines(data))) for name, data in log.files]
    fingerprint = json.loads(lines[0][1][0])["key_id"]
    assert verify(lines, fingerprints=[fingerprint]).sound
    assert not verify(lines, fingerprints=["0" * 64]).sound


def test_removal_after_a_checkpoint_needs_an_anchor(log: Log) -> None:
    """A log cut off behind a checkpoint is found by the head note, and by nothing else."""
    name, data = log.files[-1]
    lines = list(split_lines(data))
    ends = [at for at, raw in enumerate(lines) if isinstance(decode(raw), Checkpoint)]
    cut = [*log.files[:-1], (name, b"".join(lines[: ends[0] + 1]))]
    unanchored = check(cut, log)
    assert unanchored.sound
    assert "nothing tells whether newer lines" in unanchored.notes[-1].what
    found = check(cut, log, log.head)
    gone = len(lines) - ends[0] - 1
    assert len(found.findings) == 1
    assert found.findings[0].what.endswith(f": the newest {gone} were taken away")
    assert found.findings[0].line == ends[0] + 1


def test_entries_after_the_last_checkpoint_are_told_as_unsealed(tmp_path: Path) -> None:
    """What no checkpoint covers yet is sound, and said to be not yet sealed."""
    one = writer(tmp_path, every=100)
    one.open()
    one.write([entry(1), entry(2)])
    key = bytes.fromhex(read_head(AuditPlaces.of(tmp_path).head).public_key)
    found = verify(contents(tmp_path), keys=[key], anchors=[head_anchor(tmp_path)])
    one.close()
    assert found.sound
    assert found.unsealed_entries == 2
    assert found.sealed_seq == 2
    assert "the last 2 entries are not yet sealed" in found.notes[0].what


def test_entries_added_to_a_closed_log_are_found(log: Log) -> None:
    """What follows the last line of a closed log was put in, however well it is chained."""
    last = list(split_lines(log.files[-1][1]))[-1]
    tip = Tip(decode(last).seq, line_hash(last[:-1]))
    _, line = entry_line(tip, entry(99), at=BEGAN)
    name, data = log.files[-1]
    found = check([*log.files[:-1], (name, data + line)], log, log.head)
    assert "put in" in found.findings[0].what
    assert found.findings[0].line == len(list(split_lines(data))) + 1


def test_a_log_made_anew_without_the_key_is_found() -> None:
    """Leaving every checkpoint out does not make a log that only looks unsealed."""
    tip, key = key_line(Tip(), STRANGER.public_key, at=BEGAN)
    lines = [key]
    for number in range(3):
        tip, line = entry_line(tip, entry(number), at=BEGAN)
        lines.append(line)
    found = verify([("a", lines)], keys=[STRANGER.public_key])
    assert [finding.what for finding in found.findings] == [
        "no checkpoint follows the file's key line"
    ]


def test_no_more_than_the_bound_may_be_unsealed() -> None:
    """A tail longer than a writer ever leaves unsealed is found."""
    tip, key = key_line(Tip(), STRANGER.public_key, at=BEGAN)
    tip, checkpoint = checkpoint_line(tip, STRANGER, at=BEGAN)
    lines = [key, checkpoint]
    for number in range(MAX_UNSEALED + 1):
        tip, line = entry_line(tip, entry(number), at=BEGAN)
        lines.append(line)
    assert verify([("a", lines[:-1])], keys=[STRANGER.public_key]).sound
    found = verify([("a", lines)], keys=[STRANGER.public_key])
    assert [finding.line for finding in found.findings] == [MAX_UNSEALED + 3]


def test_older_files_may_be_kept_elsewhere(log: Log) -> None:
    """From a known last line on, the rest of a log verifies by itself."""
    (_, data), *rest = log.files
    last = list(split_lines(data))[-1]
    begin = Anchor(decode(last).seq, line_hash(last[:-1]), "--after")
    assert check(rest, log, log.head, after=begin).sound
    other = Anchor(begin.seq, "0" * 64, "--after")
    assert not check(rest, log, log.head, after=other).sound
    assert not check(rest, log, log.head).sound


def test_findings_are_bounded(log: Log) -> None:
    """A file of something else gives so many findings and a count of the others."""
    found = verify([("a", [b"x\n"] * (MAX_FINDINGS + 50))], keys=[log.key])
    assert len(found.findings) == MAX_FINDINGS
    assert found.more >= 50
