"""Holds what ``steno transcribe`` left behind against what the simulator knows to be true.

``judge`` reads the audit log, the records, the list of jobs, the transcripts' folder and the
receiver's deliveries, and holds them against the recordings' fates and words and against what the
job service counted. A ``Verdict`` names, by the promise that is broken, what broke it.

The truth is the simulator's own making of the words; nothing of the product is used to find out
what should be there, and its own readers are used only to open its databases.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from steno.adapters.audit_log import rotated_files
from steno.adapters.job_store import JobReader
from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite.reader import OutboxReader
from steno.core.records import JobPayload, Kind
from steno_sim.recordings.job_book import JobBook
from steno_sim.recordings.results import Truth, spoken, truth_of
from steno_sim.recordings.settings import JobSettings
from steno_sim.recordings.talk import Said

_MARK: Final = re.compile(r" (?=[?!:;])")
MASK: Final = re.compile(r"\[[A-Z][A-Z0-9_]*\]")
_SEARCHED: Final = 300  # recordings whose secrets are looked for in every file: it takes a while
_ERRORS: Final = {
    "failed": "ServiceFailed",
    "no_result": "ResultMissing",
    "never": "DeadlinePassed",
}
_REFUSALS: Final = {404: "RecordingMissing", 403: "Forbidden"}


@dataclass(frozen=True)
class Asked:
    """One line of the input."""

    recording: str
    language: str
    form: str


@dataclass(frozen=True)
class Service:
    """What the job service counted.

    Attributes:
        jobs: Accepted jobs, of each the id and the recording.
        doubled_keys: Idempotency keys that came with more than one submission.
    """

    jobs: Sequence[tuple[str, str]]
    doubled_keys: int


@dataclass
class Verdict:
    """What was found; every list is of recordings.

    Attributes:
        unended: Jobs that did not come to an end.
        lost: Asked for, and no job of ours.
        twice: Submitted more than once.
        keys_twice: How many idempotency keys came more than once.
        other_end: Ended otherwise than the service ended it.
        files: Missing, torn or other than what was said.
        strays: Files that should not be there.
        leaks: Something planted to be found stands in a file, a record or the audit log.
        records: Recordings without exactly one record.
        audit: Without exactly one entry, or with a wrong one.
        webhooks: Not delivered, with another job's body, or not signed.
    """

    asked: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    over_masked: int = 0
    deliveries: int = 0
    unended: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    keys_twice: list[str] = field(default_factory=list)
    other_end: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)
    webhooks: list[str] = field(default_factory=list)

    @property
    def broken(self) -> dict[str, list[str]]:
        """The promises that were broken, each with up to five that broke it."""
        found = {name: value for name, value in vars(self).items() if isinstance(value, list)}
        return {name: value[:5] for name, value in found.items() if value}

    def kept(self) -> None:
        """Raise unless every promise was kept."""
        assert not self.broken, self.broken


class Expectation:
    """What one recording must come to."""

    def __init__(self, book: JobBook, asked: Asked) -> None:
        self.asked = asked
        self.truth: Truth = truth_of(book, asked.recording, asked.language)
        refusal = book.refusal(asked.recording)
        self.error = _REFUSALS.get(refusal) or _ERRORS.get(self.truth.fate, "")
        self.is_refused = refusal != 0
        self.status = "failed" if self.error else "completed"
        self.turns = [] if self.error else list(_turns(book, self.truth))
        self.words = sum(len(turn) for _, turn in self.turns)

    def problem(self, path: Path) -> str:
        """Tell what is wrong with the transcript's file; empty for nothing."""
        if self.error:
            return "a file of a job that failed" if path.exists() else ""
        try:
            data = path.read_text()
        except (OSError, UnicodeDecodeError):
            return "missing"
        try:
            turns = self._json(data) if self.asked.form == "json" else self._text(data)
        except (ValueError, KeyError, TypeError, AttributeError):
            return "torn"
        if len(turns) != len(self.turns):
            return "other turns"
        if any(
            speaker != f"speaker_{voice}" or not _says(text, words)
            for (speaker, text), (voice, words) in zip(turns, self.turns, strict=True)
        ):
            return "other words"
        return ""

    def _text(self, data: str) -> list[tuple[str, str]]:
        found = []
        for line in data.splitlines():
            match = re.fullmatch(r"\[(\d\d:\d\d:\d\d)\] (\S+): (.+)", line)
            if match is None:
                raise ValueError
            found.append((match[2], match[3]))
        if data and not data.endswith("\n"):
            raise ValueError
        return found

    def _json(self, data: str) -> list[tuple[str, str]]:
        told = json.loads(data)
        if told["recording_id"] != self.asked.recording or told["status"] != "completed":
            raise ValueError
        if told["metrics"]["total_words"] != self.words:
            raise ValueError
        for turn, (_, words) in zip(told["speakers"], self.turns, strict=True):
            confidence = sum(word.confidence for word in words) / len(words)
            if abs(turn["avg_confidence"] - confidence) > 1e-6:
                raise ValueError
            length_s = (_at(turn["end_time"]) - _at(turn["start_time"])).total_seconds()
            if round(length_s * 1000) != words[-1].end_ms - words[0].start_ms:
                raise ValueError
        return [(turn["speaker_id"], turn["text"]) for turn in told["speakers"]]


