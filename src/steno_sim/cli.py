"""The command ``steno-sim``: the simulator alone, on one port (or two, with a backup region).

``steno-sim call`` is the other direction: it dials a server of call audio. ``steno-sim events``
writes recorded events, ``steno-sim score`` holds an export against the truth, ``steno-sim
transcript`` and ``steno-sim archive-score`` do the same for stored transcripts, and ``steno-sim
webhooks`` receives webhooks.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from steno_sim.archive.command import EXAMPLE as TRANSCRIPT_EXAMPLE
from steno_sim.archive.command import SCORE_EXAMPLE as ARCHIVE_SCORE_EXAMPLE
from steno_sim.archive.command import archive_score, transcript
from steno_sim.calls.command import EXAMPLE as CALL_EXAMPLE
from steno_sim.calls.command import call
from steno_sim.recorded_command import EXAMPLE as EVENTS_EXAMPLE
from steno_sim.recorded_command import SCORE_EXAMPLE, events, score
from steno_sim.webhooks.command import EXAMPLE as WEBHOOKS_EXAMPLE
from steno_sim.webhooks.command import webhooks

if TYPE_CHECKING:
    import ssl

    from steno_sim.archive.settings import ArchiveSettings
    from steno_sim.faults import Fault
    from steno_sim.oauth import Client
    from steno_sim.recordings.settings import JobSettings, MediaSettings
    from steno_sim.scenario import Scenario
    from steno_sim.server import Simulator
    from steno_sim.world import World

app = typer.Typer(add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("call", help=CALL_EXAMPLE)(call)
app.command("events", help=EVENTS_EXAMPLE)(events)
app.command("score", help=SCORE_EXAMPLE)(score)
app.command("transcript", help=TRANSCRIPT_EXAMPLE)(transcript)
app.command("archive-score", help=ARCHIVE_SCORE_EXAMPLE)(archive_score)
app.command("webhooks", help=WEBHOOKS_EXAMPLE)(webhooks)

_EXAMPLE = """A Genesys Cloud simulator for development and tests: OAuth, the transcript stream,
notification channels, transcription jobs, recordings, scenarios and faults, without an
organisation.

Example, and a gateway that follows it:

\b
    steno-sim --scenario demo --speed 5 --wait-for-sockets 1
    OAUTH_CLIENT_ID=steno-demo OAUTH_CLIENT_SECRET=steno-demo-secret \\
        steno live --host ws://127.0.0.1:9080 --grpc 127.0.0.1:50051

While it runs, http://127.0.0.1:9080/_sim/stats tells what was sent, and a POST to
/_sim/faults makes something go wrong: {"kind": "drop", "code": 1012}.

Transcription jobs, twenty times as fast, of which three in a hundred fail:

\b
    steno-sim --scenario quiet --recordings 50 --jobs clock=20 --jobs failed=0.03 > ids.txt

Stored transcripts of 300 MB, whose links end after five seconds:

\b
    steno-sim --scenario quiet --archive size=300MB --archive url_ttl_s=5 --archive expiry=cut

