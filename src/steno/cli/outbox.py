"""``steno outbox``: what waits, what was given up, and what to do about it.

Listing and changing work beside a running gateway; only ``deliver`` needs the state directory
for itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from steno.cli.common import (
    ConfigOption,
    ExitCode,
    JsonOption,
    LogLevel,
    LogLevelOption,
    Output,
    StateDirOption,
    load_settings,
    make_telemetry,
    run_async,
)

if TYPE_CHECKING:
    import asyncio

    from steno.adapters.store_sqlite import Counts, Entry, Shown
    from steno.app.gateway import Extra
    from steno.config import Config
    from steno.observability import LogTelemetry

app = typer.Typer(
    help="Look at, deliver, redrive or purge stored records.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

State = Literal["pending", "leased", "retry", "acked", "dead", "unwanted"]
US_PER_DAY = 86_400_000_000

DestinationOption = Annotated[
    str | None,
    typer.Option("--destination", metavar="NAME", help="Only of this destination."),
]
IdArgument = Annotated[
    str | None, typer.Argument(metavar="ID", help="Record id.", show_default=False)
]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter.")]


@app.command("list")
def list_records(
    state: Annotated[
        State | None, typer.Option(help="Only in this state.", show_default=False)
    ] = None,
    destination: DestinationOption = None,
    conversation: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this conversation.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many records.")] = 50,
    after: Annotated[int, typer.Option(min=0, help="Go on after this position.")] = 0,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Count the records of each destination and list them, oldest first, without their text.

    Example: steno outbox list --state dead
    """
    from steno.adapters.store_sqlite import OutboxReader
    from steno.core.records import Kind
    from steno.ports import DeliveryState

    if kind is not None and kind not in set(Kind):
        raise typer.BadParameter(f"one of {', '.join(Kind)}", param_hint="--kind")
    with OutboxReader(_database(config, state_dir, log_level)) as reader:
        counts = reader.counts()
        entries = reader.entries(
            state=DeliveryState(state) if state else None,
            destination=destination,
            conversation=conversation,
            kind=Kind(kind) if kind else None,
            limit=limit,
            after=after,
        )
    out = Output(json=json)
    if json:
        out.result({"counts": counts, "records": entries})
        return
    if not counts:
        out.note("this store has no destination: what it holds is delivered nowhere")
    for name, one in counts.items():
        out.line(_counted(name, one))
    for entry in entries:
        out.line(_listed(entry))
    if len(entries) == limit and entries:
        out.note(f"more: --after {entries[-1].position}")