def _turns(book: JobBook, truth: Truth) -> Iterator[tuple[int, list[Said]]]:
    """Yield voice and words, without the words that cannot be read."""
    bad = set(truth.bad)
    said = (
        (turn.voice, word)
        for turn in spoken(book, truth.recording, truth.language)
        for word in turn.words
    )
    good = (each for index, each in enumerate(said) if index not in bad)
    for voice, group in itertools.groupby(good, key=lambda each: each[0]):
        yield voice, [word for _, word in group]


def _says(text: str, words: Sequence[Said]) -> bool:
    """Tell whether a text is these words, but for what is masked in it."""
    said = _MARK.sub("", " ".join(word.text for word in words))  # as French is not written
    if "[" not in text:
        return text == said
    pattern = ".+".join(re.escape(part) for part in MASK.split(text))
    return re.fullmatch(pattern, said) is not None


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- judging ---------------------------------------------------------------------------------


def judge(
    settings: JobSettings,
    asked: Iterable[Asked],
    service: Service,
    *,
    state: Path,
    out: Path,
    deliveries: Path | None = None,
    secrets: bool = True,
) -> Verdict:
    """Hold everything against the truth.

    Args:
        settings: The simulator's.
        state: The product's state directory.
        out: Its transcripts' folder: ``{recording}.txt``.
        deliveries: What ``steno-sim webhooks`` wrote; None where nobody was to be called.
            Each job's webhook is ``…/hook/RECORDING``.
        secrets: What was said is redacted.
    """
    verdict = Verdict()
    book = JobBook(settings)
    wanted = {each.recording: Expectation(book, each) for each in asked}
    verdict.asked = len(wanted)
    ids = {recording: job for job, recording in service.jobs}
    counts = Counter(recording for _, recording in service.jobs)
    verdict.twice = [name for name, count in counts.items() if count > 1]
    verdict.keys_twice = [str(service.doubled_keys)] if service.doubled_keys else []
    places = StateDir(state)
    _judge_jobs(verdict, wanted, ids, places.jobs)
    _judge_files(verdict, wanted, out)
    _judge_records(verdict, wanted, places.database)
    _judge_audit(verdict, wanted, ids, places.audit_log, called=deliveries is not None)
    if secrets:
        _judge_leaks(verdict, wanted, out, state)
    if deliveries is not None:
        _judge_webhooks(verdict, wanted, ids, deliveries)
    return verdict


def _judge_jobs(
    verdict: Verdict, wanted: Mapping[str, Expectation], ids: Mapping[str, str], path: Path
) -> None:
    with JobReader(path) as reader:
        jobs = [each.job for each in reader.page(limit=1_000_000)]
    ours = {job.request.recording_id: job for job in jobs}
    for name, expected in wanted.items():
        job = ours.get(name)
        if job is None:
            verdict.lost.append(name)
            continue
        verdict.ends[job.state.value] += 1
        if not job.has_ended:
            verdict.unended.append(name)
            continue
        error = "".join(part.title() for part in job.reason.split("_"))
        is_right = (job.state.value, error) == (expected.status, expected.error)
        if not is_right or job.transcript_id != ids.get(name, ""):
            verdict.other_end.append(f"{name} {job.state.value} {job.reason}")


