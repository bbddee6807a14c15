"""Audio values: G.711 bit for bit, channels, durations."""

from __future__ import annotations

import hashlib
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.audio import (
    SILENCE,
    Encoding,
    MediaFormat,
    decode,
    encode_ulaw,
    encoding_of,
    join_channels,
    samples_in,
    samples_to_us,
    split_channels,
    us_to_samples,
)
from steno.errors import RemoteProtocolError

EVERY_CODE = bytes(range(256))
EVERY_SAMPLE = np.arange(-32768, 32768, dtype=np.int16)
STEREO = ("external", "internal")

# Decision values of ITU-T G.711 tables 1 and 2, scaled to 16 bits: µ-law times 4, A-law times 8.
ULAW_KNOWN = {
    0x00: -32124,
    0x7F: 0,
    0x80: 32124,
    0xFF: 0,
    0xFE: 8,
    0x7E: -8,
    0x8F: 16764,
    0xEF: 132,
}
ALAW_KNOWN = {0x2A: -32256, 0xAA: 32256, 0x55: -8, 0xD5: 8, 0xD4: 24, 0x54: -24, 0x80: 5504}


def ulaw_by_segments() -> list[int]:
    """Return table 2 of G.711, counted out: eight segments of sixteen steps, twice as wide each."""
    magnitudes = [(33 + 2 * step) * 2**segment - 33 for segment in range(8) for step in range(16)]
    return [-4 * m for m in reversed(magnitudes)] + [4 * m for m in reversed(magnitudes)]


def alaw_by_segments() -> list[int]:
    """Return table 1 of G.711 likewise, the even bits inverted."""
    magnitudes = [2 * step + 1 for step in range(16)]
    magnitudes += [(33 + 2 * step) * 2**segment for segment in range(7) for step in range(16)]
    values = [0] * 256
    for place, magnitude in enumerate(magnitudes):
        values[(place | 0x80) ^ 0x55] = 8 * magnitude
        values[place ^ 0x55] = -8 * magnitude
    return values


@pytest.mark.parametrize(
    ("encoding", "known"), [(Encoding.PCMU, ULAW_KNOWN), (Encoding.PCMA, ALAW_KNOWN)]
)
def test_known_codes_have_their_published_values(encoding: Encoding, known: dict[int, int]) -> None:
    """The extreme, the smallest and some middle codes are those of the Recommendation."""
    table = decode(EVERY_CODE, encoding)
    assert {code: int(table[code]) for code in known} == known


def test_every_code_is_decoded_as_the_segments_say() -> None:
    """All 256 codes of both laws follow from the segments' widths; the hashes pin the tables."""
    ulaw, alaw = decode(EVERY_CODE, Encoding.PCMU), decode(EVERY_CODE, Encoding.PCMA)
    assert ulaw.tolist() == ulaw_by_segments()
    assert alaw.tolist() == alaw_by_segments()
    assert [
        hashlib.sha256(one.astype("<i2").tobytes()).hexdigest()[:16] for one in (ulaw, alaw)
    ] == [
        "3dab54339e520bb2",
        "e04788d110e58ff8",
    ]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="audioop is gone")
def test_tables_equal_audioop() -> None:
    """Decoding and encoding give what the interpreter's old module gives, for every input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import audioop  # type: ignore[import-not-found,unused-ignore]
    assert decode(EVERY_CODE, Encoding.PCMU).tobytes() == audioop.ulaw2lin(EVERY_CODE, 2)
    assert decode(EVERY_CODE, Encoding.PCMA).tobytes() == audioop.alaw2lin(EVERY_CODE, 2)
    assert encode_ulaw(EVERY_SAMPLE) == audioop.lin2ulaw(EVERY_SAMPLE.tobytes(), 2)


def test_encoding_undoes_decoding() -> None:
    """A µ-law code decodes to a sample that encodes to it; 0x7F is the other spelling of zero."""
    back = encode_ulaw(decode(EVERY_CODE, Encoding.PCMU))
    assert back == EVERY_CODE.replace(b"\x7f", b"\xff")


def test_l16_is_read_in_either_byte_order() -> None:
    """Little-endian unless told; the values are the same from swapped bytes."""
    values = np.array([0, 1, -1, 258, -32768, 32767], np.int16)
    assert decode(values.astype("<i2").tobytes(), Encoding.L16).tolist() == values.tolist()
    swapped = values.astype(">i2").tobytes()
    assert decode(swapped, Encoding.L16, byte_order="big").tolist() == values.tolist()
    assert decode(swapped, Encoding.L16, byte_order="big").dtype == np.int16


def test_half_a_sample_is_refused() -> None:
    """L16 of odd length is the peer's mistake, not something to round."""
    with pytest.raises(RemoteProtocolError):
        decode(b"\0\0\0", Encoding.L16)