@app.command("show")
def show(
    record: Annotated[str, typer.Argument(metavar="ID", help="Record id, or its beginning.")],
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show one record with its redacted payload and its state at every destination.

    Exits 5 when there is none.

    Example: steno outbox show 0197c0de
    """
    from steno.adapters.store_sqlite import OutboxReader
    from steno.errors import ObjectMissing

    with OutboxReader(_database(config, state_dir, log_level)) as reader:
        try:
            shown = reader.show(record)
        except ObjectMissing as error:
            Output(json=json).note(f"steno: {error}")
            raise typer.Exit(ExitCode.NOTHING_FOUND) from None
    out = Output(json=json)
    if json:
        out.result(_shown(shown))
        return
    for name, value in _shown(shown).items():
        if name != "deliveries":
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            out.line(f"{name:<13} {text}")
    for entry in shown.deliveries:
        out.line(_listed(entry))


@app.command("deliver")
def deliver(
    drain_s: Annotated[
        float | None,
        typer.Option(min=0, help="Deliver for at most this long.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Deliver what waits to the configured destinations, and webhooks of jobs; then end.

    Exits 1 when something still waits for them at the end. What waits for a destination that
    the settings do not name is told, and stays.

    Example: steno outbox deliver --drain-s 60
    """
    settings = load_settings(
        config,
        state_dir=state_dir,
        log_level=log_level,
        overrides={"delivery.drain_s": drain_s},
    )
    telemetry = make_telemetry(settings)
    waiting, elsewhere = run_async(lambda stop: _deliver(settings, stop, telemetry))
    out = Output(json=json)
    if json:
        out.result({"waiting": waiting, "elsewhere": elsewhere})
    for name, count in elsewhere.items():
        out.note(f"{count} waiting for {name}, which the settings do not name")
    out.line(f"{waiting} waiting" if waiting else "nothing waits")
    if waiting:
        raise typer.Exit(ExitCode.FAILED)


@app.command("redrive")
def redrive(
    record: IdArgument = None,
    destination: DestinationOption = None,
    every: AllOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Make dead letters pending again; a running gateway delivers them.

    Exits 5 when there was none.

    Example: steno outbox redrive --destination crm
    """
    from steno.adapters.store_sqlite import redrive as make_pending
    from steno.adapters.store_sqlite import writing

    _chosen(record, destination, every)
    with writing(_database(config, state_dir, log_level)) as db:
        count = make_pending(db, record_id=record, destination=destination)
    _told(Output(json=json), "redriven", count)


@app.command("purge")
def purge(
    record: IdArgument = None,
    destination: DestinationOption = None,
    every: AllOption = False,
    before_days: Annotated[
        float | None,
        typer.Option(min=0, help="Only what died longer ago than this.", show_default=False),
    ] = None,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget",
            help="Also what still waits: for a --destination that has left the settings.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Give dead letters up for good: the consumer never gets them.

    Exits 5 when there was none.

    Example: steno outbox purge --destination crm --before-days 30 --yes
    """
    from steno.adapters.store_sqlite import forget_destination, purge_dead, writing

    _chosen(record, destination, every)
    if forget and (destination is None or record or before_days is not None):
        raise typer.BadParameter("--forget takes a --destination and nothing else")
    if not yes and not typer.confirm("Give these records up for good?", err=True):
        raise typer.Exit(ExitCode.USAGE)
    before_us = None if before_days is None else _now_us() - int(before_days * US_PER_DAY)
    with writing(_database(config, state_dir, log_level)) as db:
        if forget and destination is not None:
            count = forget_destination(db, destination)
        else:
            count = purge_dead(db, record_id=record, destination=destination, before_us=before_us)
    _told(Output(json=json), "purged", count)


def _database(config: Path | None, state_dir: Path | None, log_level: LogLevel | None) -> Path:
    """Return the database of the settings' state directory."""
    from steno.adapters.state_dir import StateDir

    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    return StateDir(settings.state_dir).database


async def _deliver(
    settings: Config, stop: asyncio.Event, telemetry: LogTelemetry
) -> tuple[int, dict[str, int]]:
    """Deliver until nothing waits, time is over or ``stop`` is set.

    Returns:
        How much still waits for the configured destinations, and for others by name.
    """
    import asyncio
    from contextlib import AsyncExitStack

    from steno.adapters.state_dir import StateDir
    from steno.adapters.store_sqlite import OutboxReader
    from steno.app.gateway import open_delivery
    from steno.recordings.webhooks import DESTINATION

    state = StateDir(settings.state_dir)
    with OutboxReader(state.database) as reader:  # there must be one; delivering makes none
        webhooks = reader.counts().get(DESTINATION)
    async with AsyncExitStack() as stack:
        stack.enter_context(state)
        extras: tuple[Extra, ...] = ()
        if webhooks is not None and webhooks.pending + webhooks.retry:
            from steno.app.job_webhooks import waiting_webhooks

            extras = await waiting_webhooks(settings, state, stack, telemetry)
        delivery = await open_delivery(
            settings, state, stack, telemetry=telemetry, features=settings.features, extras=extras
        )
        names = {sink.name for sink in delivery.sinks}
        draining = asyncio.create_task(delivery.drain(settings.delivery.drain_s))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({draining, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (draining, stopping):
                task.cancel()
            await asyncio.gather(draining, stopping, return_exceptions=True)
    with OutboxReader(state.database) as reader:
        waiting = {name: one.pending + one.retry for name, one in reader.counts().items()}
    elsewhere = {name: count for name, count in waiting.items() if count and name not in names}
    return sum(waiting.get(name, 0) for name in names), elsewhere


def _now_us() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000_000)


def _chosen(record: str | None, destination: str | None, every: bool) -> None:
    if not (record or destination or every):
        raise typer.BadParameter("name a record or a --destination, or say --all")


def _told(out: Output, word: str, count: int) -> None:
    if out.json:
        out.result({word: count})
    out.line(f"{count} {word}")
    if not count:
        raise typer.Exit(ExitCode.NOTHING_FOUND)


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(timespec="milliseconds")


def _counted(name: str, one: Counts) -> str:
    oldest = f", oldest {_time(one.oldest_us)}" if one.oldest_us else ""
    return (
        f"{name}: {one.pending} pending, {one.retry} retry, {one.dead} dead, "
        f"{one.acked} acked, {one.unwanted} unwanted{oldest}"
    )


def _listed(entry: Entry) -> str:
    reason = f"  {entry.reason}" if entry.reason else ""
    return (
        f"{entry.id}  {_time(entry.committed_us)}  {entry.destination}  {entry.state}  "
        f"{entry.attempts} tries  {entry.kind}  {entry.conversation or '-'}#{entry.seq}{reason}"
    )


def _shown(shown: Shown) -> dict[str, object]:
    record = shown.record
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    del fields["received_s"]
    fields["payload"] = msgspec.Raw(record.payload)
    return {
        **fields,
        "committed_us": shown.committed_us,
        "deliveries": shown.deliveries,
    }
