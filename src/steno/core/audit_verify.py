"""Verification of an audit log: is it whole and as it was written, and if not, where.

Three things are held against one another: the chain (every line has the number and the hash
that follow from the line before), the checkpoints (signed, each covers everything before it), and
anchors: a number and a hash known from elsewhere, as from the head note or from an auditor's
own records.

What is found: any change, removal, insertion or reordering before the last checkpoint, whoever
made it without the private key; and after it whatever does not fit the hashes. An anchor finds
the removal of what it names too.

What cannot be found:

* without an anchor, the removal of the newest lines up to a checkpoint, or their replacement by
  other entries after the last checkpoint (``MAX_UNSEALED`` at the most): what comes after the last
  checkpoint is reported as not yet sealed;
* with only the head note as anchor, the return to an older state of log and head note together;
* anything, by one who has the private key, beyond an anchor that he cannot change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

import msgspec

from steno.core.audit_chain import (
    FORMAT,
    GENESIS,
    MAX_UNSEALED,
    Checkpoint,
    EntryLine,
    KeyLine,
    Line,
    Recovered,
    checkpoint_message,
    decode_line,
    fingerprint,
    line_hash,
    signed_by,
)

MAX_FINDINGS: Final = 1000
"""More are counted, not listed."""


class Place(msgspec.Struct, frozen=True):
    """A line of a file, from 1; 0 is the file as a whole."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was written, in words of ours."""

    file: str
    line: int
    what: str


class Anchor(msgspec.Struct, frozen=True):
    """A line known from elsewhere; ``source`` says from where, for the reader.

    ``most_after`` bounds the lines that may follow it; None is no bound.
    """

    seq: int
    hash: str
    source: str
    most_after: int | None = None


class Findings(msgspec.Struct, frozen=True):
    """What a verification found.

    Attributes:
        findings: In the order of the lines, ``MAX_FINDINGS`` at the most; ``more`` counts the
            others.
        notes: What is worth knowing and no fault: bytes set aside after a kill, and so on.
        files, lines, entries, checkpoints: What was read; checkpoints with a right signature.
        last_seq, last_hash: The last whole line; an anchor for the next time.
        sealed_seq: The last line that a checkpoint with a right signature covers, its own
            included; 0 if there is none.
        unsealed_entries: Entries after it: not yet sealed.
        keys: Fingerprints of the keys that signed.
    """

    findings: tuple[Finding, ...]
    more: int
    notes: tuple[Finding, ...]
    files: int
    lines: int
    entries: int
    checkpoints: int
    last_seq: int
    last_hash: str
    sealed_seq: int
    unsealed_entries: int
    keys: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(
    files: Iterable[tuple[str, Iterable[bytes]]],
    *,
    keys: Collection[bytes] = (),
    fingerprints: Collection[str] = (),
    anchors: Collection[Anchor] = (),
    after: Anchor | None = None,
) -> Findings:
    """Verify a log, in memory that does not grow with it.

    Args:
        files: Name and lines of each file, oldest first; each line with its line feed.
        keys: Public keys (32 bytes) that may have signed.
        fingerprints: Of more such keys; the keys themselves are read from the log.
        anchors: Lines that must be there.
        after: The line before the first one, where older files are kept elsewhere.
    """
    checking = _Checking(keys, fingerprints, anchors, after)
    for name, lines in files:
        checking.begin_file(name)
        for raw in lines:
            checking.take(raw)
    return checking.end()


