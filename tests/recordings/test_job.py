"""Moves, waits and doubts of a transcription job, one rule each."""

from __future__ import annotations

import math

import msgspec
import pytest

from recordings.job_helpers import NOW_US, RECORDING, REQUEST, WORDS, S, a_job, an_answer
from steno.errors import (
    AuthError,
    ConfigError,
    ConnectFailed,
    ObjectMissing,
    PeerUnavailable,
    ProtocolError,
    RateLimited,
    RemoteProtocolError,
    StenoError,
    TimedOut,
    TransportError,
)
from steno.ports.jobs import ENDED, Job, JobState, TranscriptionRequest, Wish, WishKind
from steno.recordings.job import (
    MOVES,
    REMEDIES,
    CallFailure,
    Doubt,
    JobMachine,
    Keep,
    Look,
    Policy,
    Poll,
    Reason,
    Submit,
    Wait,
    failure_of,
    job_id,
    may_move,
    remedy,
)
from steno.wire.recording_jobs import FoundJob, JobStatus

MACHINE = JobMachine()
BUSY = CallFailure(Reason.UNAVAILABLE, 503, is_retryable=True)
LOST = CallFailure(Reason.TIMED_OUT, 0, is_retryable=True, may_be_taken=True)


def intent(machine: JobMachine = MACHINE, job: Job | None = None, now_us: int = NOW_US) -> Job:
    step = machine.next_step(job or a_job(), now_us)
    assert isinstance(step, Submit)
    return step.intent


def submitted(machine: JobMachine = MACHINE) -> Job:
    return machine.accepted(intent(machine), an_answer(), NOW_US, 0.0)


def in_doubt(machine: JobMachine = MACHINE) -> Job:
    return machine.call_failed(intent(machine), LOST, NOW_US, 0.0)


def every_state() -> list[Job]:
    done = MACHINE.polled(submitted(), an_answer(JobStatus.COMPLETED, words=WORDS), NOW_US, 0.0)
    failed = MACHINE.polled(submitted(), an_answer(JobStatus.FAILED), NOW_US, 0.0)
    jobs = [
        a_job(), intent(), in_doubt(), submitted(), done, failed, MACHINE.cancel(a_job(), NOW_US)
    ]  # fmt: skip
    assert {job.state for job in jobs} == set(JobState)
    return jobs


# --- the plain way ---------------------------------------------------------------------------


def test_the_id_is_the_same_for_the_same_request_and_no_other() -> None:
    """It is the idempotency key: any field, host group, engine or run makes another."""
    one = job_id("h", "service", REQUEST)
    assert one == job_id("h", "service", TranscriptionRequest(RECORDING, "".join(["en", "-US"])))
    changed = [
        msgspec.structs.replace(REQUEST, language="de-DE"),
        msgspec.structs.replace(REQUEST, format="srt"),
        msgspec.structs.replace(REQUEST, webhook="https://x/"),
        msgspec.structs.replace(REQUEST, timestamps=False),
    ]
    others = {job_id("h", "service", request) for request in changed}
    others |= {
        job_id("h2", "service", REQUEST),
        job_id("h", "platform", REQUEST),
        job_id("h", "service", REQUEST, run=1),
    }
    assert len(others) == 7
    assert one not in others


def test_the_intent_is_told_before_the_submission() -> None:
    """The step holds the job to store first, with the deadline counting from now."""
    job = intent()
    assert (job.state, job.version, job.submissions) == (JobState.SUBMITTING, 1, 1)
    assert (job.started_us, job.deadline_us) == (NOW_US, NOW_US + 6 * 3600 * S)


def test_a_job_is_polled_until_it_is_completed() -> None:
    """Queued, processing and unknown words go on; completed ends it."""
    job = submitted()
    assert (job.state, job.transcript_id) == (JobState.SUBMITTED, "t-1")
    assert MACHINE.next_step(job, job.next_due_us - 1) == Wait(job.next_due_us)
    for status, told in ((JobStatus.PROCESSING, ""), (JobStatus.OTHER, "archiving")):
        assert MACHINE.next_step(job, job.next_due_us) == Poll(job)
        job = MACHINE.polled(job, an_answer(status, told=told), job.next_due_us, 0.5)
        assert job.service_status == told or status.value
    job = MACHINE.polled(job, an_answer(JobStatus.COMPLETED, words=WORDS), job.next_due_us, 0.5)
    assert (job.state, job.polls, job.reason) == (JobState.COMPLETED, 3, "")
    assert MACHINE.next_step(job, job.ended_us + 10**15) == Wait(0)