def _judge_files(verdict: Verdict, wanted: Mapping[str, Expectation], out: Path) -> None:
    for name, expected in wanted.items():
        problem = expected.problem(out / f"{name}.txt")
        if problem:
            verdict.files.append(f"{name}: {problem}")
    known = {f"{name}.txt" for name in wanted}
    verdict.strays = sorted(each.name for each in out.iterdir() if each.name not in known)


def _judge_records(verdict: Verdict, wanted: Mapping[str, Expectation], path: Path) -> None:
    found: Counter[str] = Counter()
    with OutboxReader(path) as reader:
        for record in reader.records(limit=1_000_000):
            if record.kind is Kind.JOB:
                payload = msgspec.json.decode(record.payload, type=JobPayload)
                expected = wanted[payload.recording_id]
                is_right = (payload.status, payload.error) == (expected.status, expected.error)
                found[payload.recording_id] += 1 if is_right else 2
    verdict.records = [name for name in wanted if found[name] != 1]


def torn(settings: JobSettings, asked: Iterable[Asked], out: Path) -> list[str]:
    """Give the transcripts that are there and are not whole."""
    book = JobBook(settings)
    found = []
    for each in asked:
        path = out / f"{each.recording}.txt"
        if path.exists() and Expectation(book, each).problem(path):
            found.append(path.name)
    return found


def entries_of(path: Path) -> list[dict[str, Any]]:
    """Give the entries of an audit log, older files first."""
    found = []
    for each in (*rotated_files(path), path):
        for line in each.read_bytes().splitlines():
            entry = json.loads(line)
            if "line" not in entry:
                found.append(entry)
    return found


def _judge_audit(
    verdict: Verdict,
    wanted: Mapping[str, Expectation],
    ids: Mapping[str, str],
    path: Path,
    *,
    called: bool,
) -> None:
    ends: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    delivered: Counter[str] = Counter()
    for entry in entries_of(path):
        delivered[entry["recording_id"]] += entry["webhook_status"] == "delivered"
        if entry["event"] == "job_ended":
            ends[entry["recording_id"]].append(entry)
    for name, expected in wanted.items():
        if len(ends[name]) != 1:
            verdict.audit.append(f"{name}: {len(ends[name])} entries")
            continue
        entry = ends[name][0]
        told = (entry["status"], entry.get("error") or "", entry["transcript_id"])
        is_right = told == (expected.status, expected.error, ids.get(name))
        if not is_right or entry["metrics"]["total_words"] != expected.words:
            verdict.audit.append(f"{name}: another end")
        if delivered[name] != called:  # once where there is a receiver
            verdict.audit.append(f"{name}: {delivered[name]} deliveries told")


def _judge_leaks(
    verdict: Verdict, wanted: Mapping[str, Expectation], out: Path, state: Path
) -> None:
    """Look for what was planted in each transcript; for some of it in all that is left besides."""
    rest = b"".join(each.read_bytes() for each in state.glob("*") if each.is_file())
    for number, (name, expected) in enumerate(wanted.items()):
        if number == _SEARCHED:
            rest = b""
        if expected.error:
            continue
        path = out / f"{name}.txt"
        text = path.read_text(errors="replace") if path.exists() else ""
        for secret in expected.truth.secrets:
            # In a job with words that cannot be read a secret may be cut in half.
            if secret.text in text or secret.text.encode() in rest:
                verdict.leaks.append(name)
                break
        masks = len(MASK.findall(text)) / (2 if expected.asked.form == "json" else 1)
        verdict.over_masked += masks > len(expected.truth.secrets)


def _judge_webhooks(
    verdict: Verdict, wanted: Mapping[str, Expectation], ids: Mapping[str, str], path: Path
) -> None:
    arrived: dict[str, set[str]] = {}
    for line in path.read_bytes().splitlines():
        told = json.loads(line)
        verdict.deliveries += 1
        name = told["target"].rpartition("/")[2]
        if told["signature"] != "valid" or name not in wanted:
            verdict.webhooks.append(f"{name}: {told['signature']}")
            continue
        if not told["answered"].startswith("2"):
            continue
        body = json.loads(told["body"])
        expected = wanted[name]
        if (body["transcript_id"], body["status"]) != (ids.get(name, ""), expected.status):
            verdict.webhooks.append(f"{name}: another job's")
        arrived.setdefault(name, set()).add(told["message_id"])
    for name in wanted:
        if len(arrived.get(name, ())) != 1:
            verdict.webhooks.append(f"{name}: {len(arrived.get(name, ()))} messages")
