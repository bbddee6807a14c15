"""``steno redact``: lines in, lines out, nothing lost and nothing told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from steno.cli.redact import redact

APP = typer.Typer()
APP.command()(redact)


def run(text: str, *options: str) -> tuple[int, list[str], str]:
    result = CliRunner().invoke(APP, list(options), input=text)
    return result.exit_code, result.stdout.splitlines(), result.stderr


def test_plain_lines_are_one_speakers_sentences_and_keep_their_count() -> None:
    code, out, err = run("hi\nit's four one five\nfive five five oh one four two\n\nbye")
    assert out == ["hi", "it's [REDACTED]", "[REDACTED]", "", "bye"]
    assert (code, err) == (0, "")


def test_labels_and_language_are_options() -> None:
    code, out, _ = run(
        "son seis uno dos tres cuatro cinco seis siete ocho\n",
        "--mask",
        "label",
        "--language",
        "es-ES",
    )
    assert (code, out) == (0, ["son [PHONE]"])


def test_the_gateways_settings_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a text looks like here is what the gateway would send; an option wins."""
    settings = tmp_path / "steno.toml"
    settings.write_text('[redaction]\nmask = "label"\n')
    line, given = "ring 415-555-0142\n", ("--config", str(settings))
    assert run(line, *given)[1] == ["ring [PHONE]"]
    assert run(line, *given, "--mask", "redacted")[1] == ["ring [REDACTED]"]
    monkeypatch.setenv("STENO_REDACTION_MASK", "label")
    assert run(line)[1] == ["ring [PHONE]"]


def test_json_lines_come_back_with_text_redacted_entities_and_all_else() -> None:
    code, out, _ = run('{"id":7,"text":"ring 415-555-0142","language":"en"}\n', "--jsonl")
    assert code == 0
    assert json.loads(out[0]) == {
        "id": 7,
        "text": "ring [REDACTED]",
        "language": "en",
        "entities": {"phone": 1},
    }


def test_json_lines_of_one_conversation_and_lane_belong_together() -> None:
    lines = [
        {"text": "four one five five", "conversation": "c", "lane": "a"},
        {"text": "okay", "conversation": "c", "lane": "b"},
        {"text": "hello", "conversation": "d"},
        {"text": "five five oh one four two", "conversation": "c", "lane": "a"},
        {"text": "five five oh one", "lane": "a"},
    ]
    _, out, _ = run("\n".join(map(json.dumps, lines)), "--jsonl")
    by_conversation: dict[str, list[str]] = {}
    for line in map(json.loads, out):
        by_conversation.setdefault(line.get("conversation", ""), []).append(line["text"])
    assert by_conversation["c"] == ["[REDACTED]", "okay", "[REDACTED]"]
    assert by_conversation["d"] == ["hello"]
    assert by_conversation[""] == ["five five oh one"]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("nonsense 415-555-0142", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"language":"en"}', 'field "text" is missing'),
        ('{"text":5}', 'field "text" is not a string'),
        ('{"text":"x","lane":1}', 'field "lane" is not a string'),
        ("[" * 5000, "not a JSON object"),
    ],
)
def test_a_bad_line_is_named_once_and_the_rest_goes_on(bad: str, problem: str) -> None:
    code, out, err = run(f'{{"text":"a"}}\n{bad}\n{{"text":"b"}}\n', "--jsonl")
    assert code == 1
    assert [json.loads(line)["text"] for line in out] == ["a", "b"]
    assert err == f"line 2: {problem}\n"


def test_bytes_that_are_no_text_leave_an_empty_line() -> None:
    result = CliRunner().invoke(APP, [], input=b"a\n\xff\xfe415\nb\n")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["a", "", "b"]
    assert result.stderr == "line 2: not UTF-8\n"


def test_lines_come_out_as_they_go_in() -> None:
    """A reader at the other end of the pipe does not wait for the end of input."""
    code = "import typer; from steno.cli.redact import redact; typer.run(redact)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"call 415-555-0142\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"call [REDACTED]\n"
        process.stdin.close()
        assert process.wait(20) == 0