def test_completed_without_a_result_is_a_failure() -> None:
    """There is nothing to hand on."""
    job = MACHINE.polled(submitted(), an_answer(JobStatus.COMPLETED), NOW_US, 0.0)
    assert (job.state, job.reason) == (JobState.FAILED, Reason.RESULT_MISSING)


def test_a_failed_job_keeps_the_services_word() -> None:
    """Checked by the wire; the remedy is a text of ours."""
    job = MACHINE.polled(submitted(), an_answer(JobStatus.FAILED, error="a.b"), NOW_US, 0.0)
    assert (job.state, job.reason, job.code) == (JobState.FAILED, Reason.SERVICE_FAILED, "a.b")
    assert remedy(job) == REMEDIES[Reason.SERVICE_FAILED]


def test_an_answer_completed_at_once_is_polled_at_once() -> None:
    """The result comes with a poll."""
    job = MACHINE.accepted(intent(), an_answer(JobStatus.COMPLETED), NOW_US, 0.9)
    assert MACHINE.next_step(job, NOW_US) == Poll(job)


def test_an_answer_failed_at_once_ends_the_job() -> None:
    """With the id it was given."""
    job = MACHINE.accepted(intent(), an_answer(JobStatus.FAILED), NOW_US, 0.9)
    assert (job.state, job.transcript_id) == (JobState.FAILED, "t-1")


def test_a_result_that_cannot_be_read_fails_the_job() -> None:
    """By the caller's choice, instead of completing it."""
    job = MACHINE.refuse_result(submitted(), NOW_US)
    assert (job.state, job.reason) == (JobState.FAILED, Reason.RESULT_UNREADABLE)
    assert MACHINE.refuse_result(job, NOW_US) is job


# --- waits -----------------------------------------------------------------------------------


def test_polls_grow_from_5_to_30_seconds_with_jitter() -> None:
    """Never shorter than the first wait, never longer than the cap."""
    waits = [MACHINE.poll_wait_s(n, 0.0) for n in range(12)]
    longest = [MACHINE.poll_wait_s(n, 0.999) for n in range(12)]
    assert waits[0] == 5.0
    assert waits == sorted(waits)
    assert 29.9 < longest[-1] <= 30.0
    assert all(low < high for low, high in zip(waits, longest, strict=True))


def test_retries_double_from_2_to_30_seconds() -> None:
    """2, 4, 8, 16, 30, with up to a quarter added."""
    assert [MACHINE.retry_wait_s(n, 0.0) for n in range(1, 7)] == [2, 4, 8, 16, 30, 30]
    assert MACHINE.retry_wait_s(1, 0.5) == 2.25
    assert math.isfinite(MACHINE.retry_wait_s(10_000, 0.5))


def test_retry_after_is_obeyed_and_bounded() -> None:
    """On refusals and on polls; a wish below our own wait changes nothing."""
    failure = msgspec.structs.replace(BUSY, retry_after_s=100.0)
    assert MACHINE.call_failed(a_job(), failure, NOW_US, 0.0).next_due_us == NOW_US + 100 * S
    absurd = msgspec.structs.replace(BUSY, retry_after_s=1e12)
    assert MACHINE.call_failed(a_job(), absurd, NOW_US, 0.0).next_due_us == NOW_US + 300 * S
    short = msgspec.structs.replace(BUSY, retry_after_s=0.1)
    assert MACHINE.call_failed(a_job(), short, NOW_US, 0.0).next_due_us == NOW_US + 2 * S
    job = MACHINE.polled(submitted(), an_answer(), NOW_US, 0.0, retry_after_s=60.0)
    assert job.next_due_us == NOW_US + 60 * S


@pytest.mark.parametrize("make", [lambda: intent(), submitted], ids=["submission", "poll"])
def test_five_retries_and_no_more(make: object) -> None:
    """The sixth failure in a row ends the job with its last reason."""
    assert callable(make)
    job = make()
    for _ in range(5):
        job = MACHINE.call_failed(job, BUSY, job.next_due_us, 0.0)
        assert not job.has_ended
        if job.state is JobState.PLANNED:
            job = intent(job=job, now_us=job.next_due_us)
    job = MACHINE.call_failed(job, BUSY, job.next_due_us, 0.0)
    assert (job.state, job.reason, job.attempts) == (JobState.FAILED, Reason.UNAVAILABLE, 6)


def test_a_success_gives_the_retries_back() -> None:
    """Failures are counted in a row."""
    job = MACHINE.call_failed(submitted(), BUSY, NOW_US, 0.0)
    assert MACHINE.polled(job, an_answer(), NOW_US, 0.0).attempts == 0