class _Checking:
    """One pass over a log. After something wrong it goes on from what it finds."""

    def __init__(
        self,
        keys: Collection[bytes],
        fingerprints: Collection[str],
        anchors: Collection[Anchor],
        after: Anchor | None,
    ) -> None:
        self._keys = {fingerprint(key): key for key in keys}
        self._trusted = {*self._keys, *fingerprints}
        self._anchors = dict.fromkeys(anchors, False)
        self._wrong: dict[Anchor, Place] = {}
        self._beyond: dict[Anchor, Place] = {}
        self._seq = after.seq if after else 0
        self._hash = after.hash if after else GENESIS
        for anchor in self._anchors:
            self._anchors[anchor] = (anchor.seq, anchor.hash) == (self._seq, self._hash)
        self._count: int | None = None if after and after.seq else 0  # None: not known
        self._findings: list[Finding] = []
        self._more = 0
        self._notes: list[Finding] = []
        self._place = Place("", 0)
        self._last: Place | None = None  # of the line before
        self._last_line: Line | None = None
        self._reported: Place | None = None
        self._suspects: tuple[Place, Place] | None = None
        self._torn: Place | None = None
        self._last_sound: Place | None = None
        self._files = self._lines = self._entries = self._checkpoints = 0
        self._sealed_seq = self._unsealed = 0
        self._overdue = False
        self._signers: dict[str, None] = {}

    # --- reading ---

    def begin_file(self, name: str) -> None:
        """Go on with the next file."""
        if self._place.line and not isinstance(self._last_line, Checkpoint):
            self._find(self._place, "the file does not end with a checkpoint")
        self._files += 1
        self._place = Place(name, 0)

    def take(self, raw: bytes) -> None:
        """Take the next line of the file."""
        if self._torn is not None:
            self._end_of_torn()
        self._place = Place(self._place.file, self._place.line + 1)
        if not raw.endswith(b"\n"):
            self._torn = self._place
            return
        self._lines += 1
        body = raw[:-1]
        digest = line_hash(body)
        line = decode_line(body)
        if line is None:
            self._take_unreadable(digest)
            return
        self._check_number(line)
        self._check_place_in_file(line)
        self._check_anchors(line.seq, digest)
        self._seq, self._hash = line.seq, digest
        self._last, self._last_line = self._place, line
        match line:
            case EntryLine():
                self._take_entry()
            case KeyLine():
                self._take_key(line)
            case Checkpoint():
                self._take_checkpoint(line)
            case Recovered():
                self._note(f"{line.size_bytes} bytes of an unfinished write were set aside")

    def _end_of_torn(self) -> None:
        assert self._torn is not None
        self._find(self._torn, "the line has no end")
        self._reported, self._torn = self._torn, None
        self._last, self._last_line = self._place, None
        self._count = None

    def _take_unreadable(self, digest: str) -> None:
        self._flush_suspects()
        self._find(self._place, "this is no line of an audit log: changed, or put in")
        self._seq, self._hash = self._seq + 1, digest
        self._check_anchors(self._seq, digest)
        self._last, self._last_line = self._place, None
        self._reported = self._place
        self._count = None

    # --- the chain ---

    def _check_number(self, line: Line) -> None:
        expected = self._seq + 1
        if line.seq == expected:
            self._check_link(line)
            return
        self._flush_suspects()
        if line.seq > expected:
            gap = line.seq - expected
            what = (
                f"{gap} line{'s are' if gap > 1 else ' is'} missing before it: "
                f"number {expected}{f' to {line.seq - 1}' if gap > 1 else ''}"
            )
        else:
            what = f"repeated or out of order: number {line.seq} where {expected} belongs"
        self._find(self._place, what)
        self._reported = self._place
        self._count = None

    def _check_link(self, line: Line) -> None:
        """Compare with the line before; of two links broken in a row, the line between is it."""
        if line.prev == self._hash:
            self._flush_suspects()
            return
        if self._last is None:
            self._find(self._place, "it does not begin the log: lines before it are missing")
            return
        if self._suspects is not None and self._suspects[1] == self._last:
            self._suspects = None
            self._find_changed(self._last, line)
            self._reported = self._last
            return
        self._flush_suspects()
        if self._reported == self._last:
            self._reported = None  # told already: this is what follows from it
            return
        self._suspects = (self._last, self._place)
        # Its signature tells which of the two it is.
        if isinstance(line, Checkpoint) and self._signature_fault(line) is None:
            self._suspects = None
            self._find_changed(self._last, line)

    def _find_changed(self, place: Place, following: Line) -> None:
        what = "the line was changed"
        if isinstance(following, Checkpoint):
            since = f" after {self._last_sound}" if self._last_sound else ""
            what += f", or one before it{since} and the hashes that follow"
        self._find(place, what)

    def _flush_suspects(self) -> None:
        if self._suspects is not None:
            first, second = self._suspects
            self._suspects = None
            self._find(first, f"it and {second} do not fit: one of the two was changed")

    def _check_place_in_file(self, line: Line) -> None:
        number = self._place.line
        if (number == 1) != isinstance(line, KeyLine):
            self._find(
                self._place,
                "a key line that does not begin its file"
                if number > 1
                else "the file does not begin with its key line",
            )
        if number == 2 and not isinstance(line, Checkpoint):
            self._find(self._place, "no checkpoint follows the file's key line")

    # --- kinds of line ---

    def _take_entry(self) -> None:
        self._entries += 1
        self._unsealed += 1
        if self._count is not None:
            self._count += 1
        if self._unsealed > MAX_UNSEALED and not self._overdue:
            self._overdue = True
            self._find(self._place, f"more than {MAX_UNSEALED} entries without a good checkpoint")

    def _take_key(self, line: KeyLine) -> None:
        public_key = bytes.fromhex(line.public_key)
        if line.format != FORMAT:
            self._find(self._place, f"format {line.format} is not known to this version")
        if fingerprint(public_key) != line.key_id:
            self._find(self._place, "the key does not have the fingerprint beside it")
        elif line.key_id in self._trusted:
            self._keys[line.key_id] = public_key

    def _take_checkpoint(self, line: Checkpoint) -> None:
        fault = self._signature_fault(line)
        if fault is not None:
            self._find(self._place, fault)
            self._reported = self._place
            return
        if self._count is not None and line.count != self._count:
            self._find(self._place, f"{self._count} entries are there where it counts {line.count}")
        self._count = line.count
        self._checkpoints += 1
        self._sealed_seq = line.seq
        self._unsealed, self._overdue = 0, False
        self._last_sound = self._place
        self._signers[line.key_id] = None

    def _signature_fault(self, line: Checkpoint) -> str | None:
        if line.key_id not in self._trusted:
            return f"signed with a key that was not given: {line.key_id}"
        key = self._keys.get(line.key_id)
        if key is None:
            return "signed with a key of which only the fingerprint is known"
        if not signed_by(key, checkpoint_message(line), bytes.fromhex(line.signature)):
            return "the signature is not right: changed, or made without the key"
        return None

    # --- anchors and the end ---

    def _check_anchors(self, seq: int, digest: str) -> None:
        for anchor in self._anchors:
            if anchor.seq == seq:
                if anchor.hash == digest:
                    self._anchors[anchor] = True
                else:
                    self._wrong[anchor] = self._place
            elif seq > anchor.seq:
                self._beyond.setdefault(anchor, self._place)

    def end(self) -> Findings:
        """Return what was found."""
        self._flush_suspects()
        for anchor, met in self._anchors.items():
            if not met:
                self._find_unmet(anchor)
            if beyond := self._beyond.get(anchor):
                self._judge_following(anchor, beyond)
        if self._torn is not None:
            self._judge_torn(self._torn)
        if self._unsealed:
            self._note(f"the last {self._unsealed} entries are not yet sealed by a checkpoint")
        if not self._anchors:
            self._note("nothing tells whether newer lines were taken away: give what to expect")
        return Findings(
            findings=tuple(self._findings),
            more=self._more,
            notes=tuple(self._notes),
            files=self._files,
            lines=self._lines,
            entries=self._entries,
            checkpoints=self._checkpoints,
            last_seq=self._seq,
            last_hash=self._hash,
            sealed_seq=self._sealed_seq,
            unsealed_entries=self._unsealed,
            keys=tuple(self._signers),
        )

    def _find_unmet(self, anchor: Anchor) -> None:
        if wrong := self._wrong.get(anchor):
            self._find(wrong, f"line {anchor.seq} is not the one that {anchor.source} tells of")
        elif anchor.seq > self._seq:
            gone = anchor.seq - self._seq
            what = f"the log ends here with line {self._seq}, but {anchor.source} tells of line "
            self._find(self._place, f"{what}{anchor.seq}: the newest {gone} were taken away")
        else:
            self._find(self._place, f"line {anchor.seq}, which {anchor.source} tells of, is gone")

    def _judge_torn(self, torn: Place) -> None:
        """Tell of a kill's trace; harmless if all that was acknowledged is known to be there."""
        bounds = [anchor.most_after for anchor, met in self._anchors.items() if met]
        if self._anchors and len(bounds) == len(self._anchors) and 0 not in bounds:
            self._note("an unfinished write, never acknowledged", torn)
        else:
            self._find(torn, "the line has no end")

    def _judge_following(self, anchor: Anchor, beyond: Place) -> None:
        """Tell of lines after one that was the last to be acknowledged."""
        count, bound = self._seq - anchor.seq, anchor.most_after
        if bound is None:
            return
        what = f"here begin lines after {anchor.seq}, the last that {anchor.source} tells of: "
        if count > bound:
            self._find(beyond, what + "put in")
        else:
            self._note(what + "never acknowledged, or put in", beyond)

    def _find(self, place: Place, what: str) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(Finding(place.file, place.line, what))
        else:
            self._more += 1

    def _note(self, what: str, place: Place | None = None) -> None:
        at = place or self._place
        if len(self._notes) < MAX_FINDINGS:
            self._notes.append(Finding(at.file, at.line, what))


def split_lines(data: bytes) -> Iterator[bytes]:
    """Return the lines of a file, ended by line feeds alone."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
