"""``steno-sim call`` as a shell uses it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from conformance.call_servers import API_KEY, SECRET, TOKEN, Envelopes, Hook
from steno_sim.calls.audio import tone, ulaw_wav


async def command(*options: str, **variables: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "steno_sim.cli",
        "call",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"} | variables,
    )
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
def wav(tmp_path: Path) -> str:
    path = tmp_path / "beep.wav"
    path.write_bytes(ulaw_wav(tone(400)))
    return str(path)


async def test_one_call_with_its_log(wav: str, tmp_path: Path) -> None:
    """Exit 0, results shown, and every message in the log."""
    log = tmp_path / "log.jsonl"
    async with Hook().running() as hook:
        code, out, _ = await command(
            hook.url, "--api-key", API_KEY, "--secret-env", "KEY", "--wav", wav, "--speed", "0",
            "--log", str(log), KEY=SECRET,
        )  # fmt: skip
    assert code == 0
    assert "external  yes" in out
    assert "beep: completed, opened in" in out
    kinds = [
        json.loads(line).get("message", {}).get("type") for line in log.read_text().splitlines()
    ]
    assert [kind for kind in kinds if kind] == ["open", "opened", "close", "event", "closed"]
    assert SECRET not in log.read_text()


async def test_many_calls_as_json(wav: str, tmp_path: Path) -> None:
    """One object with the counts."""
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    async with Hook().running() as hook:
        code, out, _ = await command(
            hook.url, "--api-key", API_KEY, "--secret-file", str(file), "--wav", wav, "--speed",
            "0", "--calls", "5", "--monitor", "--json",
        )  # fmt: skip
    assert code == 0
    assert (json.loads(out)["ok"], json.loads(out)["findings"]) == (5, [])
    assert "supportedLanguages" not in hook.sessions[0].said[0]["parameters"]


async def test_a_broken_rule_is_exit_code_1(wav: str) -> None:
    """With the rule's name and what it demands."""
    async with Hook(wrong="pong_unasked").running() as hook:
        code, out, _ = await command(
            hook.url, "--api-key", API_KEY, "--secret-env", "KEY", "--wav", wav, KEY=SECRET
        )
    assert code == 1
    assert "broken: pong.unasked (a `pong` answers a `ping`)" in out


async def test_a_probe_and_a_voice() -> None:
    """A probe lists languages; a voice is known by name."""
    async with Hook().running() as hook:
        code, _, _ = await command(
            hook.url, "--api-key", API_KEY, "--secret-env", "KEY", "--voice", "concert",
            "--probe", "--json", KEY=SECRET,
        )  # fmt: skip
    assert code == 0
    assert hook.sessions[0].said[0]["parameters"]["supportedLanguages"] is True
    assert not hook.sessions[0].audio


async def test_the_json_form(wav: str) -> None:
    """A bearer token speaks it; a fault may be asked for."""
    async with Envelopes().running() as server:
        options = (server.url, "--bearer-env", "TOKEN", "--wav", wav, "--speed", "0")
        code, out, _ = await command(*options, "--fault", "holes", TOKEN=TOKEN)
        refused, shown, _ = await command(*options, TOKEN="another")
    assert (code, refused) == (0, 1)
    assert "beep: completed" in out
    assert "refused with 401" in shown
    assert {len(lane) for lane in server.lanes.values()} == {18}


async def test_faults_are_listed() -> None:
    """Name, form and what it is."""
    code, out, _ = await command("--faults")
    assert code == 0
    assert "open_twice           audiohook" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "address"),
        (("http://x/",), "address"),
        (("ws://x/",), "--api-key"),
        (("ws://x/", "--api-key", "k", "--secret-env", "NOT_SET_ANYWHERE"), "not set"),
        (("ws://x/", "--api-key", "k", "--secret-env", "KEY"), "not base64"),
        (("ws://x/", "--api-key", "k", "--voice", "nobody"), "nobody"),
        (("ws://x/", "--api-key", "k", "--wav", "/nonexistent.wav"), "nonexistent"),
        (("ws://x/", "--api-key", "k", "--monitor", "--connector"), "both"),
        (("ws://x/", "--api-key", "k", "--fault", "holes"), "other form"),
        (("ws://x/", "--bearer-env", "KEY", "--probe"), "AudioHook"),
        (("ws://x/", "--bearer-env", "KEY", "--frame-ms", "200"), "20 to 50"),
    ],
)
async def test_wrong_usage_is_exit_code_2(options: tuple[str, ...], says: str) -> None:
    """One line that says what is wrong, and never the secret."""
    code, out, err = await command(*options, KEY="not-base64!")
    assert (code, out) == (2, "")
    assert says in err
    assert "not-base64!" not in err
    assert "Traceback" not in err
