"""``steno-sim call``: dial a server, play sound, and tell what it did wrong."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from steno_sim.calls.faults import FAULTS, CallFault

if TYPE_CHECKING:
    import ssl

    from steno_sim.calls.plan import CallPlan
    from steno_sim.calls.results import CallResult

EXAMPLE = """Call a server of live audio, and hold it to the protocol.

With a bearer token the JSON form is spoken, otherwise AudioHook. The sound is a WAV file
(8 kHz, mono or stereo) or one of the packaged voices; without either, every voice in turn.
Exit code 1 when the server broke a rule, 2 for wrong usage.

Examples:

\b
    STENO_KEY=c2VjcmV0 steno-sim call ws://127.0.0.1:8080/audiohook \\
        --api-key demo --secret-env STENO_KEY --voice tickets
    steno-sim call ws://127.0.0.1:8080/audiohook --api-key demo --calls 200 --monitor
    steno-sim call ws://127.0.0.1:8080/audiohook --api-key demo --fault wrong_sequence
    TOKEN=test-token steno-sim call ws://127.0.0.1:8080/media-api --bearer-env TOKEN
"""
JSON_FRAME_MS = 20
HOOK_FRAME_MS = 200


class _Usage(Exception):
    """An option is wrong; the message says which and why, and never holds a secret."""


def call(
    url: Annotated[str, typer.Argument(help="ws:// or wss:// address with the path.")] = "",
    api_key: Annotated[str, typer.Option(help="AudioHook: value of X-API-KEY.")] = "",
    secret_env: Annotated[str, typer.Option(help="Variable with the client secret (base64).")] = "",
    secret_file: Annotated[
        Path | None, typer.Option(help="File with the client secret (base64).")
    ] = None,
    bearer_env: Annotated[
        str, typer.Option(help="JSON form: variable with the bearer token.")
    ] = "",
    bearer_file: Annotated[
        Path | None, typer.Option(help="JSON form: file with the bearer token.")
    ] = None,
    origin: Annotated[str, typer.Option(help="JSON form: Origin header.")] = "",
    wav: Annotated[Path | None, typer.Option(help="Sound: an 8 kHz WAV file.")] = None,
    voice: Annotated[str, typer.Option(help="Sound: a packaged call, such as tickets.")] = "",
    calls: Annotated[int, typer.Option(min=1, help="Number of calls.")] = 1,
    at_once: Annotated[int, typer.Option(min=0, help="So many of them at a time; 0: all.")] = 0,
    ramp: Annotated[float, typer.Option(min=0, help="Seconds over which the calls begin.")] = 0.0,
    speed: Annotated[
        float, typer.Option(min=0, help="Multiple of real time; 0 is flat out.")
    ] = 1.0,
    frame_ms: Annotated[
        int, typer.Option(min=0, max=1000, help="Audio in a frame; 0: 200, JSON form 20.")
    ] = 0,
    encoding: Annotated[
        Literal["PCMU", "L16"], typer.Option("--format", help="Encoding offered.")
    ] = "PCMU",
    language: Annotated[str, typer.Option(help="Language told in open; empty: none.")] = "en-US",
    probe: Annotated[
        bool, typer.Option("--probe", help="AudioHook: only a connection probe.")
    ] = False,
    monitor: Annotated[
        bool, typer.Option("--monitor", help="AudioHook: as AudioHook Monitor; results ignored.")
    ] = False,
    connector: Annotated[
        bool,
        typer.Option(
            "--connector",
            help="AudioHook: as Transcription Connector, the default: asks for languages, "
            "shows transcripts.",
        ),
    ] = False,
    fault: Annotated[
        CallFault | None, typer.Option(metavar="NAME", help="One thing to do wrong; see --faults.")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds that a fault waits (silence, half_open).")
    ] = 3.0,
    tls_ca: Annotated[Path | None, typer.Option(help="wss: PEM of the authority to trust.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option(help="Write the messages of both sides as JSON lines.")
    ] = None,
    faults: Annotated[bool, typer.Option("--faults", help="List the faults and leave.")] = False,
) -> None:
    """Dial a server; see the command's own help."""
    if faults:
        for name, text in FAULTS.items():
            typer.echo(f"{name:20} {text.family:10} {text.text}")
        return
    try:
        token = _secret(bearer_env, bearer_file, "--bearer")
        secret = _secret(secret_env, secret_file, "--secret")
        _check(url, bool(token), api_key, monitor, connector, probe, fault, wav, voice)
        frame = frame_ms or (JSON_FRAME_MS if token else HOOK_FRAME_MS)
        plans = _plans(
            wav,
            voice,
            calls,
            speed=speed,
            frame_ms=frame,
            language=language or None,
            probe=probe,
            ask_languages=not token and not monitor,
            fault=fault,
            patience_s=patience,
            keep_log=log is not None,
        )
        plans = [plan.offered(encoding) for plan in plans] if encoding != "PCMU" else plans
        results, cost = asyncio.run(
            _run(
                url,
                plans,
                token=token,
                api_key=api_key,
                secret=secret,
                origin=origin,
                ramp_s=ramp,
                at_once=at_once,
                context=_trust(tls_ca),
            )
        )
        if log is not None:
            _write_log(log, results)
    except (_Usage, ValueError, OSError) as error:
        typer.echo(f"steno-sim: {error}", err=True)
        raise typer.Exit(2) from None
    _tell(results, cost, as_json=as_json, show_text=not monitor)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