def test_longer_outages_are_a_setting() -> None:
    """More retries, at the longest wait."""
    machine = JobMachine(Policy(max_retries=50))
    job = submitted(machine)
    for _ in range(50):
        job = machine.call_failed(job, BUSY, NOW_US, 0.0)
    assert not job.has_ended


@pytest.mark.parametrize("state", [JobState.SUBMITTED, JobState.PLANNED, JobState.IN_DOUBT])
def test_the_total_deadline_ends_a_job(state: JobState) -> None:
    """However long its waits are: it comes due at the deadline at the latest."""
    machine = JobMachine(Policy(total_s=60.0))
    job = {
        JobState.SUBMITTED: lambda: submitted(machine),
        JobState.PLANNED: lambda: machine.call_failed(intent(machine), BUSY, NOW_US, 0.0),
        JobState.IN_DOUBT: lambda: in_doubt(machine),
    }[state]()
    patient = msgspec.structs.replace(BUSY, retry_after_s=300.0)
    job = machine.call_failed(job, patient, NOW_US, 0.0)
    assert (job.state, job.next_due_us) == (state, NOW_US + 60 * S)
    step = machine.next_step(job, job.next_due_us)
    assert isinstance(step, Keep)
    assert (step.job.state, step.job.reason) == (JobState.FAILED, Reason.DEADLINE_PASSED)


@pytest.mark.parametrize(
    "settings",
    [
        {"poll_first_s": 0.0},
        {"poll_first_s": 40.0},
        {"retry_first_s": 31.0},
        {"max_retries": -1},
        {"total_s": 0.0},
        {"settle_s": 0.0},
        {"poll_growth": 0.5},
        {"unlookable": Doubt.LOOK},
    ],
)
def test_a_policy_that_cannot_work_is_refused(settings: dict[str, float]) -> None:
    """By the name of the value."""
    with pytest.raises(ConfigError) as caught:
        Policy(**settings)  # type: ignore[arg-type]  # one of them is wrong on purpose
    assert caught.value.setting in settings


# --- refusals --------------------------------------------------------------------------------

REFUSALS: list[tuple[StenoError, Reason, bool, bool]] = [
    (ProtocolError(status=400), Reason.BAD_REQUEST, False, False),
    (AuthError(status=401), Reason.UNAUTHENTICATED, False, False),
    (AuthError(status=403), Reason.FORBIDDEN, False, False),
    (AuthError(), Reason.UNAUTHENTICATED, False, False),
    (ObjectMissing(status=404), Reason.RECORDING_MISSING, False, False),
    (ProtocolError(status=422), Reason.REFUSED, False, False),
    (ConfigError("x", setting="y"), Reason.SETUP, False, False),
    (RateLimited(status=429), Reason.RATE_LIMITED, True, False),
    (ConnectFailed(), Reason.UNREACHABLE, True, False),
    (PeerUnavailable(status=503), Reason.UNAVAILABLE, True, False),
    (PeerUnavailable(status=500), Reason.UNAVAILABLE, True, True),
    (PeerUnavailable(status=504), Reason.UNAVAILABLE, True, True),
    (ProtocolError(status=409), Reason.CONFLICT, True, True),
    (TimedOut(), Reason.TIMED_OUT, True, True),
    (TransportError(), Reason.UNREACHABLE, True, True),
    (RemoteProtocolError(status=202), Reason.BAD_ANSWER, True, True),
]


@pytest.mark.parametrize(
    ("error", "reason", "is_retryable", "may_be_taken"),
    REFUSALS,
    ids=[f"{type(each[0]).__name__}-{each[0].fields.get('status')}" for each in REFUSALS],
)
def test_what_an_error_means_for_a_submission(
    error: StenoError, reason: Reason, is_retryable: bool, may_be_taken: bool
) -> None:
    """Only what proves that the service has not taken it may be sent again without a look."""
    failure = failure_of(error)
    assert (failure.reason, failure.is_retryable, failure.may_be_taken) == (
        reason,
        is_retryable,
        may_be_taken,
    )
    job = MACHINE.call_failed(intent(), failure, NOW_US, 0.0)
    if may_be_taken:
        assert job.state is JobState.IN_DOUBT
    else:
        assert job.state is (JobState.PLANNED if is_retryable else JobState.FAILED)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_refusals_are_never_retried_and_have_a_remedy(status: int) -> None:
    """Each has its own, before the submission, at it, and at a poll."""
    error: StenoError = {
        400: ProtocolError(status=400, code="bad.request"),
        401: AuthError(status=401),
        403: AuthError(status=403),
        404: ObjectMissing(status=404),
    }[status]
    texts = set()
    for job in (a_job(), intent(), submitted()):
        failed = MACHINE.call_failed(job, failure_of(error), NOW_US, 0.0)
        assert (failed.state, failed.attempts) == (JobState.FAILED, 1)
        assert remedy(failed)
        texts.add(remedy(failed))
    assert len(texts) == (2 if status == 404 else 1)  # a recording, or a job, is missing


