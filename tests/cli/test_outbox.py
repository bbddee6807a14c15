"""`steno outbox` and `steno erase`, against a real store in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from steno.adapters.call_recorder import recording_name
from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import OutboxReader, SqliteStore
from steno.cli.common import ExitCode
from steno.cli.main import make_app
from steno.core.records import Draft, Kind, Origin, SentencePayload, record_key
from steno.errors import ObjectMissing
from steno.ports import Commit, DeliveryState, Settlement

TEXT = "The parcel has not arrived."


def draft(conversation: str, number: int) -> Draft:
    payload = SentencePayload("p1", TEXT, "en-US", 0.9, number, number, number)
    utterance = f"{number}-0"
    return Draft(
        kind=Kind.SENTENCE,
        source="transcript-stream",
        conversation=conversation,
        lane="p1",
        utterance=utterance,
        revision=0,
        key=record_key("host", conversation, "p1", utterance),
        origin=Origin.LIVE,
        at_us=number,
        payload=msgspec.json.encode(payload),
    )


@pytest.fixture
async def state(tmp_path: Path) -> StateDir:
    """Two conversations of two records; of the first, one record is a dead letter."""
    state = StateDir(tmp_path / "state")
    with state:
        store = SqliteStore.open(state.database, {"crm": frozenset({Kind.SENTENCE})})
        store.start()
        first = await store.submit(Commit([draft("conv-a", 1), draft("conv-a", 2)]))
        await store.submit(Commit([draft("conv-b", 3), draft("conv-b", 4)], {"conv-b": b"sealed"}))
        dead = Settlement(first[0].id, "crm", DeliveryState.DEAD, 3, "SinkRejected")
        acked = Settlement(first[1].id, "crm", DeliveryState.ACKED, 1)
        await store.settle([dead, acked])
        await store.close()
    return state


def steno(state: StateDir, *arguments: str) -> Result:
    """Run a command in this process, with nothing of the environment in force."""
    clean = {name: None for name in os.environ if name.startswith(("STENO_", "GENESYS_", "OAUTH_"))}
    options = ["--state-dir", str(state.root)]
    env = {**clean, "HOME": "/nonexistent"}
    return CliRunner().invoke(make_app(), [*arguments, *options], env=env)


def listed(state: StateDir, *arguments: str) -> list[dict[str, object]]:
    found = json.loads(steno(state, "outbox", "list", "--json", *arguments).stdout)["records"]
    assert isinstance(found, list)
    return found


def test_list_counts_and_filters(state: StateDir) -> None:
    """Counts by destination; entries by state, conversation and kind; no text."""
    result = steno(state, "outbox", "list")
    assert "crm: 2 pending, 0 retry, 1 dead, 1 acked" in result.stdout
    assert TEXT not in result.stdout
    assert len(listed(state)) == 4
    (dead,) = listed(state, "--state", "dead")
    assert (dead["reason"], dead["attempts"]) == ("SinkRejected", 3)
    assert len(listed(state, "--conversation", "conv-b")) == 2
    assert listed(state, "--kind", "gap") == []
    assert steno(state, "outbox", "list", "--kind", "pigeon").exit_code == ExitCode.USAGE


async def test_list_says_where_nothing_is_to_be_delivered(tmp_path: Path) -> None:
    """Collected segments need no destination, and an empty listing must not seem an empty store."""
    state = StateDir(tmp_path / "state")
    with state:
        store = SqliteStore.open(state.database, {})
        store.start()
        await store.submit(Commit([draft("conv-a", 1)]))
        await store.close()
    assert "this store has no destination" in steno(state, "outbox", "list").stderr


def test_list_goes_on_where_a_page_ended(state: StateDir) -> None:
    """Pages neither repeat nor miss a record."""
    first = listed(state, "--limit", "3")
    rest = listed(state, "--after", str(first[-1]["position"]))
    assert [one["seq"] for one in first + rest] == [1, 2, 1, 2]


def test_show_gives_the_record_by_the_beginning_of_its_id(state: StateDir) -> None:
    """The payload is redacted already and is shown; an unknown id exits 5."""
    (dead,) = listed(state, "--state", "dead")
    shown = json.loads(steno(state, "outbox", "show", str(dead["id"]), "--json").stdout)
    assert shown["payload"]["text"] == TEXT
    assert shown["deliveries"][0]["state"] == "dead"
    assert TEXT in steno(state, "outbox", "show", str(dead["id"])).stdout
    assert steno(state, "outbox", "show", "ffffffff").exit_code == ExitCode.NOTHING_FOUND


def test_redrive_makes_dead_letters_pending(state: StateDir) -> None:
    """Once; a second time there is none left, which exits 5."""
    assert steno(state, "outbox", "redrive").exit_code == ExitCode.USAGE
    result = steno(state, "outbox", "redrive", "--destination", "crm", "--json")
    assert json.loads(result.stdout) == {"redriven": 1}
    assert listed(state, "--state", "dead") == []
    assert len(listed(state, "--state", "pending")) == 3
    again = steno(state, "outbox", "redrive", "--all")
    assert again.exit_code == ExitCode.NOTHING_FOUND


def test_purge_asks_first_and_gives_up_for_good(state: StateDir) -> None:
    """Without a yes nothing happens; a young dead letter is spared by --before-days."""
    assert steno(state, "outbox", "purge", "--all").exit_code != ExitCode.DONE
    young = steno(state, "outbox", "purge", "--all", "--yes", "--before-days", "1")
    assert young.exit_code == ExitCode.NOTHING_FOUND
    assert len(listed(state, "--state", "dead")) == 1
    assert steno(state, "outbox", "purge", "--all", "--yes").exit_code == ExitCode.DONE
    assert listed(state, "--state", "dead") == []


def test_purge_forget_gives_up_what_waits_too(state: StateDir) -> None:
    """For a destination that has left the settings, and only with its name."""
    assert steno(state, "outbox", "purge", "--all", "--forget", "--yes").exit_code == 2
    result = steno(state, "outbox", "purge", "--destination", "crm", "--forget", "--yes", "--json")
    assert json.loads(result.stdout) == {"purged": 2}
    assert listed(state, "--state", "pending") == []


def test_erase_removes_every_byte_and_tells_what_was_delivered(state: StateDir) -> None:
    """Records, dead letters and windows go; copies at consumers are counted."""
    result = steno(state, "erase", "conv-a", "--yes", "--json")
    erased = json.loads(result.stdout)
    assert (erased["records"], erased["dead"], erased["delivered"]) == (2, 1, {"crm": 1})
    assert {one["conversation"] for one in listed(state)} == {"conv-b"}
    windows = json.loads(steno(state, "erase", "conv-b", "--yes", "--json").stdout)["windows"]
    assert windows == 1
    for path in state.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert TEXT.encode() not in data
            assert b"conv-a" not in data


def test_erase_finds_the_recordings_wherever_they_were_made(
    state: StateDir, tmp_path: Path
) -> None:
    """The folder is noted by who records: no setting of this command need name it."""
    folder = tmp_path / "calls"
    folder.mkdir()
    names = [f"{recording_name(one)}-0" for one in ("conv-a", "conv-b")]
    for name in names:
        (folder / f"{name}.wav").write_bytes(b"audio")
        (folder / f"{name}.json").write_bytes(b"peaks")
    state.note_recordings(folder)
    state.note_recordings(tmp_path / "gone")
    state.note_recordings(folder)
    assert state.recordings_folders() == (folder, tmp_path / "gone")
    result = steno(state, "erase", "conv-a", "--yes", "--json")
    assert json.loads(result.stdout)["recordings"] == 2
    kept = sorted(path.name for path in folder.iterdir() if path.suffix != ".erased")
    assert kept == [f"{names[1]}.json", f"{names[1]}.wav"]


def test_erase_asks_first(state: StateDir) -> None:
    """Nothing is erased without a yes, and an id that is none is refused."""
    assert steno(state, "erase", "conv-a").exit_code != ExitCode.DONE
    assert steno(state, "erase", "../conv-a", "--yes").exit_code == ExitCode.USAGE
    assert len(listed(state)) == 4


def test_without_an_outbox_the_error_says_so(tmp_path: Path) -> None:
    """A look at nothing makes nothing."""
    state = StateDir(tmp_path / "none")
    result = steno(state, "outbox", "list")
    assert isinstance(result.exception, ObjectMissing)
    assert not state.root.exists()


def test_deliver_hands_over_what_waits_and_ends(state: StateDir, tmp_path: Path) -> None:
    """What was stored for a destination arrives there, in order, and nothing waits."""
    out = tmp_path / "out.jsonl"
    settings = tmp_path / "steno.toml"
    settings.write_text(
        f'[[delivery.destinations]]\ntype = "jsonl"\nname = "crm"\npath = "{out}"\n'
    )
    options = ["--json", "--config", str(settings), "--state-dir", str(state.root)]
    done = subprocess.run(
        [sys.executable, "-m", "steno.cli", "outbox", "deliver", *options],
        env={"PATH": os.defpath, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, '{"waiting":0,"elsewhere":{}}\n'), done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["conversation"], one["seq"]) for one in lines] == [("conv-b", 1), ("conv-b", 2)]
    with OutboxReader(state.database) as reader:
        assert reader.counts()["crm"].pending == 0


def test_deliver_tells_of_destinations_the_settings_do_not_name(
    state: StateDir, tmp_path: Path
) -> None:
    """A destination given as an option of `steno live` is not forgotten in silence."""
    settings = tmp_path / "steno.toml"
    settings.write_text('[[delivery.destinations]]\ntype = "jsonl"\nname = "other"\n')
    options = ["--config", str(settings), "--state-dir", str(state.root)]
    done = subprocess.run(
        [sys.executable, "-m", "steno.cli", "outbox", "deliver", *options],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        check=False,
    )
    assert done.returncode == ExitCode.DONE
    assert "2 waiting for crm" in done.stderr
    assert TEXT not in done.stdout + done.stderr
