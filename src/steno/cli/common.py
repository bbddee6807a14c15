"""What every command shares: options, output, errors as exit codes, and signals.

A command is a function in its own module under ``steno.cli``; ``main`` imports that module
only when the command is called. It takes the four common options by these names::

    def doctor(
        config: ConfigOption = None,
        json: JsonOption = False,
        state_dir: StateDirOption = None,
        log_level: LogLevelOption = None,
    ) -> None:
        settings = load_settings(config, state_dir=state_dir, log_level=log_level)
        out = Output(json=json)
        raise typer.Exit(run_async(lambda stop: work(settings, out, stop)))

Heavy libraries are imported inside the function. Errors of ours are simply raised: ``main``
turns them into one line and an exit code.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

if TYPE_CHECKING:
    import asyncio

    from steno.config import Config
    from steno.observability import LogTelemetry

T = TypeVar("T")


class ExitCode(IntEnum):
    """Documented exit codes, the same for every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    AUTHENTICATION = 3
    UNREACHABLE = 4
    NOTHING_FOUND = 5
    INTERRUPTED = 130


LogLevel = Literal["debug", "info", "warning", "error"]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file (TOML). Also STENO_CONFIG.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Machine-readable output on standard output.")
]
StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="Folder of database, keys and token cache. Also STENO_STATE_DIR.",
        show_default=False,
    ),
]
LogLevelOption = Annotated[
    LogLevel | None,
    typer.Option("--log-level", help="Least level written to standard error.", show_default=False),
]


def load_settings(
    config: Path | None,
    *,
    state_dir: Path | None = None,
    log_level: LogLevel | None = None,
    overrides: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
) -> Config:
    """Return the effective settings: options over environment over file.

    Args:
        config: The ``--config`` option.
        state_dir: The ``--state-dir`` option.
        log_level: The ``--log-level`` option.
        overrides: A command's own options, by dotted setting name; None is not given.
        env: ``os.environ`` when not given.

    Raises:
        ConfigError: One setting is wrong; ``ConfigProblems`` when several are.
    """
    from steno.config import find_file, load

    given = os.environ if env is None else env
    common = {"state_dir": state_dir, "observability.log_level": log_level}
    return load(find_file(config, given), given, {**common, **(overrides or {})})


def make_telemetry(config: Config) -> LogTelemetry:
    """Return the process's telemetry, with what libraries log captured too."""
    from steno.observability import LogTelemetry

    telemetry = LogTelemetry(
        level=config.observability.log_level, form=config.observability.log_format
    )
    telemetry.capture_library_logs()
    telemetry.capture_stray_errors()
    return telemetry


def harden() -> None:
    """Keep what this process writes to its own user, and its memory out of core dumps."""
    import resource

    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Output:
    """Where a command's words go: machine output to stdout, everything human to stderr.

    Args:
        json: The ``--json`` option.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def result(self, value: object) -> None:
        """Write one line of JSON to standard output (whatever ``--json`` says)."""
        import msgspec

        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()

    def line(self, text: str) -> None:
        """Write a line of the command's own answer for people; nothing under ``--json``."""
        if not self.json:
            sys.stdout.write(text + "\n")

    def note(self, text: str) -> None:
        """Write a remark for people to standard error."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class Progress:
    """One line on the terminal that tells how far long work is; nothing where there is none.

    Args:
        label: What is being done, e.g. ``read``.
        unit: What is counted.
        scale: From what ``show`` is told to the unit.
    """

    def __init__(self, label: str, *, unit: str, scale: float = 1.0) -> None:
        self._label = label
        self._unit = unit
        self._scale = scale
        self._on = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()
        self._drawn = False

    def show(self, done: int, total: int) -> None:
        """Draw, five times a second at the most; ``total`` is 0 when nobody knows it."""
        now = time.monotonic()
        if not self._on or now - self._shown < 0.2:
            return
        self._shown, self._drawn = now, True
        rate = done / (now - self._began)
        amount = f"{done * self._scale:,.0f}"
        left = ""
        if total:
            amount += f" of {total * self._scale:,.0f}"
            left = f", {(total - done) / rate:,.0f} s left" if rate else ""
        line = f"{self._label} {amount} {self._unit}, {rate * self._scale:,.1f} a second{left}"
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the line away."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


def run_async(main: Callable[[asyncio.Event], Coroutine[None, None, T]]) -> T:
    """Run ``main(stop)`` on an event loop (uvloop where there is one) and return its result.

    SIGINT or SIGTERM sets ``stop``: the command drains and ends. A second signal ends the
    process at once with 130; what is in the store stays there.
    """
    import asyncio
    import signal

    async def supervised() -> T:
        stop = asyncio.Event()

        def on_signal() -> None:
            if stop.is_set():
                os._exit(ExitCode.INTERRUPTED)
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        return await main(stop)

    harden()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(supervised())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code that an error means."""
    from steno.errors import AuthError, ConfigError, TransportError

    match error:
        case ConfigError():
            return ExitCode.USAGE
        case AuthError():
            return ExitCode.AUTHENTICATION
        case TransportError():
            return ExitCode.UNREACHABLE
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.FAILED


def report(error: BaseException, *, json: bool) -> ExitCode:
    """Write one error to standard error, as a line or as JSON, and return its exit code.

    The text of an error that is not ours is never shown: a decoding error quotes its input.
    Its class and place in the source are.
    """
    from steno.errors import StenoError

    error = _leading(error)
    code = exit_code(error)
    if isinstance(error, StenoError):
        message, place = str(error), ""
    else:
        message, place = f"internal error: {type(error).__name__}", _place(error)
    if json:
        import msgspec

        body: dict[str, object] = {"class": type(error).__name__, "message": message}
        if isinstance(error, StenoError):
            body |= {"fix": error.fix, "fields": error.fields, "retryable": error.retryable}
        if place:
            body["place"] = place
        sys.stderr.write(msgspec.json.encode({"error": body, "exit_code": code}).decode() + "\n")
    else:
        sys.stderr.write(f"steno: {message}{f' at {place}' if place else ''}\n")
    return code


def _leading(error: BaseException) -> BaseException:
    """Return the first error of ours inside groups of errors, else the first of any."""
    from steno.errors import StenoError

    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_leading(one) for one in error.exceptions]
    return next((one for one in inner if isinstance(one, StenoError)), inner[0])


def _place(error: BaseException) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{Path(code.co_filename).name}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next
    return place


def whole_lines(source: IO[bytes], limit: int) -> Iterator[bytes]:
    """Yield the lines of an input that may be anybody's.

    Of one beyond the limit (and its end) only a beginning that is longer than the limit: nothing
    that any reader of ours accepts.
    """
    while line := source.readline(limit + 2):
        yield line
        while len(line) == limit + 2 and not line.endswith(b"\n"):
            line = source.readline(limit + 2)
