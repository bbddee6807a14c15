"""Requests are checked before any network, every field and every line at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import ConfigError, ConfigProblems
from steno.recordings.requests import (
    MAX_LINE_BYTES,
    BadLine,
    Form,
    GoodLine,
    Line,
    RepeatedLine,
    RequestRules,
    TranscriptionRequest,
    check,
    demand,
    read_arguments,
    read_requests,
)

ID = "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01"
OTHER = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
RULES = RequestRules()
DEFAULTS = TranscriptionRequest("")


def read(text: str | bytes, *, form: Form = Form.AUTO) -> list[Line]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_requests(data.splitlines(keepends=True), RULES, DEFAULTS, form=form))


def requests(lines: Sequence[Line]) -> list[TranscriptionRequest]:
    return [line.request for line in lines if isinstance(line, GoodLine)]


def fields(line: Line) -> list[str]:
    assert isinstance(line, BadLine)
    return [problem.setting for problem in line.problems]


def test_defaults_are_the_documents() -> None:
    """en-US, text, and all three options."""
    request = demand(TranscriptionRequest(ID), RULES).request
    assert request == TranscriptionRequest(ID, "en-US", "text", True, True, True, "")


def test_every_wrong_field_is_told_at_once_and_by_name() -> None:
    """One problem for each field, and no value in any of them."""
    wrong = TranscriptionRequest("SECRET", "xx-XX", "docx", webhook="ftp://SECRET")
    with pytest.raises(ConfigProblems) as caught:
        demand(wrong, RULES)
    assert [problem.setting for problem in caught.value.problems] == [
        "recordingId",
        "language",
        "format",
        "webhook",
    ]
    assert "SECRET" not in str(caught.value)
    assert "xx-XX" not in str(caught.value)


def test_one_wrong_field_is_one_error() -> None:
    """There is no list to read where there is one problem."""
    with pytest.raises(ConfigError) as caught:
        demand(TranscriptionRequest(""), RULES)
    assert not isinstance(caught.value, ConfigProblems)
    assert caught.value.setting == "recordingId"


def test_ids_and_tags_take_one_form() -> None:
    """The same recording in capitals is the same recording."""
    checked = check(TranscriptionRequest(f" {ID.upper()}", "DE-de"), RULES)
    assert checked.request == TranscriptionRequest(ID, "de-DE")


def test_languages_are_extended_by_an_argument() -> None:
    """The five stay; what is added must be a tag."""
    rules = RequestRules(languages=["pt-BR"])
    assert check(TranscriptionRequest(ID, "pt-BR"), rules).request is not None
    assert check(TranscriptionRequest(ID, "fr-FR"), rules).request is not None
    assert check(TranscriptionRequest(ID, "pt-BR"), RULES).request is None
    with pytest.raises(ConfigError):
        RequestRules(languages=["not a tag"])


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "example.com/hook",
        "https://",
        "https:///path",
        "https://user:pw@example.com/",
        "https://@example.com/",
        "https://exa mple.com/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com:99999/",
        "https://[::1",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://１２７.0.0.1/",
        "https://127。0。0。1/",
        "https://10.0.0.8/",
        "https://169.254.169.254/latest",
        "https://100.64.0.1/",
        "https://224.0.0.1/",
        "https://0.0.0.0/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fc00::1]/",
        "https://[fe80::1%25eth0]/",
        "http://localhost/",
        "https://localhost./",
        "https://api.localhost/",
        "https://example.com/" + "x" * 2048,
        "https://example.com/\n",
    ],
)
def test_webhooks_that_lead_inside_or_cannot_be_read_are_refused(url: str) -> None:
    """Scheme, host, user info, literal private addresses in every notation."""
    checked = check(TranscriptionRequest(ID, webhook=url), RULES)
    assert [problem.setting for problem in checked.problems] == ["webhook"]


@pytest.mark.parametrize("url", ["https://example.com/hook?x=1", "https://93.184.215.14:8443/"])
def test_public_https_webhooks_pass_without_a_warning(url: str) -> None:
    """Nothing to say."""
    checked = check(TranscriptionRequest(ID, webhook=url), RULES)
    assert checked.request is not None
    assert checked.warnings == ()


def test_http_is_warned_of_unless_allow_listed() -> None:
    """Plain http is the document's own; it is allowed and said."""
    assert check(TranscriptionRequest(ID, webhook="http://example.com/"), RULES).warnings
    rules = RequestRules(allow=["127.0.0.0/8", "::1"])
    for url in ("http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]/"):
        checked = check(TranscriptionRequest(ID, webhook=url), rules)
        assert checked.request is not None
        assert checked.warnings == ()
    assert check(TranscriptionRequest(ID, webhook="http://10.1.1.1/"), rules).request is None


