"""``steno demo``: simulator, gateway and consumer on this machine, watched live."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from base64 import b64encode
from collections.abc import Sequence
from itertools import cycle, islice
from json import dumps as json_text
from json import loads as from_json
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steno.cli.common import JsonOption, Output, run_async

if TYPE_CHECKING:
    from steno.core.records import Kind, Record
    from steno.ports import BatchShape, Outcome, Sink
    from steno_sim.calls.playing import PlayReport
    from steno_sim.server import Simulator

SETTLE_S = 0.5
"""After the last word was sent, for it to arrive; the gateway then gives out what is open."""
TRANSCRIPTS = "transcripts.jsonl"
COLOURS = ("\x1b[33m", "\x1b[36m")  # speakers by number
RESET = "\x1b[0m"


def demo(
    speed: Annotated[float, typer.Option(help="Multiple of real time; 0 is flat out.")] = 4.0,
    conversations: Annotated[
        int, typer.Option(help="Number of calls; 0 is the scenario's twelve.")
    ] = 0,
    scenario: Annotated[
        str, typer.Option(help="Packaged scenario (demo, quiet, load) or a file.")
    ] = "demo",
    out: Annotated[
        Path, typer.Option(help="Folder of the consumer's file and the gateway's state.")
    ] = Path("steno-demo"),
    calls: Annotated[
        int, typer.Option(help="Spoken calls, recognised on this machine; 0 for none.", min=0)
    ] = 3,
    quiet: Annotated[bool, typer.Option("--quiet", help="No live view.")] = False,
    json: JsonOption = False,
) -> None:
    """Watch simulated calls turn into clean sentences; needs no account and no network.

    Most come as live transcripts; a few are spoken calls whose audio arrives by AudioHook and is
    recognised here. The sentences are delivered by gRPC to a consumer that writes
    OUT/transcripts.jsonl. At the end a JSON summary is printed on standard output, counted
    against what was really said.

    Example: steno demo --speed 8
    """
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    (out / TRANSCRIPTS).unlink(missing_ok=True)
    summary = run_async(
        lambda stop: _demo(speed, conversations, scenario, calls, out, quiet or json, stop)
    )
    Output(json=True).result(summary)
    spoken = summary.get("spoken", {})
    wrong = ("lost", "repeated", "leaked")
    if any(summary[one] or spoken.get(one) for one in wrong) or spoken.get("violations"):
        raise typer.Exit(1)


async def _demo(
    speed: float,
    conversations: int,
    scenario: str,
    calls: int,
    out: Path,
    quiet: bool,
    stop: asyncio.Event,
) -> dict[str, Any]:
    from steno.adapters.consumer.server import Consumer, ConsumerSettings
    from steno_sim.server import Simulator

    run = out / time.strftime("%Y%m%d-%H%M%S")
    transcripts = out / TRANSCRIPTS
    consumer = Consumer(ConsumerSettings(listen="127.0.0.1:0", out=transcripts))
    view = View(quiet=quiet)
    async with Simulator(
        scenario,
        speed=speed,
        conversations=conversations,
        wait_for_sockets=1,
        hold=True,
    ) as sim:
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        end_consumer = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            consuming = group.create_task(
                consumer.run(end_consumer, on_listening=listening.set_result)
            )
            recogniser = await _start_recogniser() if calls else None
            try:
                address = await listening
                view.note(f"simulator on {sim.host}, consumer on {address}, file {transcripts}")
                totals, played = await _gateway(
                    sim, address, run, view, stop, calls=calls, recogniser=recogniser
                )
            finally:
                end_consumer.set()
                if recogniser is not None:
                    await recogniser.end()
            consumed = await consuming
        score = _score(sim, transcripts)
    summary = {
        "conversations": len(sim.truth().conversations),
        "sentences": score.sentences,
        "redactions": totals["redactions"],
        "stored": totals["stored"],
        "acknowledged": view.acknowledged,
        "lost": score.lost,
        "repeated": score.repeated,
        "leaked": score.leaked,
        "received": consumed.stored,
        "p50_ms": view.percentile_ms(0.50),
        "p99_ms": view.percentile_ms(0.99),
        "seconds": totals["seconds"],
        "file": str(transcripts),
    }
    if played is not None:
        summary["spoken"] = _score_spoken(played, transcripts)
    return summary


class Recogniser:
    """``steno stt`` as a process of its own: recognition would hold up the gateway's loop."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address

    async def end(self) -> None:
        """Let it go."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()


async def _start_recogniser() -> Recogniser:
    """Start the embedded recogniser; it listens when this returns.

    Raises:
        EngineUnavailable: It ended before it listened.
    """
    from steno.errors import EngineUnavailable

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "steno.cli", "stt", "--listen", "127.0.0.1:0", "--json"),
        *("--engine", "pocketsphinx", "--grammar", "orders", "--log-level", "error"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise EngineUnavailable("the demo's recogniser ended at once", fix="See its words above.")
    return Recogniser(process, str(from_json(line)["listening"]))


async def _gateway(
    sim: Simulator,
    address: str,
    state_dir: Path,
    view: View,
    stop: asyncio.Event,
    *,
    calls: int,
    recogniser: Recogniser | None,
) -> tuple[dict[str, Any], PlayReport | None]:
    """Run a gateway on the simulator until everything has been said and delivered."""
    from steno.app.capability import RunOptions
    from steno.app.gateway import run_gateway
    from steno.config import load
    from steno.core.secret import Secret
    from steno.observability import LogTelemetry

    client = next(iter(sim.tokens.clients.values()))
    key, secret = "demo-api-key", b64encode(token_bytes(32)).decode()
    config = load(
        None,
        {},
        {
            "platform.host": sim.ws_url,
            "platform.client_id": client.id,
            "platform.client_secret": Secret(client.secret),
            "live.source": "transcript-stream",
            "media.listen": "127.0.0.1:0",
            "media.audiohook_keys": Secret(json_text({key: secret})),
            "speech.address": recogniser.address if recogniser is not None else "",
            "state_dir": state_dir,
            "observability.listen": "",
            "observability.log_level": "error",
            "delivery.destinations": (
                {"type": "grpc", "name": "consumer", "address": address, "tls": "off"},
            ),
        },
    )
    ended = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    played: list[PlayReport] = []

    async def speak() -> None:
        if not calls:
            return
        from steno_sim.calls.playing import play_calls
        from steno_sim.calls.voices import spoken_calls

        url = f"ws://{await listening}/audiohook"
        chosen = list(islice(cycle(spoken_calls()), calls))
        played.append(await play_calls(url, chosen, api_key=key, secret=secret))

    async def watch() -> None:
        said: asyncio.Future[Any] = asyncio.gather(sim.world.finished(), speak())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({said, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(SETTLE_S)
        finally:
            said.cancel()
            stopped.cancel()
            ended.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        totals = await run_gateway(
            config,
            stop=ended,
            telemetry=LogTelemetry(level="error"),
            features=("live", "media") if calls else ("live",),
            wrap_sink=lambda sink: WatchedSink(sink, view),
            options=RunOptions(on_listening=listening.set_result),
        )
    return totals, next(iter(played), None)


def _score(sim: Simulator, transcripts: Path) -> Any:  # Any: steno_sim is imported lazily
    from steno_sim.score import score

    return score(sim.truth(), _heard(transcripts, spoken=False))


def _score_spoken(played: PlayReport, transcripts: Path) -> dict[str, Any]:
    from steno_sim.calls.scoring import score_speech

    score = score_speech(played.truths, _heard(transcripts, spoken=True))
    entities = sum(len(one.entities) for one in played.results)
    violations = sum(len(one.violations) for one in played.results)
    return {
        "calls": len(played.truths),
        **score.summary(),
        "entities": entities,
        "violations": violations,
    }


def _heard(transcripts: Path, *, spoken: bool) -> list[Any]:  # Any: as above
    """Return the newest revision of each sentence that the consumer has, of one of the two ways."""
    import msgspec

    from steno_sim.score import Heard

    newest: dict[str, tuple[int, Heard]] = {}
    lines = transcripts.read_bytes().splitlines() if transcripts.exists() else []
    for line in lines:
        record = msgspec.json.decode(line)
        if record["kind"] != "sentence" or (record["source"] == "media") is not spoken:
            continue
        payload = record["payload"]
        heard = Heard(
            record["conversation"],
            payload["participant"],
            payload["text"],
            payload.get("started_us", payload["completed_us"]),
        )
        known = newest.get(record["key"])
        if known is None or known[0] < record["revision"]:
            newest[record["key"]] = (record["revision"], heard)
    return [heard for _, heard in newest.values()]


class View:
    """Shows each sentence as it is acknowledged, and keeps the latencies."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._colour = sys.stderr.isatty()
        self._latencies_s: list[float] = []
        self._lanes: dict[str, dict[str, int]] = {}
        self.acknowledged = 0

    def note(self, text: str) -> None:
        """Show a remark."""
        if not self._quiet:
            sys.stderr.write(text + "\n")

    def acked(self, record: Record, now: float) -> None:
        """Show what was acknowledged, and keep how long it took."""
        import msgspec

        self.acknowledged += 1
        if record.received_s:
            self._latencies_s.append(now - record.received_s)
        if self._quiet:
            return
        payload = msgspec.json.decode(record.payload)
        call = record.conversation[:8]
        if record.kind == "sentence":
            lanes = self._lanes.setdefault(record.conversation, {})
            number = lanes.setdefault(record.lane, len(lanes) + 1)
            start, end = (COLOURS[number % len(COLOURS)], RESET) if self._colour else ("", "")
            sys.stderr.write(
                f"{call}  {payload['language']:6}{start}speaker {number}{end}  {payload['text']}\n"
            )
        elif record.kind == "language_changed":
            sys.stderr.write(f"{call}  language {payload['previous']} → {payload['language']}\n")

    def percentile_ms(self, share: float) -> float:
        """Return a percentile of the time from reading the last fragment to the ack."""
        ordered = sorted(self._latencies_s)
        if not ordered:
            return 0.0
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3)


class WatchedSink:
    """Passes everything on to another sink and shows what was acknowledged."""

    def __init__(self, sink: Sink, view: View) -> None:
        self._sink = sink
        self._view = view

    @property
    def name(self) -> str:
        """Its name."""
        return self._sink.name

    @property
    def kinds(self) -> frozenset[Kind]:
        """Its kinds."""
        return self._sink.kinds

    @property
    def shape(self) -> BatchShape:
        """Its shape."""
        return self._sink.shape

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Deliver, and tell the view of each acknowledgement."""
        from steno.ports import Ack

        outcomes = await self._sink.deliver(records)
        now = time.monotonic()
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, Ack):
                self._view.acked(record, now)
        return outcomes

    async def close(self) -> None:
        """Close the sink inside."""
        await self._sink.close()
