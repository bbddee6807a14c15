"""``steno transcribe`` as an operator runs it, for tests that break it.

The simulator's job service and a receiver of webhooks play inside the test (the benchmark has them
as processes); ``steno transcribe`` is a process of its own, with a state directory and a log, and
can be killed, stopped and started again with the same input. The service keeps its clock factor:
delays, polls and retries are all so many times shorter, and the product's settings follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from faults.gateway_rig import Process, bare_environment, until
from faults.transcribe_oracle import Asked, Service, Verdict, judge
from steno_sim.faults import Fault
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.recordings.settings import JobSettings
from steno_sim.recordings.talk import recording_id
from steno_sim.region import RegionSettings
from steno_sim.server import Simulator
from steno_sim.webhooks.receiver import WebhookReceiver

TRANSCRIBE: Final = (sys.executable, "-m", "steno.cli", "transcribe")
STENO: Final = (sys.executable, "-m", "steno.cli")
CLOCK: Final = 20.0
LANGUAGES: Final = ("en-US", "es-ES", "fr-FR", "de-DE")
FORMS: Final = ("text", "json")
HOOK_SECRET: Final = "whsec_c3RlbmEtdGVzdHMtc3RlbmEtdGVzdHMtMTIzNDU2"
_HOOK_VARIABLE: Final = "STENO_TRANSCRIBE_WEBHOOK_SECRET"
_SAMPLE_S: Final = 0.1

TROUBLE: Final[Mapping[str, Any]] = {
    "errors": 0.007, "lost": 0.0025, "dropped": 0.0025, "slow": 0.005, "slow_s": 20.0,
    "burst_every": 1500, "burst_size": 20, "burst_wait_s": 20.0,
    "failed": 0.01, "bad_words": 0.0075, "no_result": 0.005, "silent": 0.0025, "missing": 0.005,
}  # fmt: skip
"""Three in a hundred requests go wrong, and three in a hundred recordings."""


def settings_of(clock: float = CLOCK) -> dict[str, str]:
    """Give the product's patience, so many times shorter than usual."""
    return {
        "STENO_TRANSCRIBE_POLL_FIRST_S": f"{5 / clock:g}",
        "STENO_TRANSCRIBE_POLL_MAX_S": f"{30 / clock:g}",
        "STENO_TRANSCRIBE_RETRY_FIRST_S": f"{2 / clock:g}",
        "STENO_TRANSCRIBE_RETRY_MAX_S": f"{30 / clock:g}",
        # Not as short as the rest: a busy machine must take a submission in within this time.
        "STENO_TRANSCRIBE_SETTLE_S": f"{max(3.0, 45 / clock):g}",
        "STENO_TRANSCRIBE_PER_MINUTE": "30000",
        "STENO_STORE_BALLAST_MB": "0",
        "STENO_OBSERVABILITY_LISTEN": "",
    }


