"""Crashes at every step: never two submissions accepted for one job, and every job ends."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from recordings.job_helpers import NOW_US, WORDS, S, Service, a_job, an_answer
from steno.ports.jobs import ENDED, Job, JobState
from steno.recordings.job import (
    MOVES,
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
)
from steno.wire.recording_jobs import JobStatus

LOST = CallFailure(Reason.TIMED_OUT, 0, is_retryable=True, may_be_taken=True)
BUSY = CallFailure(Reason.RATE_LIMITED, 429, is_retryable=True)
DEAD = CallFailure(Reason.FORBIDDEN, 403)

# Where the process may end within a step, and nothing after it happens.
CRASHES = ("none", "before_store", "before_send", "after_send", "before_outcome", "after_outcome")


class JobLife(RuleBasedStateMachine):
    """One job, a service, a store, and a process that ends wherever it likes."""

    doubt = Doubt.LOOK
    knows_keys = False

    def __init__(self) -> None:
        super().__init__()
        self.machine = JobMachine(Policy(doubt=self.doubt, total_s=3600.0, settle_s=45.0))
        self.service = Service(knows_keys=self.knows_keys)
        self.now_us = NOW_US
        self.stored = a_job()
        self.travelling: list[int] = []  # submissions on their way, and when they arrive
        self.wish = ""
        self.history: list[JobState] = [JobState.PLANNED]

    # --- the store: a job is taken only as the version after the one held

    def store(self, job: Job) -> bool:
        if job.version != self.stored.version + 1:
            return False
        before = self.stored.state
        assert job.state is before or job.state in MOVES[before], f"{before} to {job.state}"
        if job.state is not before:
            self.history.append(job.state)
        self.stored = job
        return True

    def arrive(self) -> None:
        for at_us in [each for each in self.travelling if each <= self.now_us]:
            self.travelling.remove(at_us)
            self.service.submit(self.stored.id, self.stored.request)

    def operator(self) -> None:
        """Grant a wish while a call is in flight: the outcome then meets another version."""
        call = {
            "pause": self.machine.pause,
            "resume": self.machine.resume,
            "cancel": self.machine.cancel,
        }.get(self.wish)
        if call is not None:
            self.store(call(self.stored, self.now_us))
        self.wish = ""

    # --- what happens

    @rule(seconds=st.sampled_from([0, 1, 5, 44, 45, 60, 1800]))
    def time_passes(self, seconds: int) -> None:
        self.now_us += seconds * S
        self.arrive()

    @rule()
    def until_due(self) -> None:
        self.now_us = max(self.now_us, self.stored.next_due_us)
        self.arrive()

    @rule(wish=st.sampled_from(["pause", "resume", "cancel"]), in_flight=st.booleans())
    def an_operator_wishes(self, wish: str, in_flight: bool) -> None:
        if wish == "cancel" and not in_flight:
            return  # else most runs end at once
        self.wish = wish
        if not in_flight:
            self.operator()

    @precondition(lambda self: self.stored.is_active)
    @rule(
        waits=st.sampled_from([True, True, True, False]),
        crash=st.sampled_from(CRASHES),
        outcome=st.sampled_from(["ok", "ok", "lost_before", "lost_after", "slow", "busy", "dead"]),
        status=st.sampled_from([*JobStatus]),
        delay=st.sampled_from([44, 20, 3]),
        draw=st.floats(0, 0.999),
    )
    def a_step(
        self, waits: bool, crash: str, outcome: str, status: JobStatus, delay: int, draw: float
    ) -> None:
        if waits:
            self.until_due()
        step = self.machine.next_step(self.stored, self.now_us)
        match step:
            case Wait():
                return
            case Keep(job=job):
                if crash != "before_store":
                    assert self.store(job)
            case Submit(intent=intent):
                self.submit(intent, crash, outcome, delay, draw)
            case Look(job=job):
                if outcome in ("ok", "slow"):
                    found = self.service.look(job.request.recording_id)
                    self.finish(self.machine.looked(job, found, (), self.now_us), crash)
                else:
                    # A look's failure that ends the job says nothing about submissions.
                    failed = self.machine.call_failed(job, BUSY, self.now_us, draw)
                    self.finish(failed, crash)
            case Poll(job=job):
                failure = {"busy": BUSY, "dead": DEAD, "lost_before": LOST, "lost_after": LOST}
                if outcome in failure:
                    after = self.machine.call_failed(job, failure[outcome], self.now_us, draw)
                else:
                    answer = an_answer(status, job.transcript_id, words=WORDS)
                    after = self.machine.polled(job, answer, self.now_us, draw)
                self.finish(after, crash)

    def submit(self, intent: Job, crash: str, outcome: str, delay: int, draw: float) -> None:
        if crash == "before_store":
            return
        assert self.store(intent)
        if crash == "before_send":
            return
        answer, failure = None, {"busy": BUSY, "dead": DEAD}.get(outcome, LOST)
        if outcome == "slow":  # given up here, taken there within the time of a call
            self.travelling.append(self.now_us + delay * S)
        elif outcome in ("ok", "lost_after"):
            answer = self.service.submit(intent.id, intent.request)
        if crash == "after_send":
            return
        self.operator()
        if crash == "before_outcome":
            return
        for job in (intent, self.stored):  # the second time as read again
            after = (
                self.machine.accepted(job, answer, self.now_us, draw)
                if answer is not None and outcome == "ok"
                else self.machine.call_failed(job, failure, self.now_us, draw)
            )
            if after is job or self.store(after):
                return
        raise AssertionError("an outcome was not taken")

    def finish(self, job: Job, crash: str) -> None:
        if crash in ("none", "after_outcome") and job is not self.stored:
            assert self.store(job)

    # --- what must hold

    @invariant()
    def never_two_submissions_are_accepted(self) -> None:
        assert self.service.accepted(self.stored.id) <= 1

    @invariant()
    def a_submitted_job_has_the_id_it_was_given(self) -> None:
        if self.stored.state in (JobState.SUBMITTED, JobState.COMPLETED):
            assert self.stored.transcript_id == "t-0"

    @invariant()
    def ended_jobs_are_over(self) -> None:
        if self.stored.state in ENDED:
            assert self.history[-1] is self.stored.state
            assert self.stored.ended_us
            assert not self.stored.is_active

    def teardown(self) -> None:
        """Left alone with a service that works, every job ends."""
        self.wish = ""
        if self.stored.paused_us:
            self.store(self.machine.resume(self.stored, self.now_us))
        for _ in range(60):
            if self.stored.state in ENDED:
                break
            self.a_step(True, "none", "ok", JobStatus.COMPLETED, 0, 0.0)
        assert self.stored.state in ENDED
        self.now_us += 60 * S
        self.arrive()  # what was on its way all the time
        self.never_two_submissions_are_accepted()


class JobLifeWithKeys(JobLife):
    """The service tells repeats by their key, so a doubt is settled by sending it again."""

    doubt = Doubt.RESUBMIT
    knows_keys = True


class JobLifeWithoutDoubt(JobLife):
    """A job in doubt is given up."""

    doubt = Doubt.FAIL


RUNS = settings(max_examples=60, stateful_step_count=12)

TestLooking = JobLife.TestCase
TestLooking.settings = RUNS
TestResubmitting = JobLifeWithKeys.TestCase
TestResubmitting.settings = RUNS
TestFailing = JobLifeWithoutDoubt.TestCase
TestFailing.settings = RUNS
