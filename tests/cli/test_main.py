"""The command line as a whole: quick, complete, documented, and honest in its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from steno import __version__
from steno.cli.common import ExitCode, exit_code, report
from steno.cli.main import COMMANDS, load_command, make_app
from steno.errors import AuthError, ConfigError, ConnectFailed, PeerUnavailable, StorageError

FOLLOWED = (
    "live",
    "media",
    "diarise",
    "transcribe",
    "archive",
    "archived",
    "repair",
    "jobs",
    "audit",
    "run",
    "stt",
    "consume",
    "redact",
    "outbox",
    "erase",
    "config",
    "doctor",
    "demo",
)


def steno(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program as a user would, with an environment of its own."""
    given = {"PATH": os.defpath, "HOME": "/nonexistent", **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "steno.cli", *arguments],
        env=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def leaves(name: str) -> list[tuple[str, Any]]:
    """Return each command of that name that does something, a group opened."""
    command = load_command(name)
    inner = getattr(command, "commands", {})
    does = [(name, command)] if not inner or command.invoke_without_command else []
    return [*does, *((f"{name} {sub}", one) for sub, one in inner.items())]


def test_the_designed_commands_are_all_there() -> None:
    """Each name leads to a module that defines it."""
    assert tuple(COMMANDS) == FOLLOWED
    assert all(load_command(name) is not None for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_and_takes_json(name: str) -> None:
    """`--help` of each command has an example; `--json` is everywhere."""
    for path, command in leaves(name):
        context = command.context_class(command, info_name=path)
        text = command.get_help(context)
        assert "Example: " in text, path
        assert "--json" in text, path


def test_help_costs_less_than_150_ms_of_cpu() -> None:
    """Best of three, so that a busy machine does not count against us."""
    code = (
        "import sys, time, io\n"
        "sys.argv = ['steno', '--help']\n"
        "sys.stdout = io.StringIO()\n"
        "from steno.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(str(time.process_time()))"
    )
    costs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        costs.append(float(done.stderr))
    assert min(costs) < 0.150


def test_help_imports_no_heavy_library() -> None:
    """What a command needs is imported when the command runs."""
    code = (
        "import sys; from steno.cli.main import make_app; make_app();"
        "heavy = {'grpc', 'aiohttp', 'apsw', 'obstore', 'cryptography', 'structlog', 'msgspec',"
        " 'prometheus_client', 'phonenumbers', 're2', 'asyncio', 'rich'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_version_is_the_packages() -> None:
    """`steno --version` for a bug report."""
    done = steno("--version")
    assert (done.returncode, done.stdout) == (0, f"steno {__version__}\n")


def test_a_misspelt_command_is_told_the_right_one() -> None:
    """Usage errors exit 2."""
    done = steno("lvie")
    assert done.returncode == ExitCode.USAGE
    assert "Did you mean 'live'?" in done.stderr


def test_an_error_is_one_line_or_json_and_its_exit_code() -> None:
    """No traceback reaches the user, and a script can read the error."""
    env = {"STENO_LIVE_WINDOW_S": "-1"}
    done = steno("config", "check", env=env)
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    assert re.fullmatch(r"steno: .*live\.window_s.*STENO_LIVE_WINDOW_S.*\n", done.stderr)
    done = steno("config", "check", "--json", env=env)
    body = json.loads(done.stderr)
    assert body["exit_code"] == done.returncode == ExitCode.USAGE
    assert body["error"]["fields"]["setting"] == "live.window_s"


def test_config_show_hides_secrets_and_names_origins() -> None:
    """What is in force, and why, without what must not be seen."""
    canary = "hunter2-canary"
    env = {"OAUTH_CLIENT_SECRET": canary, "GENESYS_HOST": "a.example.com"}
    done = steno("config", "show", "--json", env=env)
    assert done.returncode == 0
    assert canary not in done.stdout + done.stderr
    rows = json.loads(done.stdout)
    assert rows["platform.host"] == {"value": "a.example.com", "origin": "GENESYS_HOST"}
    changed = steno("config", "show", "--changed", env=env).stdout
    assert "platform.client_secret" in changed
    assert "live.window_s" not in changed


def test_config_check_live_tells_what_is_missing() -> None:
    """Sound settings are not yet enough to follow an organisation."""
    assert steno("config", "check").returncode == 0
    done = steno("config", "check", "--live")
    assert done.returncode == ExitCode.USAGE
    assert "platform.client_id" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x", setting="a"), 2),
        (AuthError(), 3),
        (ConnectFailed(), 4),
        (PeerUnavailable(), 4),
        (StorageError(), 1),
        (ValueError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_class_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    """Scripts tell wrong settings from refused credentials from an unreachable platform."""
    assert exit_code(error) == code


def test_the_text_of_a_foreign_error_is_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A decoding error quotes its input; only its class and place are told."""
    canary = "four one five canary"
    group = ExceptionGroup(canary, [ValueError(canary), AuthError(status=403)])
    assert report(group, json=False) == ExitCode.AUTHENTICATION
    with pytest.raises(ValueError, match="canary") as caught:
        raise ValueError(canary)
    assert report(caught.value, json=True) == ExitCode.FAILED
    report(caught.value, json=False)
    shown = capsys.readouterr().err
    assert canary not in shown
    assert "ValueError at test_main.py" in shown


def test_a_running_command_hardens_its_process() -> None:
    """Its files are its user's alone, a crash dumps no transcript, and it ends on SIGTERM."""
    code = (
        "import asyncio, os, resource, signal\n"
        "from steno.cli.common import run_async\n"
        "async def main(stop):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await stop.wait()\n"
        "    return os.umask(0), resource.getrlimit(resource.RLIMIT_CORE)\n"
        "print(run_async(main))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "(63, (0, 0))\n"


def test_a_second_signal_ends_the_process_at_once() -> None:
    """Whatever it is doing: what is stored stays stored."""
    code = (
        "import asyncio, os, signal\n"
        "from steno.cli.common import run_async\n"
        "async def main(stop):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    await stop.wait()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    await asyncio.sleep(60)\n"
        "run_async(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == ExitCode.INTERRUPTED


def test_completion_lists_the_commands() -> None:
    """The shell's completion knows every command."""
    env = {"_STENO_COMPLETE": "complete_bash", "COMP_WORDS": "steno ", "COMP_CWORD": "1"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("steno"))],
        env={"PATH": os.defpath, "HOME": "/nonexistent", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert set(FOLLOWED) <= set(done.stdout.split())


def test_the_listing_is_typers_own() -> None:
    """Placeholders carry the one-line texts of the table."""
    root: Any = typer.main.get_command(make_app())  # Any: click is private in typer
    assert {name: one.help for name, one in root.commands.items()} == {
        name: lazy.text for name, lazy in COMMANDS.items()
    }
