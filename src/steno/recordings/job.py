"""The life of a transcription job: what to do next, and what follows from each answer.

A job is ``planned``. Before it is sent, ``submitting`` is stored: from then on the service may
have it. An answer with an id makes it ``submitted``, and it is polled until the service calls it
``completed`` or ``failed``. A refusal that proves that the service has not taken it leads back to
``planned``, to be tried again, or to ``failed``. Where nothing is proved (no answer came, or the
process ended before it was stored) the job is ``in_doubt``: then it is looked for at the service,
and only if it is not there is it planned again. ``Policy.doubt`` says how a doubt is settled; the
id of a job goes with every submission as its idempotency key.

Being paused is no state: ``paused_us`` stands beside it, and what was in flight is still taken
in. Answers that come late are never lost: an id is kept in whatever state it finds the job.

The order that keeps a job from being submitted twice, for whoever carries the steps out:

1. ``Submit``: store ``intent``; only when the store has taken it, send it.
2. Store what ``accepted`` or ``call_failed`` makes of the outcome. If the store does not take it
   (the job was paused or cancelled meanwhile), read the job again and apply the outcome to that.
3. ``polled`` with words: store the results first, then the job. A crash between the two only
   means that the results come once more.

Pure: every function takes ``now_us`` (UTC microseconds, as jobs outlive processes) and, where
waits are spread, ``draw`` (uniform in [0, 1)); what it returns is the job to store, one version on.
A call that changes nothing returns the same object.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Any, Final, assert_never

import msgspec

from steno.errors import (
    AuthError,
    ConfigError,
    ConnectFailed,
    EngineUnavailable,
    ObjectMissing,
    PeerUnavailable,
    ProtocolError,
    RateLimited,
    RemoteProtocolError,
    SpeechError,
    StenoError,
    TimedOut,
    UnsupportedAudio,
)
from steno.ports.jobs import Job, JobState, TranscriptionRequest, Wish, WishKind
from steno.wire.recording_jobs import FoundJob, JobAnswer, JobStatus

MOVES: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.PLANNED: frozenset(
        {
            JobState.SUBMITTING,
            JobState.SUBMITTED,  # an answer that came late
            JobState.FAILED,
            JobState.CANCELLED,
        }
    ),
    JobState.SUBMITTING: frozenset(
        {
            JobState.SUBMITTED,
            JobState.PLANNED,  # surely not taken
            JobState.IN_DOUBT,
            JobState.FAILED,
            JobState.CANCELLED,
        }
    ),
    JobState.IN_DOUBT: frozenset(
        {
            JobState.SUBMITTED,  # found, or an answer that came late
            JobState.PLANNED,  # not there, or the service tells repeats by their key
            JobState.FAILED,
            JobState.CANCELLED,
        }
    ),
    JobState.SUBMITTED: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""Legal moves."""

_NAMESPACE: Final = uuid.UUID("8b0c1f3e-6a52-5d0e-9f7b-2f5b7a64c1d9")
_US: Final = 1_000_000


class Doubt(StrEnum):
    """How to settle whether the service has a job.

    ``LOOK`` asks the service for the jobs of the recording. ``RESUBMIT`` sends it again with the
    same key: only for a service that tells repeats by it. ``FAIL`` gives the job up.
    """

    LOOK = "look"
    RESUBMIT = "resubmit"
    FAIL = "fail"


class Reason(StrEnum):
    """Why a job failed, or is waiting to try again."""

    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RECORDING_MISSING = "recording_missing"
    JOB_MISSING = "job_missing"
    REFUSED = "refused"
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    BAD_ANSWER = "bad_answer"
    SETUP = "setup"
    SUBMISSION_IN_DOUBT = "submission_in_doubt"
    DEADLINE_PASSED = "deadline_passed"
    SERVICE_FAILED = "service_failed"
    RESULT_MISSING = "result_missing"
    RESULT_UNREADABLE = "result_unreadable"
    EXPORT_FAILED = "export_failed"
    AUDIO_UNREADABLE = "audio_unreadable"
    SPEECH_UNAVAILABLE = "speech_unavailable"
    SPEECH_FAILED = "speech_failed"
    TRANSCRIPT_MISSING = "transcript_missing"