def test_silence_decodes_to_almost_nothing() -> None:
    """The silent sample of each encoding is within one step of zero."""
    assert {e: int(decode(b, e)[0]) for e, b in SILENCE.items()} == {
        Encoding.PCMU: 0,
        Encoding.PCMA: 8,
        Encoding.L16: 0,
    }


@given(
    encoding=st.sampled_from(Encoding),
    channels=st.integers(1, 4),
    frames=st.integers(0, 200),
    data=st.data(),
)
def test_channels_are_split_and_joined_unchanged(
    encoding: Encoding, channels: int, frames: int, data: st.DataObject
) -> None:
    """Each channel gets every n-th sample, byte for byte, and joining gives the message back."""
    fmt = MediaFormat(encoding, 8000, tuple(str(n) for n in range(channels)))
    size = frames * fmt.frame_bytes
    payload = data.draw(st.binary(min_size=size, max_size=size))
    parts = split_channels(payload, fmt)
    assert [len(part) for part in parts] == [frames * fmt.sample_bytes] * channels
    whole = decode(payload, encoding)
    for place, part in enumerate(parts):
        assert decode(part, encoding).tolist() == whole[place::channels].tolist()
        assert samples_in(part, encoding) == frames
    assert join_channels(parts, encoding) == payload


@pytest.mark.parametrize(("encoding", "size"), [(Encoding.PCMU, 3), (Encoding.L16, 6)])
def test_messages_hold_whole_frames(encoding: Encoding, size: int) -> None:
    """A message with a sample of one channel and none of the other is refused."""
    with pytest.raises(RemoteProtocolError) as refused:
        split_channels(bytes(size), MediaFormat(encoding, 8000, STEREO))
    assert refused.value.fields["size_bytes"] == size


@pytest.mark.parametrize(
    ("spelling", "encoding"),
    [
        ("PCMU", Encoding.PCMU),
        ("pcmu", Encoding.PCMU),
        ("mulaw", Encoding.PCMU),
        ("µ-law", Encoding.PCMU),
        ("audio/x-mulaw", Encoding.PCMU),
        ("audio/PCMU;rate=8000", Encoding.PCMU),
        ("G711_ULAW", Encoding.PCMU),
        ("A-Law", Encoding.PCMA),
        ("PCMA", Encoding.PCMA),
        ("audio/L16; rate=16000", Encoding.L16),
        ("linear16", Encoding.L16),
        ("pcm_s16le", Encoding.L16),
        ("opus", None),
        ("", None),
        ("L24", None),
        ("pcm_s16be", None),
    ],
)
def test_common_spellings_are_understood(spelling: str, encoding: Encoding | None) -> None:
    """Peers spell encodings in many ways; what means none of ours means none."""
    assert encoding_of(spelling) is encoding


@given(samples=st.integers(0, 10**12), rate_hz=st.integers(8000, 48_000))
def test_times_give_their_samples_back(samples: int, rate_hz: int) -> None:
    """Going over microseconds loses no sample, and no time is off by more than half of one."""
    us = samples_to_us(samples, rate_hz)
    assert us_to_samples(us, rate_hz) == samples
    assert abs(us * rate_hz - samples * 1_000_000) * 2 <= rate_hz
