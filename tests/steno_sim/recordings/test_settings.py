"""Settings of jobs and media as the command line gives them."""

from __future__ import annotations

import pytest

from steno_sim.recordings.settings import JobSettings, MediaSettings, parse_settings


def test_settings_are_read_from_pairs_with_ranges_lists_and_shares() -> None:
    """A range is two numbers or one; lists are separated by commas."""
    pairs = ["failed=0.03", "queued_s=1,2", "words=7", "keys=false", "languages=en-US,it-IT"]
    found = parse_settings(JobSettings, [*pairs, "id_key=transcriptId"])
    assert (found.failed, found.queued_s, found.words) == (0.03, (1.0, 2.0), (7, 7))
    assert (found.keys, found.languages) == (False, ("en-US", "it-IT"))
    assert found.id_key == "transcriptId"
    media = parse_settings(MediaSettings, ["layouts=dual", "item_s=0"])
    assert (media.layouts, media.item_s) == (("dual",), (0.0, 0.0))


@pytest.mark.parametrize(
    ("pair", "named"),
    [
        ("nonsense=1", "nonsense"),
        ("failed", "failed"),
        ("failed=much", "failed"),
        ("failed=1.5", "failed"),
        ("queued_s=9,2", "queued_s"),
        ("clock=0", "clock"),
        ("words=1,2000000", "words"),
        ("id_key=name", "id_key"),
        ("speakers=0", "speakers"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(pair: str, named: str) -> None:
    """The message names the key, whatever is wrong with it."""
    with pytest.raises(ValueError, match=named):
        parse_settings(JobSettings, [pair])


def test_shares_that_exclude_each_other_are_at_most_one_together() -> None:
    """A recording has one fate."""
    with pytest.raises(ValueError, match="together"):
        JobSettings(failed=0.6, never=0.6)