REMEDIES: Final[dict[Reason, str]] = {
    Reason.BAD_REQUEST: "The service refused the request's values: check language and format.",
    Reason.UNAUTHENTICATED: (
        "Check client id and secret, and that the client has transcription:read and"
        " transcription:write."
    ),
    Reason.FORBIDDEN: (
        "Give the client access to the recording's queue or user (recordings:download), and see"
        " that transcription is enabled for the organisation."
    ),
    Reason.RECORDING_MISSING: "Check the recording id; the recording may have been deleted.",
    Reason.JOB_MISSING: "The service no longer knows the job: transcribe the recording again.",
    Reason.REFUSED: "The service refused the call for good: look at its code and status.",
    Reason.CONFLICT: "The service holds another job in the way: look for it there.",
    Reason.RATE_LIMITED: "Lower the requests per minute, or run fewer jobs side by side.",
    Reason.UNAVAILABLE: "Try again when the service is up; allow more retries for long outages.",
    Reason.TIMED_OUT: "Try again later, or allow a call more time.",
    Reason.UNREACHABLE: "Check the host, the network and the proxy.",
    Reason.BAD_ANSWER: "Check that the host is the transcription service.",
    Reason.SETUP: "Check the settings of the service.",
    Reason.SUBMISSION_IN_DOUBT: (
        "Whether the service has the job is not known. Look there, then ask for it again; or set"
        " how doubts are settled."
    ),
    Reason.DEADLINE_PASSED: "The job took longer than its deadline: allow more time.",
    Reason.SERVICE_FAILED: "The service could not transcribe the recording: see its code.",
    Reason.RESULT_MISSING: "The service called it completed without a result: ask again later.",
    Reason.RESULT_UNREADABLE: "The words could not be read: allow unreadable ones to be skipped.",
    Reason.EXPORT_FAILED: (
        "The platform did not hand the recording out: see there whether it is archived, deleted or"
        " withheld."
    ),
    Reason.AUDIO_UNREADABLE: (
        "The audio is empty, broken off or of a codec that is not read: its code says which."
    ),
    Reason.SPEECH_UNAVAILABLE: "Check that the speech service runs, and its address.",
    Reason.SPEECH_FAILED: "The recogniser cannot work with this audio: see its log.",
    Reason.TRANSCRIPT_MISSING: (
        "The platform has no transcript of the recording: recognise its audio (--engine audio)."
    ),
}
"""What a reader can do about each."""


_REASONS: Final = frozenset(reason.value for reason in Reason)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How patiently a job is carried out. Seconds.

    Attributes:
        poll_first_s, poll_cap_s, poll_growth: Waits between polls, from the first to the longest.
        max_retries: Failed calls in a row after which the job fails; raise it for long outages.
        retry_first_s, retry_cap_s: Waits between tries, doubling, with up to a quarter added.
        retry_after_cap_s: Longest wait the service can ask for.
        total_s: From the first submission to the end of the job; pauses do not count.
        settle_s: How long after an intent a submission may still reach the service. It must be
            longer than the limit of the call that submits: nobody looks for a job before.
        doubt: How a doubt is settled.
        unlookable: The same where the service has no list to look into.
    """

    poll_first_s: float = 5.0
    poll_cap_s: float = 30.0
    poll_growth: float = 1.5
    max_retries: int = 5
    retry_first_s: float = 2.0
    retry_cap_s: float = 30.0
    retry_after_cap_s: float = 300.0
    total_s: float = 6 * 3600.0
    settle_s: float = 45.0
    doubt: Doubt = Doubt.LOOK
    unlookable: Doubt = Doubt.FAIL

    def __post_init__(self) -> None:
        for name, is_right in (
            ("poll_first_s", 0 < self.poll_first_s <= self.poll_cap_s),
            ("poll_growth", self.poll_growth >= 1),
            ("max_retries", self.max_retries >= 0),
            ("retry_first_s", 0 < self.retry_first_s <= self.retry_cap_s),
            ("retry_after_cap_s", self.retry_after_cap_s >= 0),
            ("total_s", self.total_s > 0),
            ("settle_s", self.settle_s > 0),
            ("unlookable", self.unlookable is not Doubt.LOOK),
        ):
            if not is_right:
                raise ConfigError("this value cannot work", setting=name)


# --- what to do next -------------------------------------------------------------------------


class Submit(msgspec.Struct, frozen=True, gc=False):
    """Store ``intent``, then send its request with ``intent.id`` as the idempotency key."""

    intent: Job


class Look(msgspec.Struct, frozen=True, gc=False):
    """Ask the service for the jobs of the recording, then call ``looked``."""

    job: Job


class Poll(msgspec.Struct, frozen=True, gc=False):
    """Ask the service how the job stands, then call ``polled``."""

    job: Job


class Keep(msgspec.Struct, frozen=True, gc=False):
    """Store ``job`` and ask for the next step again."""

    job: Job


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Nothing before ``until_us``; 0 where nothing will come by itself (ended or paused)."""

    until_us: int