def test_every_reason_has_its_remedy() -> None:
    """A fixed text, and none for a job that has not failed."""
    assert set(REMEDIES) == set(Reason)
    assert len(set(REMEDIES.values())) == len(REMEDIES)
    assert remedy(submitted()) == ""


def test_the_services_wish_is_taken_from_the_error() -> None:
    """Retry-After travels in the error."""
    assert failure_of(RateLimited(retry_after_s=7.0)).retry_after_s == 7.0


# --- doubts ----------------------------------------------------------------------------------


def test_a_job_found_submitting_is_in_doubt_only_when_nothing_can_arrive_any_more() -> None:
    """After a crash the submission may still be on its way: first wait, then look."""
    job = intent()
    assert MACHINE.next_step(job, NOW_US + 44 * S) == Wait(NOW_US + 45 * S)
    step = MACHINE.next_step(job, NOW_US + 45 * S)
    assert isinstance(step, Keep)
    assert step.job.state is JobState.IN_DOUBT
    assert MACHINE.next_step(step.job, NOW_US + 45 * S) == Look(step.job)


def test_an_unanswered_submission_is_looked_for_after_the_same_time() -> None:
    """Not after the retry's wait alone."""
    assert in_doubt().next_due_us == NOW_US + 45 * S


def test_a_job_with_our_key_is_ours_whatever_else_is_there() -> None:
    """Even a failed one, and behind others."""
    job = in_doubt()
    found = [
        FoundJob("t-1", JobStatus.QUEUED, "another key", RECORDING, "en-US", "text"),
        FoundJob("t-2", JobStatus.QUEUED, "", RECORDING, "en-US", "text"),
        FoundJob("t-3", JobStatus.FAILED, job.id, RECORDING),
    ]
    taken = MACHINE.looked(job, found, (), NOW_US)
    assert (taken.state, taken.transcript_id) == (JobState.SUBMITTED, "t-3")
    assert MACHINE.next_step(taken, NOW_US) == Poll(taken)


@pytest.mark.parametrize(
    "other",
    [
        FoundJob("t-1", JobStatus.FAILED, "", RECORDING, "en-US", "text"),
        FoundJob("t-1", JobStatus.QUEUED, "", "another", "en-US", "text"),
        FoundJob("t-1", JobStatus.QUEUED, "", RECORDING, "de-DE", "text"),
        FoundJob("t-1", JobStatus.QUEUED, "", RECORDING, "en-US", "srt"),
        FoundJob("owned", JobStatus.QUEUED, "", RECORDING, "en-US", "text"),
        FoundJob("t-1", JobStatus.QUEUED, "another key", RECORDING, "en-US", "text"),
    ],
)
def test_what_is_not_ours_is_not_taken(other: FoundJob) -> None:
    """Another request, another's key, or a job that one of ours holds already."""
    job = MACHINE.looked(in_doubt(), [other], {"owned"}, NOW_US)
    assert job.state is JobState.PLANNED


def test_a_job_that_is_not_there_is_submitted_again_with_the_same_key() -> None:
    """The key is the job's id."""
    job = MACHINE.looked(in_doubt(), [], (), NOW_US)
    again = intent(job=job)
    assert (again.id, again.submissions) == (job.id, 2)


def test_a_submission_lost_every_time_fails_after_the_last_look() -> None:
    """Retries are counted through doubts, and the last one is looked for, too."""
    job = a_job()
    for _ in range(6):
        job = MACHINE.call_failed(intent(job=job, now_us=job.next_due_us), LOST, NOW_US, 0.0)
        assert job.state is JobState.IN_DOUBT
        job = MACHINE.looked(job, [], (), job.next_due_us)
    assert (job.state, job.reason) == (JobState.FAILED, Reason.TIMED_OUT)


def test_a_service_without_a_list_leaves_the_doubt_to_the_setting() -> None:
    """Failing is the default; sending again is for services that know the key."""
    missing = failure_of(ObjectMissing(status=404))
    job = MACHINE.call_failed(in_doubt(), missing, NOW_US, 0.0)
    assert (job.state, job.reason) == (JobState.FAILED, Reason.SUBMISSION_IN_DOUBT)
    keyed = JobMachine(Policy(unlookable=Doubt.RESUBMIT))
    assert keyed.call_failed(in_doubt(keyed), missing, NOW_US, 0.0).state is JobState.PLANNED