@pytest.mark.parametrize("url", ["http://hooks.corp.example:8080/", "http://Localhost./x"])
def test_an_allow_listed_name_passes_without_a_warning(url: str) -> None:
    """Whatever it stands for here: that is checked where it is connected to."""
    rules = RequestRules(hosts=["hooks.corp.example", "localhost"])
    checked = check(TranscriptionRequest(ID, webhook=url), rules)
    assert checked.request is not None
    assert checked.warnings == ()
    assert check(TranscriptionRequest(ID, webhook="http://127.0.0.1/"), rules).request is None
    assert check(TranscriptionRequest(ID, webhook="https://a.localhost/"), rules).request is None


def test_an_allow_list_entry_must_be_a_network() -> None:
    """A slip must not open or close anything silently."""
    with pytest.raises(ConfigError):
        RequestRules(allow=["my-host"])


def test_lines_of_ids_pass_over_comments_and_empty_lines() -> None:
    """Line numbers are those of the file."""
    lines = read(f"\ufeff# recordings\n\n{ID}\r\n  {OTHER}  \nnonsense\n")
    assert [line.line for line in lines] == [3, 4, 5]
    assert requests(lines) == [TranscriptionRequest(ID), TranscriptionRequest(OTHER)]
    assert fields(lines[2]) == ["recordingId"]


def test_csv_takes_columns_by_name_and_empty_cells_as_defaults() -> None:
    """Names with or without capitals and underscores; order is free."""
    lines = read(
        f"language,Recording_ID,speakerDiarization,webhook\n"
        f'de-DE,{ID},no,"https://example.com/a,b"\n,{OTHER},,\n'
    )
    assert requests(lines) == [
        TranscriptionRequest(
            ID, "de-DE", speaker_diarization=False, webhook="https://example.com/a,b"
        ),
        TranscriptionRequest(OTHER),
    ]


