"""Metrics of a transcript, and how texts are made comparable."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.quality import Metrics, mean_confidence, metrics_of, normalised


def test_metrics_have_the_tutorials_keys_and_decimals() -> None:
    """Two decimals for seconds, four for the rate, which is 1 - mean confidence."""
    found = metrics_of([0.9, 0.8, 0.95], latency_s=12.3456)
    assert msgspec.json.encode(found) == (
        b'{"latency_seconds":12.35,"word_error_rate":0.1167,"total_words":3}'
    )


@pytest.mark.parametrize(
    ("latency_s", "shown"), [(0.125, 0.12), (0.375, 0.38), (2.675, 2.67), (0.0, 0.0), (-5.0, 0.0)]
)
def test_decimals_are_rounded_half_to_even_and_time_never_runs_backwards(
    latency_s: float, shown: float
) -> None:
    assert metrics_of([], latency_s=latency_s).latency_seconds == shown


def test_the_rate_is_rounded_half_to_even() -> None:
    """1 - 0.71875 is 0.28125 exactly."""
    assert metrics_of([0.71875], latency_s=0).word_error_rate == 0.2812


def test_without_words_the_rates_are_null() -> None:
    """Neither 0, which is perfect, nor a number that is none."""
    assert metrics_of([], latency_s=None) == Metrics(None, None, 0)
    assert mean_confidence([]) is None


def test_words_without_a_confidence_are_counted_and_left_out_of_the_mean() -> None:
    assert metrics_of([None, 0.5, None], latency_s=1) == Metrics(1.0, 0.5, 3)
    assert metrics_of([None], latency_s=1) == Metrics(1.0, None, 1)


@given(told=st.lists(st.none() | st.floats(0, 1), max_size=50), seed=st.integers(0, 99))
def test_the_rate_lies_between_0_and_1_whatever_the_order_of_words(
    told: list[float | None], seed: int
) -> None:
    found = metrics_of(told, latency_s=1)
    assert metrics_of(random.Random(seed).sample(told, len(told)), latency_s=1) == found
    assert found.word_error_rate is None or 0 <= found.word_error_rate <= 1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Hello,  WORLD!", "hello world"),
        ("It’s O'Brien's—‘quoted’", "it's o'brien's quoted"),
        ("STRASSE straße", "strasse strasse"),
        ("ﬁve １２", "five 12"),
        ("twenty 20%", "twenty 20"),
        ("où ou", "où ou"),
        ("[REDACTED] foo_bar", "redacted foo bar"),
        ("...", ""),
    ],
)
def test_case_and_punctuation_do_not_count_and_the_rest_does(text: str, same: str) -> None:
    assert normalised(text) == same


@given(text=st.text(max_size=40))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert once == " ".join(once.split())