It serves until SIGINT or SIGTERM, or until the scenario is over with --exit-at-end.
"""


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"steno-sim {version('steno')}")
        raise typer.Exit


class _Usage(Exception):
    """An option is wrong; the message says which and why."""


@app.callback(invoke_without_command=True, help=_EXAMPLE)
def run(
    context: typer.Context,
    listen: Annotated[str, typer.Option(help="Address and port; port 0 takes a free one.")] = (
        "127.0.0.1:9080"
    ),
    backup_listen: Annotated[
        str, typer.Option(help="Address and port of a second region, hearing the same calls.")
    ] = "",
    scenario: Annotated[
        str,
        typer.Option(
            help="A packaged scenario (demo, diarisation, load, quiet) or a TOML or JSON file."
        ),
    ] = "demo",
    faults: Annotated[
        Path | None, typer.Option(help='File of faults: {"faults": [...]}, JSON or TOML.')
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="Multiple of real time; 0 is flat out.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Another run of the same scenario.")] = None,
    conversations: Annotated[
        int, typer.Option(min=0, help="Number of conversations; 0 as the scenario has it.")
    ] = 0,
    fragments: Annotated[
        int, typer.Option(min=0, help="Load only: fragments of each conversation; 0 as it has.")
    ] = 0,
    rate: Annotated[
        float | None,
        typer.Option(min=0, help="Load only: fragments/s in all; 0 is flat out."),
    ] = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="Wait while nobody listens, in place of missing.")
    ] = False,
    wait_for_sockets: Annotated[
        int, typer.Option(min=0, help="Begin once so many sockets are connected.")
    ] = 0,
    expires_in: Annotated[
        float, typer.Option(min=0.1, help="Life of access tokens in seconds.")
    ] = 3600.0,
    client: Annotated[
        list[str] | None,
        typer.Option(help="OAuth client id:secret; repeat for more. Default: the demo client."),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(help="PEM with which the first client's JWT assertions are verified."),
    ] = None,
    jwt_tokens: Annotated[
        bool, typer.Option("--jwt-tokens", help="Tokens shaped like JWTs, scopes inside.")
    ] = False,
    event_form: Annotated[
        Literal["wrapped", "bare", "mixed"],
        typer.Option(help="Event socket: events under `data`, bare, or by turns."),
    ] = "wrapped",
    events_unasked: Annotated[
        bool, typer.Option("--events-unasked", help="Event socket: events need no subscription.")
    ] = False,
    speaker_labels: Annotated[
        Literal["numbers", "roles"] | None,
        typer.Option(help="Event socket: speaker_0 …, or agent and customer."),
    ] = None,
    recordings: Annotated[
        int, typer.Option(min=0, help="Make so many recordings, and print their ids on stdout.")
    ] = 0,
    jobs: Annotated[
        list[str] | None,
        typer.Option(help="Transcription jobs: KEY=VALUE such as failed=0.03 or clock=20; repeat."),
    ] = None,
    media: Annotated[
        list[str] | None,
        typer.Option(help="Recordings: KEY=VALUE such as url_ttl_s=5 or layouts=dual; repeat."),
    ] = None,
    archive: Annotated[
        list[str] | None,
        typer.Option(
            help="Stored transcripts: KEY=VALUE such as size=300MB or url_ttl_s=5; repeat."
        ),
    ] = None,
    rate_limit: Annotated[
        int, typer.Option(min=0, help="REST calls of a token in a minute; 0 is no limit.")
    ] = 300,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate: speak TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    exit_at_end: Annotated[
        bool, typer.Option("--exit-at-end", help="End when the scenario is over.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON line at the end.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run the simulator; see the command's own help."""
    if context.invoked_subcommand is not None:
        return
    try:
        script = _scenario(scenario, fragments, rate, speaker_labels)
        clients = _clients(client or [], public_key)
        given = _faults(faults)
        job_settings, media_settings = _recordings(jobs or [], media or [], recordings)
        archive_settings = _archive(archive or [])
        certificate = _tls(tls_cert, tls_key)
        addresses = [_address(listen), *([_address(backup_listen)] if backup_listen else [])]
    except (_Usage, ValueError, OSError) as error:
        typer.echo(f"steno-sim: {error}", err=True)
        raise typer.Exit(2) from None

    async def main() -> dict[str, Any]:
        from steno_sim.oauth import TokenService
        from steno_sim.region import RegionSettings
        from steno_sim.server import Simulator
        from steno_sim.world import World

        settings = RegionSettings(
            event_form=event_form, events_unasked=events_unasked, rate_limit=rate_limit
        )
        world = World(
            script,
            speed=speed,
            seed=seed,
            conversations=conversations,
            hold=hold,
            wait_for_sockets=wait_for_sockets,
        )
        async with AsyncExitStack() as stack:
            sims = []
            for (address, port), name in zip(addresses, ("primary", "backup"), strict=False):
                tokens = TokenService(clients, expires_in_s=expires_in, jwt_tokens=jwt_tokens)
                sim = Simulator(
                    world=world,
                    name=name,
                    listen=address,
                    port=port,
                    tokens=tokens,
                    settings=settings,
                    jobs=job_settings,
                    media=media_settings,
                    archive=archive_settings,
                    ssl_context=certificate,
                )
                sims.append(await _enter(stack, sim))
            typer.echo(f"steno-sim: queues are {_queues(script)}", err=True)
            if recordings:
                print("\n".join(sims[0].jobs.book.recordings()), flush=True)
            for fault in given:
                world.inject(fault)
            await stack.enter_async_context(world)
            await _serve(world, sims, exit_at_end=exit_at_end)
            return world.stats(conversations=True)

    _finish(_run(main()), as_json=as_json)