class Transcribe(Process):
    """The product.

    Attributes:
        peak_kb: Most resident memory of any of its runs (VmHWM), as far as it was sampled.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        settings: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        command: Sequence[str] = TRANSCRIBE,
        state: Path | None = None,
    ) -> None:
        self.state = state or folder / "state"
        self.transcripts = folder / "transcripts"
        self.transcripts.mkdir(exist_ok=True)
        self.peak_kb = 0
        arguments = [*command, "--host", url, "--state-dir", str(self.state), "--json", *options]
        env = {
            **bare_environment(folder),
            "OAUTH_CLIENT_ID": DEFAULT_CLIENT_ID,
            "OAUTH_CLIENT_SECRET": DEFAULT_CLIENT_SECRET,
            **settings_of(),
            **(settings or {}),
        }
        del env["PYTHONDONTWRITEBYTECODE"]  # it starts often: compiling would be most of its time
        super().__init__(arguments, env=env, log=folder / "transcribe.log")

    async def finished(self, *, limit_s: float = 120.0) -> int:
        """Wait for its end, sampling its memory, and give the exit code."""
        await until(self._is_over, "the end of steno transcribe", limit_s=limit_s)
        return self.child.wait()

    def _is_over(self) -> bool:
        self.sample()
        return not self.running

    def sample(self) -> None:
        """Look at its memory."""
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{self.child.pid}/status").read_text()
            self.peak_kb = max(self.peak_kb, int(status.split("VmHWM:")[1].split()[0]))

    def summary(self) -> dict[str, Any]:
        """Give what its last run said at the end."""
        found: dict[str, Any] = json.loads(self.out.read_text().splitlines()[-1])
        return found


@dataclass
class Rig:
    """One batch: where its service and receiver are, what is asked for, and the product."""

    folder: Path
    url: str
    jobs: JobSettings
    asked: list[Asked]
    product: Transcribe
    deliveries: Path | None = None
    sim: Simulator | None = None
    receiver: WebhookReceiver | None = None
    kills: int = field(default=0)

    async def get(self, path: str) -> Any:  # Any: decoded JSON
        """Ask the simulator's control."""
        return await asyncio.to_thread(_fetched, f"{self.url}{path}", None)

    async def inject(self, **keys: Any) -> None:  # Any: a fault's keys
        """Let a fault happen at the simulator."""
        fault = json.dumps(keys).encode()
        await asyncio.to_thread(_fetched, f"{self.url}/_sim/faults", fault)

    async def requests(self) -> dict[str, int]:
        """Give the requests that the simulator answered, by method, path and status."""
        stats = await self.get("/_sim/stats")
        found: dict[str, int] = stats["regions"]["primary"]["requests"]
        return found

    async def job_stats(self) -> dict[str, Any]:
        """Give the job service's counts."""
        stats = await self.get("/_sim/stats")
        found: dict[str, Any] = stats["regions"]["primary"]["jobs"]
        return found

    async def accepted(self, count: int, *, limit_s: float = 60.0) -> None:
        """Wait until the service has taken so many jobs."""
        end = asyncio.get_running_loop().time() + limit_s
        while (await self.job_stats())["accepted"] < count:
            assert self.product.running, self.product.said()[-2000:]
            assert asyncio.get_running_loop().time() < end, f"{count} jobs"
            await asyncio.sleep(0.02)

    async def verdict(self, *, secrets: bool = True) -> Verdict:
        """Hold everything that is there against the truth."""
        jobs = await self.get("/_sim/jobs")
        stats = await self.job_stats()
        service = Service([(each["id"], each["recording"]) for each in jobs], stats["doubled_keys"])
        return await asyncio.to_thread(
            judge,
            self.jobs,
            self.asked,
            service,
            state=self.product.state,
            out=self.product.transcripts,
            deliveries=self.deliveries,
            secrets=secrets,
        )

    async def hooks_settled(self) -> None:
        """Run the product again while webhooks wait for their next attempt."""
        for _ in range(5):
            if not (await self.verdict()).webhooks:
                return
            await asyncio.sleep(1)
            await self.done()

    async def audit_is_sound(self) -> bool:
        """Run ``steno audit verify``."""
        done = await asyncio.create_subprocess_exec(
            *STENO,
            *("audit", "verify", "--state-dir", str(self.product.state)),
            env=self.product.env,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await done.wait() == 0

    async def killed_at_random(self, kills: int, draw: random.Random, *, span_s: float) -> None:
        """Kill the product so many times: at work up to ``span_s`` long, now and then at its start.

        Ends early where there is nothing left to do.
        """
        while self.kills < kills:
            before = sum((await self.requests()).values())
            self.product.start()
            if draw.random() < 0.15:
                await asyncio.sleep(draw.uniform(0.0, 0.8))
            else:
                while sum((await self.requests()).values()) < before + 3:
                    if not self.product.running:
                        return
                    await asyncio.sleep(0.02)
                await self._working(draw.uniform(0.0, span_s))
            if not self.product.running:
                return
            self.product.kill()
            self.kills += 1

    async def _working(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0 and self.product.running:
            self.product.sample()
            await asyncio.sleep(min(_SAMPLE_S, left))

    async def done(self, *, limit_s: float = 120.0) -> int:
        """Run the product to its end and give the exit code."""
        if not self.product.running:
            self.product.start()
        return await self.product.finished(limit_s=limit_s)


def _fetched(url: str, body: bytes | None) -> Any:  # Any: decoded JSON
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
        return json.load(answer)


def asked_of(jobs: JobSettings, count: int) -> list[Asked]:
    """Give the input of a batch: the first recordings, in four languages and two formats."""
    return [
        Asked(recording_id(jobs.seed, number), LANGUAGES[number % 4], FORMS[number % 2])
        for number in range(count)
    ]


def write_input(path: Path, asked: Sequence[Asked], hook: str = "") -> None:
    """Write the input as CSV; each job has a webhook of its own where there is a receiver."""
    lines = ["recordingId,language,format,webhook"]
    lines += [
        f"{one.recording},{one.language},{one.form},{hook and f'{hook}/{one.recording}'}"
        for one in asked
    ]
    path.write_text("\n".join(lines) + "\n")


def made(
    folder: Path,
    url: str,
    jobs: JobSettings,
    count: int,
    *,
    hook: str = "",
    settings: Mapping[str, str] | None = None,
    command: Sequence[str] = TRANSCRIBE,
    options: Sequence[str] = (),
    state: Path | None = None,
) -> Rig:
    """Give a batch against a simulator at ``url``, its input written and nothing started."""
    asked = asked_of(jobs, count)
    file = folder / "input.csv"
    write_input(file, asked, hook)
    out = folder / "transcripts" / "{recording}.txt"
    product = Transcribe(
        folder,
        url,
        settings={**hook_settings(hook), **(settings or {})},
        options=["--file", str(file), "--out", str(out), *options],
        command=command,
        state=state,
    )
    deliveries = folder / "deliveries.jsonl" if hook else None
    return Rig(folder, url, jobs, asked, product, deliveries)


def hook_settings(hook: str) -> dict[str, str]:
    """Give what lets webhooks lead to this machine, signed."""
    return (
        {"STENO_TRANSCRIBE_WEBHOOK_ALLOW": "127.0.0.1", _HOOK_VARIABLE: HOOK_SECRET} if hook else {}
    )


@asynccontextmanager
async def rig(
    folder: Path,
    count: int,
    *,
    hooks: bool = False,
    hook_script: str = "200",
    hook_share: float = 1.0,
    rate_limit: int = 0,
    rate_window_s: float = 60.0,
    clock: float = CLOCK,
    trouble: Mapping[str, Any] | None = None,
    **more: Any,  # Any: ``made``'s
) -> AsyncIterator[Rig]:
    """Give a batch whose service, and receiver with ``hooks``, are in this process."""
    jobs = JobSettings(**{"recordings": count, "clock": clock, **(trouble or {})})
    async with AsyncExitStack() as stack:
        region = RegionSettings(rate_limit=rate_limit, rate_window_s=rate_window_s)
        sim = await stack.enter_async_context(Simulator("quiet", settings=region, jobs=jobs))
        receiver = None
        if hooks:
            receiver = await stack.enter_async_context(
                WebhookReceiver(
                    secret=HOOK_SECRET,
                    script=hook_script,
                    share=hook_share,
                    out=folder / "deliveries.jsonl",
                )
            )
        one = made(folder, sim.url, jobs, count, hook=receiver.url if receiver else "", **more)
        one.sim, one.receiver = sim, receiver
        stack.callback(one.product.end)
        yield one


__all__ = ["TROUBLE", "Fault", "Rig", "Transcribe", "made", "rig", "settings_of"]