def test_bad_lines_are_told_by_number_and_the_rest_goes_on() -> None:
    """A quote left open, a missing column, a wrong flag and a wrong byte spoil their own line."""
    text = f'recordingId,timestamps\n"{ID},true\n{ID}\n{ID},maybe\n{ID},\n'.encode()
    lines = read(
        text + b"\xff,true\n" + b"x" * (MAX_LINE_BYTES + 1) + b"\n" + OTHER.encode() + b",1"
    )
    assert [(line.line, type(line)) for line in lines] == [
        (2, BadLine), (3, BadLine), (4, BadLine), (5, GoodLine), (6, BadLine), (7, BadLine),
        (8, GoodLine),
    ]  # fmt: skip
    assert [fields(line) for line in lines if isinstance(line, BadLine)] == [
        ["line"], ["line"], ["timestamps"], ["line"], ["line"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "header", ["recordingId,langauge", "language,format", "recordingId,recording_id"]
)
def test_a_wrong_header_refuses_the_whole_file(header: str) -> None:
    """A misspelt column would give every job the default."""
    with pytest.raises(ConfigError) as caught:
        read(f"{header}\n{ID},de-DE\n")
    assert caught.value.setting == "header"


def test_json_lines_are_strict() -> None:
    """Types as in the body; null is the default; an unknown field is a problem of its line."""
    lines = read(
        f'{{"recordingId":"{ID}","format":"srt","timestamps":false,"webhook":null}}\n'
        f'{{"recordingId":"{OTHER}","timestamps":"yes","language":7}}\n'
        f'{{"recordingId":"{OTHER}","lang":"de-DE"}}\n'
        f'[1]\n{{"recordingId":\n{{"language":"de-DE"}}\n{{"recordingId":"{OTHER}"}}\n'
    )
    assert requests(lines) == [
        TranscriptionRequest(ID, format="srt", timestamps=False),
        TranscriptionRequest(OTHER),
    ]
    assert [fields(line) for line in lines[1:6]] == [
        ["timestamps", "language"],
        ["line"],
        ["line"],
        ["line"],
        ["recordingId"],
    ]


def test_repeats_are_told_with_the_first_line_and_left_out() -> None:
    """The same request twice is one job; another format of the same recording is another."""
    lines = read(f"recordingId,format\n{ID},text\n{ID.upper()},\n{ID},srt\n")
    assert isinstance(lines[1], RepeatedLine)
    assert (lines[1].line, lines[1].first) == (3, 2)
    assert len(requests(lines)) == 2


def test_arguments_are_counted_from_one() -> None:
    """A wrong argument is told by its place."""
    lines = list(read_arguments([ID, "x", ID], RULES, TranscriptionRequest("", "fr-FR")))
    assert requests(lines) == [TranscriptionRequest(ID, "fr-FR")]
    assert fields(lines[1]) == ["recordingId"]
    assert isinstance(lines[2], RepeatedLine)


@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from(Form))
def test_any_input_gives_lines_or_the_headers_error(lines: list[bytes], form: Form) -> None:
    """No other exception comes out, and every line is told at most once."""
    try:
        found = list(read_requests(lines, RULES, DEFAULTS, form=form))
    except ConfigError as error:
        assert error.setting in ("header", "line")  # noqa: PT017  # either is fine, others not
        return
    assert len({line.line for line in found}) == len(found) <= len(lines)


# --- conversations ---------------------------------------------------------------------------

NEEDY = RequestRules(conversations=True)


@pytest.mark.parametrize(
    "text",
    [
        f"{OTHER}/{ID}\n",
        f"recordingId,conversationId\n{ID},{OTHER.upper()}\n",
        f'{{"conversationId": "{OTHER}", "recordingId": "{ID}"}}\n',
    ],
)
def test_a_conversation_is_told_in_every_form(text: str) -> None:
    """Beside the recording's id, or in a field of its own."""
    lines = list(read_requests(text.encode().splitlines(keepends=True), NEEDY, DEFAULTS))
    (request,) = requests(lines)
    assert (request.recording_id, request.conversation_id) == (ID, OTHER)


def test_an_argument_names_its_conversation() -> None:
    """The same grammar as a line of ids."""
    (line,) = read_arguments([f"{OTHER}/{ID}"], NEEDY, DEFAULTS)
    (request,) = requests([line])
    assert (request.recording_id, request.conversation_id) == (ID, OTHER)


@pytest.mark.parametrize(
    ("text", "rules", "wrong"),
    [
        (ID, NEEDY, ["conversationId"]),
        (f"no-uuid/{ID}", RULES, ["conversationId"]),
        (f"{OTHER}/", NEEDY, ["recordingId"]),
        (f"{OTHER}/{ID}/{ID}", NEEDY, ["recordingId"]),
    ],
)
def test_a_wrong_or_missing_conversation_is_told_by_name(
    text: str, rules: RequestRules, wrong: list[str]
) -> None:
    """Before any network; the service's own engine does without one."""
    (line,) = read_arguments([text], rules, DEFAULTS)
    assert fields(line) == wrong


def test_two_conversations_for_one_recording_are_refused() -> None:
    """Neither is guessed to be right."""
    told = TranscriptionRequest(f"{ID}/{ID}", conversation_id=OTHER)
    assert check(told, NEEDY).request is None


def test_arguments_are_told_as_such() -> None:
    """Nobody looks for the first line of what is no file."""
    defaults = TranscriptionRequest("", webhook="http://example.com/")
    good, again = read_arguments([ID, ID], RULES, defaults)
    assert isinstance(good, GoodLine)
    assert isinstance(again, RepeatedLine)
    assert (good.place, good.line, len(good.warnings)) == ("argument", 1, 1)
    assert (again.place, again.line, again.first) == ("argument", 2, 1)