async def _enter(stack: AsyncExitStack, sim: Simulator) -> Simulator:
    await stack.enter_async_context(sim)
    typer.echo(f"steno-sim: {sim.region.name} listens on {sim.host}", err=True)
    return sim


async def _serve(world: World, sims: list[Simulator], *, exit_at_end: bool) -> None:
    """Serve until a signal, a control request, or the end of the scenario."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    waiting = {loop.create_task(stop.wait()), loop.create_task(_played(world, exit_at_end))}
    waiting |= {loop.create_task(_set(sim.ended)) for sim in sims}
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _played(world: World, leave: bool) -> None:
    await world.finished()
    typer.echo("steno-sim: the scenario is over", err=True)
    if not leave:
        await asyncio.Event().wait()


def _run(work: Any) -> dict[str, Any]:
    try:
        import uvloop
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        try:
            result: dict[str, Any] = runner.run(work)
        except OSError as error:
            typer.echo(f"steno-sim: cannot listen: {error.strerror or error}", err=True)
            raise typer.Exit(2) from None
    return result


def _finish(stats: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(stats), flush=True)
        return
    line = (
        f"steno-sim: {stats['due']} of {stats['fragments']} fragments fell due, "
        f"{stats['delivered']} delivered, {stats['missed']} missed"
    )
    print(line, file=sys.stderr)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise _Usage(f"{text!r} is not address:port")
    return host.strip("[]") or "127.0.0.1", int(port)


def _scenario(source: str, fragments: int, rate: float | None, labels: str | None) -> Scenario:
    import msgspec

    from steno_sim.scenario import load

    found = load(source)
    if labels:
        spec = msgspec.structs.replace(found.diarisation, labels=labels)
        found = msgspec.structs.replace(found, diarisation=spec)
    if not fragments and rate is None:
        return found
    if found.load is None:
        raise _Usage("--fragments and --rate need a load scenario")
    figures = msgspec.structs.replace(
        found.load,
        fragments=fragments or found.load.fragments,
        rate=found.load.rate if rate is None else rate,
    )
    return msgspec.structs.replace(found, load=figures)


def _queues(scenario: Scenario) -> str:
    """Give the names of the queues with the ids by which notifications are subscribed."""
    from steno_sim.pieces import named_id

    calls = scenario.conversations
    names = dict.fromkeys([scenario.load.queue] if scenario.load else [one.queue for one in calls])
    return ", ".join(f"{name} {named_id('queue', name)}" for name in names) or "none"


def _clients(given: list[str], public_key: Path | None) -> list[Client]:
    import msgspec

    from steno_sim.oauth import Client

    clients = []
    for text in given:
        client_id, colon, secret = text.partition(":")
        if not colon or not client_id:
            raise _Usage("--client takes id:secret")
        clients.append(Client(id=client_id, secret=secret))
    clients = clients or [Client()]
    if public_key is not None:
        clients[0] = msgspec.structs.replace(clients[0], public_key=public_key.read_text())
    return clients


def _faults(path: Path | None) -> list[Fault]:
    from steno_sim.faults import load_faults

    return load_faults(path) if path is not None else []


def _recordings(jobs: list[str], media: list[str], count: int) -> tuple[JobSettings, MediaSettings]:
    from steno_sim.recordings.settings import JobSettings, MediaSettings
    from steno_sim.setting_pairs import parse_settings

    counted = [f"recordings={count}"] if count else []
    return parse_settings(JobSettings, counted + jobs), parse_settings(MediaSettings, media)


def _archive(pairs: list[str]) -> ArchiveSettings:
    from steno_sim.archive.settings import ArchiveSettings
    from steno_sim.setting_pairs import parse_settings

    return parse_settings(ArchiveSettings, pairs)


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None:
            raise _Usage("--tls-key needs --tls-cert")
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def main() -> None:
    """Run ``steno-sim``."""
    app()


if __name__ == "__main__":
    main()