Step = Submit | Look | Poll | Keep | Wait


class CallFailure(msgspec.Struct, frozen=True, gc=False):
    """What a failed call proves and asks for.

    Attributes:
        is_retryable: The same call can succeed later.
        may_be_taken: If it was a submission, the service may have the job all the same.
        retry_after_s: The service's wish, seconds.
        code: The service's own word, checked where the error was made.
    """

    reason: Reason
    status: int = 0
    is_retryable: bool = False
    may_be_taken: bool = False
    retry_after_s: float | None = None
    code: str = ""


def failure_of(error: StenoError) -> CallFailure:
    """Return what an error of a call means for the job.

    Only a refusal proves that a submission was not taken: no connection, 429, 503 and the 4xx.
    Any other 5xx, no answer in time, and an answer that cannot be read prove nothing.
    """
    status = _number(error.fields.get("status"))
    code = str(error.fields.get("code") or "")
    told = error.fields.get("reason")
    if told in _REASONS:  # an engine in this process knows better than its class
        return CallFailure(Reason(str(told)), status, error.retryable, False, None, code)
    match error:
        case RateLimited():
            return CallFailure(Reason.RATE_LIMITED, 429, True, False, error.retry_after_s, code)
        case AuthError():
            reason = Reason.FORBIDDEN if status == 403 else Reason.UNAUTHENTICATED
            return CallFailure(reason, status, code=code)
        case ObjectMissing():
            return CallFailure(Reason.RECORDING_MISSING, status or 404, code=code)
        case ConnectFailed():
            return CallFailure(Reason.UNREACHABLE, 0, True, False)
        case TimedOut():
            return CallFailure(Reason.TIMED_OUT, 0, True, True)
        case PeerUnavailable():
            wait_s = error.fields.get("retry_after_s")
            wish_s = float(wait_s) if isinstance(wait_s, int | float) else None
            return CallFailure(Reason.UNAVAILABLE, status, True, status != 503, wish_s, code)
        case RemoteProtocolError():
            return CallFailure(Reason.BAD_ANSWER, status, True, True, code=code)
        case UnsupportedAudio():
            return CallFailure(Reason.AUDIO_UNREADABLE, code=code)
        case EngineUnavailable():
            return CallFailure(Reason.SPEECH_UNAVAILABLE, is_retryable=True, code=code)
        case SpeechError():
            return CallFailure(Reason.SPEECH_FAILED, code=code)
        case ProtocolError() if status == 409:
            return CallFailure(Reason.CONFLICT, status, True, True, code=code)
        case ProtocolError():
            reason = Reason.BAD_REQUEST if status == 400 else Reason.REFUSED
            return CallFailure(reason, status, code=code)
        case _ if error.retryable:
            return CallFailure(Reason.UNREACHABLE, status, True, True, code=code)
        case _:
            return CallFailure(Reason.SETUP, status, code=code)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def remedy(job: Job) -> str:
    """Return what a reader can do about a failed job; empty for any other."""
    if job.state is not JobState.FAILED:
        return ""
    return next((text for reason, text in REMEDIES.items() if reason == job.reason), "")


def job_id(host_group: str, engine: str, request: TranscriptionRequest, *, run: int = 0) -> str:
    """Return the id that the same request has at every start, on every machine.

    Args:
        host_group: Organisation, or the primary host's name: primary and backup are one.
        run: Counts how often the same thing was asked for on purpose.
    """
    # Named one by one: a field added later must not give old requests new ids.
    parts = (
        host_group,
        engine,
        str(run),
        request.recording_id,
        request.language,
        request.format,
        str(request.speaker_diarization),
        str(request.word_confidence),
        str(request.timestamps),
        request.webhook,
        *((request.conversation_id,) if request.conversation_id else ()),
    )
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def may_move(state: JobState, to: JobState) -> bool:
    """Tell whether a job may go from ``state`` to ``to``."""
    return to in MOVES[state]


def plan(
    request: TranscriptionRequest,
    *,
    host_group: str,
    now_us: int,
    batch: str = "",
    engine: str = "service",
    run: int = 0,
    out: str = "",
    redact: bool = True,
) -> Job:
    """Return a new job, due at once."""
    return Job(
        job_id(host_group, engine, request, run=run),
        request,
        now_us,
        batch,
        engine,
        next_due_us=now_us,
        out=out,
        redact=redact,
    )


