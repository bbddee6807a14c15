"""Keys: made of ids by a template, and never outside their prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.adapters.archive_store.keys import (
    MAX_KEY_BYTES,
    KeyTemplate,
    checked_key,
    dates_in,
    key_of_manifest,
    manifest_name,
    parquet_conversation,
    parquet_key,
)
from steno.core.ids import is_id
from steno.errors import ConfigError, IntegrityError

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,60}", fullmatch=True)
DATE = "2026-03-01"


@pytest.mark.parametrize(
    ("template", "communication", "key"),
    [
        ("", "", "transcripts/c.json"),
        ("", "x", "transcripts/c/x.json"),
        ("transcripts/{conversation}.json", "x", "transcripts/c/x.json"),
        ("{date}/{conversation}.json", "", "2026-03-01/c.json"),
        ("{date}/{conversation}.json", "x", "2026-03-01/c/x.json"),
        ("a/{conversation}/{communication}.json", "x", "a/c/x.json"),
        ("a/{conversation}-{communication}.json", "", "a/c.json"),
        ("a/{communication}/{conversation}.json", "", "a/c.json"),
        ("y={date}/{conversation}/t.json", "x", "y=2026-03-01/c/x/t.json"),
    ],
)
def test_a_template_is_filled(template: str, communication: str, key: str) -> None:
    """The document's own key by default; a communication is a level of its own."""
    filled = KeyTemplate(template).fill("c", communication=communication, date=DATE)
    assert filled == key
    assert KeyTemplate(template).conversation_of(key) == "c"


def test_compression_shows_in_the_key() -> None:
    """At its end."""
    assert KeyTemplate().fill("c", zstd=True) == "transcripts/c.json.zst"
    assert KeyTemplate().conversation_of("transcripts/c.json.zst") == "c"


@pytest.mark.parametrize(
    "template",
    [
        "transcripts/all.json",
        "{conversation}/../x",
        "/{conversation}",
        "a//{conversation}",
        "./{conversation}",
        "{conversation}/",
        "{other}/{conversation}",
        "a b/{conversation}",
        "ü/{conversation}",
        "a\n/{conversation}",
        "manifests/{conversation}.json",
        "parquet/{conversation}.json",
        ".uploads/{conversation}",
        "{conversation}.zst",
        "{conversation",
    ],
)
def test_a_template_that_is_no_key_is_refused(template: str) -> None:
    """When settings are read, not when the first transcript comes."""
    with pytest.raises(ConfigError) as caught:
        KeyTemplate(template)
    assert caught.value.setting == "archive.key"


@given(conversation=IDS, communication=st.one_of(st.just(""), IDS))
def test_an_id_is_one_part_and_comes_back(conversation: str, communication: str) -> None:
    """Whatever an id has in it, the key is below its folder and tells whose it is."""
    key = KeyTemplate().fill(conversation, communication=communication)
    assert key.startswith("transcripts/")
    assert key.count("/") == (2 if communication else 1)
    assert ":" not in key
    assert KeyTemplate().conversation_of(key) == conversation
    assert key_of_manifest(manifest_name(conversation, key)) == key
    table = parquet_key(conversation, communication=communication, date=DATE)
    assert parquet_conversation(table) == conversation
    assert dates_in(table)[0] == DATE


@given(text=st.text(max_size=40).filter(lambda text: not is_id(text)))
def test_what_is_no_id_makes_no_key(text: str) -> None:
    """Neither a conversation nor a communication."""
    with pytest.raises(IntegrityError):
        KeyTemplate().fill(text)
    if text:
        with pytest.raises(IntegrityError):
            KeyTemplate().fill("c", communication=text)
        with pytest.raises(IntegrityError):
            parquet_key("c", communication=text, date=DATE)


@given(key=st.text(alphabet="ab./:%é\0\n", max_size=20))
def test_a_checked_key_stays_below_its_prefix(key: str) -> None:
    """No part of it is empty, a dot or two, and it is printable."""
    try:
        checked = checked_key(key)
    except IntegrityError:
        return
    assert checked == key
    assert all(part not in ("", ".", "..") for part in key.split("/"))
    assert key.isprintable()
    assert key.isascii()


def test_a_key_that_is_too_long_is_refused() -> None:
    """Stores take so much and no more."""
    with pytest.raises(IntegrityError):
        checked_key("a/" * (MAX_KEY_BYTES // 2) + "a")
    with pytest.raises(IntegrityError):
        checked_key("a" * 251)


@pytest.mark.parametrize("date", ["", "2026-3-1", "../x", "2026-03-01/.."])
def test_a_date_is_a_date(date: str) -> None:
    """It is part of keys, too."""
    with pytest.raises(IntegrityError):
        KeyTemplate("{date}/{conversation}").fill("c", date=date)
    with pytest.raises(IntegrityError):
        parquet_key("c", date=date)