@pytest.mark.parametrize(
    ("doubt", "state"),
    [(Doubt.RESUBMIT, JobState.PLANNED), (Doubt.FAIL, JobState.FAILED)],
)
def test_a_setting_settles_doubts_without_a_look(doubt: Doubt, state: JobState) -> None:
    """The service is not asked."""
    machine = JobMachine(Policy(doubt=doubt))
    job = in_doubt(machine)
    step = machine.next_step(job, job.next_due_us)
    assert isinstance(step, Keep)
    assert step.job.state is state


def test_a_look_that_keeps_failing_leaves_the_job_in_doubt_to_the_end() -> None:
    """It is never sent again for that."""
    job = in_doubt()
    while not job.has_ended:
        job = MACHINE.call_failed(job, BUSY, job.next_due_us, 0.0)
        assert job.state in (JobState.IN_DOUBT, JobState.FAILED)
    assert job.reason == Reason.SUBMISSION_IN_DOUBT


# --- wishes and late answers -----------------------------------------------------------------


@pytest.mark.parametrize("job", every_state(), ids=lambda job: job.state)
def test_pause_resume_and_cancel_from_every_state(job: Job) -> None:
    """An ended job is left as it is; any other stops, goes on where it was, and can end."""
    paused = MACHINE.pause(job, NOW_US)
    if job.has_ended:
        assert paused is job
        assert MACHINE.cancel(job, NOW_US) is job
        assert MACHINE.resume(job, NOW_US) is job
        return
    assert MACHINE.next_step(paused, NOW_US + 10**12) == Wait(0)
    assert MACHINE.pause(paused, NOW_US) is paused
    resumed = MACHINE.resume(paused, NOW_US + 100 * S)
    assert (resumed.state, resumed.paused_us) == (job.state, 0)
    assert resumed.deadline_us == (job.deadline_us + 100 * S if job.deadline_us else 0)
    assert MACHINE.resume(job, NOW_US) is job
    cancelled = MACHINE.cancel(paused, NOW_US)
    assert (cancelled.state, cancelled.paused_us) == (JobState.CANCELLED, 0)


@pytest.mark.parametrize("kind", list(WishKind))
def test_a_wish_is_granted_by_its_kind(kind: WishKind) -> None:
    """As if the operator had called it."""
    job = MACHINE.pause(a_job(), NOW_US) if kind is WishKind.RESUME else a_job()
    call = {
        WishKind.PAUSE: MACHINE.pause,
        WishKind.RESUME: MACHINE.resume,
        WishKind.CANCEL: MACHINE.cancel,
    }[kind]
    granted = MACHINE.granted(job, Wish(1, job.id, kind), NOW_US)
    assert granted == call(job, NOW_US) != job


@pytest.mark.parametrize("job", every_state(), ids=lambda job: job.state)
def test_a_late_id_is_never_lost(job: Job) -> None:
    """Whatever the job became meanwhile; one that has an id keeps it."""
    late = MACHINE.accepted(job, an_answer(transcript_id="t-late"), NOW_US, 0.0)
    assert late.transcript_id == (job.transcript_id or "t-late")
    assert late.state is (job.state if job.state in ENDED else JobState.SUBMITTED)


@pytest.mark.parametrize("job", every_state(), ids=lambda job: job.state)
def test_other_late_answers_move_nothing_that_has_moved_on(job: Job) -> None:
    """A poll's answer concerns a submitted job, a look's one in doubt, a failure no ended one."""
    if job.state is not JobState.SUBMITTED:
        assert MACHINE.polled(job, an_answer(JobStatus.FAILED), NOW_US, 0.0) is job
    if job.state is not JobState.IN_DOUBT:
        assert MACHINE.looked(job, [], (), NOW_US) is job
        assert MACHINE.look_unavailable(job, NOW_US) is job
    if job.has_ended:
        assert MACHINE.call_failed(job, BUSY, NOW_US, 0.0) is job


def test_the_table_lets_nothing_out_of_an_end() -> None:
    """And an unpaused way leads from every other state to each of the ends but one."""
    for state in JobState:
        assert may_move(state, JobState.CANCELLED) is (state not in ENDED)
        assert may_move(state, JobState.FAILED) is (state not in ENDED)
        if state in ENDED:
            assert not MOVES[state]


def test_a_job_is_planned_with_redaction() -> None:
    """Whoever leaves it away says so."""
    assert a_job().redact