def _check(
    url: str,
    is_json_form: bool,
    api_key: str,
    monitor: bool,
    connector: bool,
    probe: bool,
    fault: CallFault | None,
    wav: Path | None,
    voice: str,
) -> None:
    if not url.startswith(("ws://", "wss://")):
        raise _Usage("give the server's address: ws://host:port/path")
    if not is_json_form and not api_key:
        raise _Usage("give --api-key for AudioHook, or --bearer-env for the JSON form")
    if is_json_form and (monitor or connector or probe):
        raise _Usage("--monitor, --connector and --probe are AudioHook's")
    if monitor and connector:
        raise _Usage("--monitor or --connector, not both")
    if wav is not None and voice:
        raise _Usage("--wav or --voice, not both")
    other = "audiohook" if is_json_form else "json"
    if fault is not None and FAULTS[fault].family == other:
        raise _Usage(f"--fault {fault} is of the other form")


def _secret(variable: str, file: Path | None, option: str) -> str:
    """Give a secret from a variable or a file; empty when neither is named."""
    if variable and file is not None:
        raise _Usage(f"{option}-env or {option}-file, not both")
    if variable:
        found = os.environ.get(variable, "")
        if not found:
            raise _Usage(f"{option}-env: the variable {variable} is not set")
        return found.strip()
    return file.read_text().strip() if file is not None else ""


def _trust(ca: Path | None) -> ssl.SSLContext | None:
    if ca is None:
        return None
    import ssl

    return ssl.create_default_context(cafile=str(ca))


def _plans(wav: Path | None, voice: str, count: int, **settings: Any) -> list[CallPlan]:
    """Give the plans: of the file, of the voice, or of every voice in turn."""
    from steno_sim.calls.audio import read_wav
    from steno_sim.calls.plan import CHANNELS, CallPlan
    from steno_sim.calls.voices import channels, spoken_call, spoken_calls

    if wav is not None:
        sound = read_wav(wav)
        names = CHANNELS[: sound.channels]
        return [
            CallPlan(sound=sound, channels=names, name=wav.stem, **settings) for _ in range(count)
        ]
    spoken = [spoken_call(voice)] if voice else spoken_calls()
    sounds = {each.name: each.sound() for each in spoken}
    chosen = [spoken[n % len(spoken)] for n in range(count)]
    return [
        CallPlan(sound=sounds[each.name], channels=channels(), name=each.name, **settings)
        for each in chosen
    ]


async def _run(
    url: str,
    plans: list[CallPlan],
    *,
    token: str,
    api_key: str,
    secret: str,
    origin: str,
    ramp_s: float,
    at_once: int,
    context: ssl.SSLContext | None,
) -> tuple[list[CallResult], dict[str, Any]]:
    from steno_sim.calls.audiohook import AudioHookCaller
    from steno_sim.calls.fleet import Fleet
    from steno_sim.calls.json_caller import JsonCaller

    if not token and len(plans) > 1 and plans[0].fault is None:
        fleet = Fleet(
            url,
            plans,
            api_key=api_key,
            secret=secret,
            ramp_s=ramp_s,
            at_once=at_once,
            context=context,
        )
        report = await fleet.run()
        return report.results, report.summary()

    few = asyncio.Semaphore(at_once or len(plans))

    async def one(plan: CallPlan, wait_s: float) -> CallResult:
        await asyncio.sleep(wait_s)
        async with few:
            if token:
                speaker = JsonCaller(url, plan, token=token, origin=origin, context=context)
                return await speaker.run()
            caller = AudioHookCaller(url, plan, api_key=api_key, secret=secret, context=context)
            return await caller.run()

    gap_s = ramp_s / len(plans)
    return list(await asyncio.gather(*(one(p, n * gap_s) for n, p in enumerate(plans)))), {}


def _write_log(path: Path, results: list[CallResult]) -> None:
    with path.open("w") as file:
        for number, result in enumerate(results):
            for session in result.sessions:
                for line in session.log:
                    file.write(json.dumps({"call": number, **line}, ensure_ascii=False) + "\n")


def _tell(
    results: list[CallResult], cost: dict[str, Any], *, as_json: bool, show_text: bool
) -> None:
    """Print what became of the calls: one JSON object, or lines for people."""
    from steno_sim.calls.fleet import summarise

    summary = summarise(results) | cost
    if as_json:
        typer.echo(json.dumps(summary | {"findings": _findings(results)}))
        return
    for result in results[:20]:
        if show_text:
            for entity in result.entities:
                if entity.is_final:
                    names = (result.sessions[0].media or {}).get("channels", [])
                    who = names[entity.channel] if entity.channel < len(names) else "?"
                    typer.echo(f"  {entity.position_ms / 1000:7.1f} s  {who:8}  {entity.text}")
        opened = result.sessions[-1].opened_ms
        timing = "" if opened is None else f", opened in {opened:.1f} ms"
        status = result.sessions[-1].status
        refusal = f" with {status}" if status else ""
        typer.echo(f"{result.name}: {result.end}{refusal}{timing}, {len(result.entities)} results")
    for finding in _findings(results)[:50]:
        typer.echo(f"broken: {finding['rule']} ({finding['demands']}) {finding['detail']}")
    typer.echo(f"{summary['ok']} of {summary['calls']} calls without a broken rule")


def _findings(results: list[CallResult]) -> list[dict[str, Any]]:
    from steno_sim.calls.rules import RULES

    return [
        {"call": number, "rule": v.rule, "demands": RULES[v.rule], "at_ms": v.at_ms,
         "detail": v.detail}
        for number, result in enumerate(results)
        for v in result.violations
    ][:1000]  # fmt: skip