class JobMachine:
    """Decides every move of a job, by one policy. It holds no state.

    Args:
        policy: How patiently.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()

    # --- steps -------------------------------------------------------------------------------

    def next_step(self, job: Job, now_us: int) -> Step:
        """Return what to do for a job now."""
        if not job.is_active:
            return Wait(0)
        if now_us < job.next_due_us:
            return Wait(job.next_due_us)
        if job.state is JobState.SUBMITTING:
            # No outcome was ever stored: the process ended, or lost it. ``next_due_us`` was put
            # behind the time in which the submission can still arrive.
            return Keep(self._moved(job, JobState.IN_DOUBT, next_due_us=now_us))
        if job.deadline_us and now_us >= job.deadline_us:
            return Keep(self._ended(job, JobState.FAILED, now_us, Reason.DEADLINE_PASSED))
        match job.state:
            case JobState.PLANNED:
                return Submit(self._intent(job, now_us))
            case JobState.IN_DOUBT:
                if self.policy.doubt is Doubt.LOOK:
                    return Look(job)
                return Keep(self._unlooked(job, self.policy.doubt, now_us))
            case JobState.SUBMITTED:
                return Poll(job)
            case _:
                raise AssertionError("an ended job is not active")

    def _intent(self, job: Job, now_us: int) -> Job:
        return self._moved(
            job,
            JobState.SUBMITTING,
            submissions=job.submissions + 1,
            started_us=job.started_us or now_us,
            deadline_us=job.deadline_us or now_us + _us(self.policy.total_s),
            next_due_us=now_us + _us(self.policy.settle_s),
        )

    # --- submissions -------------------------------------------------------------------------

    def accepted(self, job: Job, answer: JobAnswer, now_us: int, draw: float) -> Job:
        """Take in the answer to a submission, in whatever state it finds the job.

        An ended job keeps its state and learns the id; a job that has an id keeps its first one.
        """
        if job.transcript_id:
            return job
        if job.has_ended:
            return self._kept(job, transcript_id=answer.id)
        if answer.status is JobStatus.FAILED:
            return self._ended(
                job, JobState.FAILED, now_us, Reason.SERVICE_FAILED, answer.error,
                transcript_id=answer.id, service_status=answer.told,
                submitted_us=job.submitted_us or now_us,
            )  # fmt: skip
        is_done = answer.status is JobStatus.COMPLETED
        return self._adopted(job, answer.id, answer.told, now_us, 0.0 if is_done else draw, is_done)

    def _adopted(
        self, job: Job, transcript_id: str, told: str, now_us: int, draw: float, is_done: bool
    ) -> Job:
        wait_us = 0 if is_done else _us(self.poll_wait_s(0, draw))
        return self._moved(
            job,
            JobState.SUBMITTED,
            transcript_id=transcript_id,
            service_status=told,
            submitted_us=now_us,
            attempts=0,
            reason="",
            code="",
            next_due_us=_within(job, now_us + wait_us),
        )

    def looked(
        self, job: Job, found: Iterable[FoundJob], owned: Collection[str], now_us: int
    ) -> Job:
        """Take in what the service lists of the recording of a job in doubt.

        Args:
            owned: Ids of the service that other jobs of ours hold.

        One that carries our key is ours. Otherwise one that asks for the same, has not failed and
        is nobody's is taken: its transcript is the one asked for, whoever submitted it.
        """
        if job.state is not JobState.IN_DOUBT:
            return job
        ours = _ours(job, found, owned)
        if ours is not None:
            return self._adopted(job, ours.id, ours.status.value, now_us, 0.0, is_done=True)
        return self._absent(job, now_us)

    def look_unavailable(self, job: Job, now_us: int) -> Job:
        """Take in that the service has no list: ``Policy.unlookable`` decides."""
        if job.state is not JobState.IN_DOUBT:
            return job
        return self._unlooked(job, self.policy.unlookable, now_us)

    def _unlooked(self, job: Job, how: Doubt, now_us: int) -> Job:
        if how is Doubt.RESUBMIT:
            return self._absent(job, now_us)
        return self._ended(job, JobState.FAILED, now_us, Reason.SUBMISSION_IN_DOUBT, job.code)

    def _absent(self, job: Job, now_us: int) -> Job:
        if job.attempts > self.policy.max_retries:
            return self._ended(
                job, JobState.FAILED, now_us, job.reason or Reason.UNAVAILABLE, job.code
            )
        return self._moved(job, JobState.PLANNED, next_due_us=_within(job, now_us))

    # --- polls -------------------------------------------------------------------------------

    def polled(
        self,
        job: Job,
        answer: JobAnswer,
        now_us: int,
        draw: float,
        *,
        retry_after_s: float | None = None,
    ) -> Job:
        """Take in the answer to a poll. With a result: store that before the job.

        Args:
            retry_after_s: When the service wants the next poll, seconds.
        """
        if job.state is not JobState.SUBMITTED:
            return job
        match answer.status:
            case JobStatus.FAILED:
                return self._ended(
                    job, JobState.FAILED, now_us, Reason.SERVICE_FAILED, answer.error,
                    service_status=answer.told, polls=job.polls + 1,
                )  # fmt: skip
            case JobStatus.COMPLETED:
                state = JobState.FAILED if answer.lacks_result else JobState.COMPLETED
                reason = Reason.RESULT_MISSING if answer.lacks_result else ""
                return self._ended(
                    job, state, now_us, reason, service_status=answer.told, polls=job.polls + 1
                )
            case JobStatus.QUEUED | JobStatus.PROCESSING | JobStatus.OTHER:
                wait_s = self._wish(self.poll_wait_s(job.polls + 1, draw), retry_after_s, draw)
                return self._kept(
                    job,
                    service_status=answer.told,
                    polls=job.polls + 1,
                    attempts=0,
                    reason="",
                    code="",
                    next_due_us=_within(job, now_us + _us(wait_s)),
                )
            case _:
                assert_never(answer.status)

    def refuse_result(self, job: Job, now_us: int) -> Job:
        """Fail a job whose words cannot be read, instead of completing it."""
        if job.state is not JobState.SUBMITTED:
            return job
        return self._ended(job, JobState.FAILED, now_us, Reason.RESULT_UNREADABLE)

    # --- failed calls ------------------------------------------------------------------------

    def call_failed(self, job: Job, failure: CallFailure, now_us: int, draw: float) -> Job:
        """Take in that the call of the job's step failed: submission, look, poll or pre-flight."""
        match job.state:
            case JobState.PLANNED:  # the pre-flight question
                return self._again_or_failed(job, JobState.PLANNED, failure, now_us, draw)
            case JobState.SUBMITTING if failure.may_be_taken:
                failed = self._again(job, failure, now_us, draw)
                # ``job.next_due_us``: not before the submission can no longer arrive.
                due_us = max(failed["next_due_us"], job.next_due_us)
                return self._moved(job, JobState.IN_DOUBT, **failed | {"next_due_us": due_us})
            case JobState.SUBMITTING:
                return self._again_or_failed(job, JobState.PLANNED, failure, now_us, draw)
            case JobState.IN_DOUBT if failure.status in (404, 405, 501):
                return self.look_unavailable(job, now_us)
            case JobState.IN_DOUBT:
                ended = self._again_or_failed(job, JobState.IN_DOUBT, failure, now_us, draw)
                if ended.state is JobState.FAILED and failure.is_retryable:
                    return msgspec.structs.replace(ended, reason=Reason.SUBMISSION_IN_DOUBT)
                return ended
            case JobState.SUBMITTED:
                if failure.reason is Reason.RECORDING_MISSING:
                    failure = msgspec.structs.replace(failure, reason=Reason.JOB_MISSING)
                return self._again_or_failed(job, JobState.SUBMITTED, failure, now_us, draw)
            case JobState.COMPLETED | JobState.FAILED | JobState.CANCELLED:
                return job
            case _:
                assert_never(job.state)

    def _again_or_failed(
        self, job: Job, to: JobState, failure: CallFailure, now_us: int, draw: float
    ) -> Job:
        if not failure.is_retryable or job.attempts >= self.policy.max_retries:
            return self._ended(
                job, JobState.FAILED, now_us, failure.reason, failure.code,
                attempts=job.attempts + 1,
            )  # fmt: skip
        changes = self._again(job, failure, now_us, draw)
        return self._kept(job, **changes) if to is job.state else self._moved(job, to, **changes)

    def _again(self, job: Job, failure: CallFailure, now_us: int, draw: float) -> dict[str, Any]:
        # Any: fields of a job, of several types.
        wait_s = self._wish(self.retry_wait_s(job.attempts + 1, draw), failure.retry_after_s, draw)
        return {
            "attempts": job.attempts + 1,
            "reason": failure.reason,
            "code": failure.code,
            "next_due_us": _within(job, now_us + _us(wait_s)),
        }

    # --- waits -------------------------------------------------------------------------------

    def poll_wait_s(self, polls: int, draw: float) -> float:
        """Return the wait before the next poll, after so many: from 5 s (6 s) to 24 s (30 s)."""
        policy = self.policy
        longest_s = 1.2 * policy.poll_first_s * policy.poll_growth ** min(polls, 64)
        longest_s = min(policy.poll_cap_s, longest_s)
        shortest_s = max(policy.poll_first_s, longest_s / 1.25)
        return shortest_s + draw * max(0.0, longest_s - shortest_s)

    def retry_wait_s(self, attempts: int, draw: float) -> float:
        """Return the wait after so many failed calls in a row (at least one)."""
        policy = self.policy
        base_s = min(policy.retry_cap_s, policy.retry_first_s * 2.0 ** min(attempts - 1, 64))
        return base_s * (1.0 + 0.25 * draw)

    def _wish(self, wait_s: float, wish_s: float | None, draw: float) -> float:
        if wish_s is None or wish_s != wish_s or wish_s <= 0:  # NaN is unequal to itself
            return wait_s
        # A tenth on top: all who were told the same must not come back together.
        return max(wait_s, min(wish_s, self.policy.retry_after_cap_s) * (1.0 + 0.1 * draw))

    # --- an operator's wishes ----------------------------------------------------------------

    def granted(self, job: Job, wish: Wish, now_us: int) -> Job:
        """Return the job as a wish wants it; the same object where it changes nothing."""
        match wish.kind:
            case WishKind.PAUSE:
                return self.pause(job, now_us)
            case WishKind.RESUME:
                return self.resume(job, now_us)
            case WishKind.CANCEL:
                return self.cancel(job, now_us)
            case _:
                assert_never(wish.kind)

    def pause(self, job: Job, now_us: int) -> Job:
        """Begin nothing more for a job; what is in flight is still taken in."""
        if not job.is_active:
            return job
        return self._kept(job, paused_us=max(1, now_us))

    def resume(self, job: Job, now_us: int) -> Job:
        """Go on with a paused job; the time of the pause is added to its deadline."""
        if not job.paused_us or job.has_ended:
            return job
        pause_us = max(0, now_us - job.paused_us)
        deadline_us = job.deadline_us + pause_us if job.deadline_us else 0
        return self._kept(job, paused_us=0, deadline_us=deadline_us)

    def cancel(self, job: Job, now_us: int) -> Job:
        """End a job. The service is not told: it has no call for it."""
        if job.has_ended:
            return job
        return self._ended(job, JobState.CANCELLED, now_us, "")

    # --- moves -------------------------------------------------------------------------------

    @staticmethod
    def _kept(job: Job, **changes: Any) -> Job:  # Any: fields of a job
        return msgspec.structs.replace(job, version=job.version + 1, **changes)

    @staticmethod
    def _moved(job: Job, to: JobState, **changes: Any) -> Job:  # Any: fields of a job
        assert to in MOVES[job.state], f"{job.state} to {to}"
        return msgspec.structs.replace(job, state=to, version=job.version + 1, **changes)

    def _ended(
        self, job: Job, to: JobState, now_us: int, reason: str, code: str = "", **changes: Any
    ) -> Job:  # Any: fields of a job
        return self._moved(
            job, to, ended_us=now_us, next_due_us=0, paused_us=0, reason=str(reason), code=code,
            **changes,
        )  # fmt: skip


def _ours(job: Job, found: Iterable[FoundJob], owned: Collection[str]) -> FoundJob | None:
    request = job.request
    alike: FoundJob | None = None
    for each in found:
        if each.key:
            if each.key == job.id:
                return each
            continue
        if (
            alike is None
            and each.status is not JobStatus.FAILED
            and each.id not in owned
            and each.recording_id in ("", request.recording_id)
            and each.language in ("", request.language)
            and each.format in ("", request.format)
        ):
            alike = each
    return alike


def _within(job: Job, due_us: int) -> int:
    """Return a due time that is not beyond the deadline, so that the job fails in time."""
    return min(due_us, job.deadline_us) if job.deadline_us else due_us


def _us(seconds: float) -> int:
    return int(seconds * _US)
