"""Telling speech from the rest: WebRTC's detector by default, silero's network as an option.

Both first look at the loudest sample of what they are given. When it is under ``QUIET_PEAK``
nothing else is asked: on a call, one side is silent most of the time, and that costs a
microsecond. The floor lies 54 dB under full scale. Recorded speech scaled down to it is called
speech by WebRTC's own detector in one frame of eight, at half of it in none.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from steno.errors import EngineUnavailable, UnsupportedAudio
from steno.ports.speech import Samples, VoiceActivity

if TYPE_CHECKING:
    import onnxruntime  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float32]
VoiceKind = Literal["webrtc", "silero"]

QUIET_PEAK: Final = 64
"""No sample of silence is louder (int16)."""

LOWEST_RATE_HZ: Final = 8_000
HIGHEST_RATE_HZ: Final = 192_000


def make_voice_activity(
    kind: VoiceKind, rate_hz: int, model: SileroModel | None = None
) -> VoiceActivity:
    """Return a detector for one lane.

    Args:
        kind: ``silero`` needs ``model``.
        rate_hz: Of the samples that will be fed.
        model: Shared by all lanes of a process; see ``SileroModel.load``.

    Raises:
        UnsupportedAudio: The rate is below 8 kHz or above 192 kHz.
        EngineUnavailable: ``silero`` without a model.
    """
    if kind == "webrtc":
        return WebrtcVoiceActivity(rate_hz)
    if model is None:
        raise EngineUnavailable("voice activity by silero has no model", fix=_SILERO_FIX)
    return SileroVoiceActivity(model, rate_hz)


def _checked_rate(rate_hz: int) -> int:
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise UnsupportedAudio(
            "voice activity cannot be told at this sample rate",
            rate_hz=rate_hz,
            fix=f"Send {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} samples per second",
        )
    return rate_hz


def _is_quiet(samples: Samples) -> bool:
    # Finding the place of an extreme costs a third of finding its value, in numpy.
    return (
        samples.item(samples.argmax()) < QUIET_PEAK and samples.item(samples.argmin()) > -QUIET_PEAK
    )


# --- WebRTC ----------------------------------------------------------------------------------

WEBRTC_RATES_HZ: Final = (8_000, 16_000, 32_000, 48_000)
FRAME_MS: Final = 30
"""The longest WebRTC takes: least work for a second of audio."""

AGGRESSIVENESS: Final = 2
"""0..3; 2 keeps most of the speech on telephone lines and refuses steady noise."""


class WebrtcVoiceActivity:
    """WebRTC's detector: a mixture model over six bands, adapting to the line's noise.

    Rates it does not know are resampled to 8 kHz for it. Frames passed over as quiet are not
    seen by its noise model either; it ignores them by itself.

    Args:
        rate_hz: Of the samples that will be fed.

    Raises:
        UnsupportedAudio: The rate is below 8 kHz or above 192 kHz.
    """

    __slots__ = (
        "_ask", "_frame_bytes", "_left", "_left_is_quiet", "_native_hz", "_native_samples",
        "_rate_hz", "_vad", "frame_samples",
    )  # fmt: skip

    def __init__(self, rate_hz: int) -> None:
        # The wrapper class beside it recounts the samples of each frame: an eighth of the cost.
        import _webrtcvad  # type: ignore[import-not-found]  # a compiled module without stubs

        self._rate_hz = _checked_rate(rate_hz)
        self._native_hz = rate_hz if rate_hz in WEBRTC_RATES_HZ else 8_000
        self._native_samples = self._native_hz * FRAME_MS // 1000
        self.frame_samples: int = rate_hz * FRAME_MS // 1000
        self._frame_bytes = 2 * self.frame_samples
        self._left = b""
        self._left_is_quiet = True
        self._ask: Callable[[object, int, bytes, int], int] = _webrtcvad.process
        self._vad = _webrtcvad.create()
        _webrtcvad.init(self._vad)
        _webrtcvad.set_mode(self._vad, AGGRESSIVENESS)

    def feed(self, samples: Samples) -> bytes:
        """Return one byte per whole frame of 30 ms (1 speech, 0 none), in order.

        What does not fill a frame is kept for the next call.
        """
        if not len(samples):
            return b""
        quiet = _is_quiet(samples)
        data = self._left + samples.tobytes()
        step = self._frame_bytes
        whole = len(data) - len(data) % step
        skip = quiet and self._left_is_quiet
        self._left = data[whole:]
        # What is left is of these samples alone once a frame was filled.
        self._left_is_quiet = quiet if whole else skip
        if skip:
            return bytes(whole // step)
        if self._native_hz != self._rate_hz:
            return self._resampled(data[:whole])
        ask, vad, rate_hz, n = self._ask, self._vad, self._rate_hz, self._native_samples
        return bytes([ask(vad, rate_hz, data[at : at + step], n) for at in range(0, whole, step)])

    def _resampled(self, data: bytes) -> bytes:
        count = len(data) // self._frame_bytes
        if not count:
            return b""
        n = self._native_samples
        native = resampled(np.frombuffer(data, np.int16), self._rate_hz, self._native_hz, count * n)
        ask, vad, rate_hz = self._ask, self._vad, self._native_hz
        rows = native.reshape(count, n)
        return bytes([ask(vad, rate_hz, row.tobytes(), n) for row in rows])


def resampled(samples: Samples, from_hz: int, to_hz: int, count: int) -> Samples:
    """Return exactly ``count`` samples at the other rate, a missing last one made up by zero.

    Good enough to judge by; audio that somebody listens to is resampled as a stream.
    """
    import soxr  # type: ignore[import-untyped]

    made = soxr.resample(samples, from_hz, to_hz, quality="LQ")
    if len(made) < count:
        made = np.pad(made, (0, count - len(made)))
    return np.asarray(made[:count], np.int16)


# --- silero ----------------------------------------------------------------------------------

SPEECH_FROM: Final = 0.5
SPEECH_UNTIL: Final = 0.35
"""Once it is speech, it stays so down to this: the network's authors leave 0.15 between the two."""

_SILERO_FIX: Final = (
    "Install the extra `whisper`, which brings a model, or set media.silero_model to the ONNX "
    'file of the package silero-vad; or take media.voice_activity = "webrtc"'
)
_SCALE: Final = np.float32(1 / 32768)

State = tuple[Floats, ...]
"""What the network remembers of one lane."""


class SileroModel:
    """The network, loaded once; each lane keeps its own state. Stateless, so lanes may share it.

    Three generations of the graph are known by the names of their inputs: ``input h c sr`` (v4),
    ``input state sr`` (v5 and v6), and ``input h c`` (v6 as faster-whisper ships it: 16 kHz
    only, several windows in one run). From v5 on, each window is preceded by the end of the one
    before.
    """

    __slots__ = ("_inputs", "_session")

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._inputs = frozenset(each.name for each in session.get_inputs())

    @classmethod
    def load(cls, path: Path | None = None) -> SileroModel:
        """Load the file, or the one inside the installed faster-whisper. Blocks for ~50 ms.

        Raises:
            EngineUnavailable: onnxruntime or the file is missing, or it is another kind of graph.
        """
        try:
            import onnxruntime
        except ImportError as exc:
            raise EngineUnavailable(
                "voice activity by silero needs the package onnxruntime", fix=_SILERO_FIX
            ) from exc
        file = path or bundled_silero()
        if file is None or not file.is_file():
            raise EngineUnavailable("the silero model is missing", fix=_SILERO_FIX)
        options = onnxruntime.SessionOptions()
        # One lane's window is too small to share out, and the loop's thread does the work.
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
            model = cls(session)
            model._try_out()
        except EngineUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001
            # Its exceptions share no base of their own, and their words quote the path.
            raise EngineUnavailable(
                "the silero model cannot be read", fix=_SILERO_FIX, error=type(exc).__name__
            ) from None
        return model

    def _try_out(self) -> None:
        """Run a window of silence, so that a wrong graph is refused now and not in a call."""
        if self._inputs not in _GRAPHS:
            raise EngineUnavailable(
                "the ONNX file is not a silero model that is known", fix=_SILERO_FIX
            )
        rate_hz = self.rate_for(8_000)
        n = self.window_samples(rate_hz)
        silence = np.zeros(n + self.context_samples(rate_hz), np.float32)
        probability, state = self.run(silence[None], rate_hz, self.start())
        shapes = [part.shape for part in state]
        if len(probability) != 1 or shapes != [part.shape for part in self.start()]:
            raise EngineUnavailable("the silero model answers in another shape", fix=_SILERO_FIX)

    def rate_for(self, rate_hz: int) -> int:
        """Return the rate to feed it for audio of ``rate_hz``."""
        return 8_000 if rate_hz == 8_000 and "sr" in self._inputs else 16_000

    def window_samples(self, rate_hz: int) -> int:
        """Return the samples in a window: 32 ms."""
        return rate_hz * 32 // 1000

    def context_samples(self, rate_hz: int) -> int:
        """Return how much of the window before precedes each window: 4 ms, or nothing."""
        return 0 if self._inputs == _V4 else rate_hz * 4 // 1000

    def start(self) -> State:
        """Return the state of a lane of which nothing was heard."""
        if "state" in self._inputs:
            return (np.zeros((2, 1, 128), np.float32),)
        shape = (2, 1, 64) if self._inputs == _V4 else (1, 1, 128)
        return (np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def run(self, windows: Floats, rate_hz: int, state: State) -> tuple[list[float], State]:
        """Return the probability of speech in each window of one lane, and its new state.

        Args:
            windows: -1..1, shape (count, context + window), in order of time.
            rate_hz: 8000 or 16000, as ``rate_for`` says.
            state: Of ``start`` or of the run before.
        """
        run = self._session.run
        if "sr" not in self._inputs:
            speech, *after = run(None, {"input": windows, "h": state[0], "c": state[1]})
            return np.ravel(speech).tolist(), tuple(after)
        rate = np.array(rate_hz, np.int64)
        probabilities: list[float] = []
        for window in windows:
            inputs = {"input": window[None], "sr": rate}
            if len(state) == 1:
                inputs["state"] = state[0]
            else:
                inputs["h"], inputs["c"] = state
            speech, *after = run(None, inputs)
            state = tuple(after)
            probabilities.extend(np.ravel(speech).tolist())
        return probabilities, state


_V4: Final = frozenset({"input", "sr", "h", "c"})
_GRAPHS: Final = frozenset(
    {_V4, frozenset({"input", "state", "sr"}), frozenset({"input", "h", "c"})}
)


def bundled_silero() -> Path | None:
    """Return the model that comes inside faster-whisper, without importing that."""
    spec = find_spec("faster_whisper")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = sorted(Path(folder, "assets").glob("silero_vad*.onnx"))
        if found:
            return found[-1]
    return None


class SileroVoiceActivity:
    """Silero's network on one lane: better in noise than WebRTC, at many times its cost.

    Args:
        model: Shared with other lanes.
        rate_hz: Of the samples that will be fed; resampled to what the network takes.

    Raises:
        UnsupportedAudio: The rate is below 8 kHz or above 192 kHz.
    """

    __slots__ = (
        "_before", "_context", "_is_speech", "_left", "_model", "_native_hz", "_rate_hz",
        "_state", "_window", "frame_samples",
    )  # fmt: skip

    def __init__(self, model: SileroModel, rate_hz: int) -> None:
        self._model = model
        self._rate_hz = _checked_rate(rate_hz)
        self._native_hz = model.rate_for(rate_hz)
        self._window = model.window_samples(self._native_hz)
        self.frame_samples: int = self._window * rate_hz // self._native_hz
        self._left: Samples = np.zeros(0, np.int16)
        self._context: Floats = np.zeros(0, np.float32)
        self._state: State = ()
        self._forget()

    def _forget(self) -> None:
        self._context = np.zeros(self._model.context_samples(self._native_hz), np.float32)
        self._state = self._model.start()
        self._is_speech = False
        self._before: Samples = np.zeros(_LEAD_IN, np.int16)

    def feed(self, samples: Samples) -> bytes:
        """Return one byte per whole frame of 32 ms (1 speech, 0 none), in order.

        What does not fill a frame is kept for the next call.
        """
        data = np.concatenate((self._left, samples)) if len(self._left) else samples
        count = len(data) // self.frame_samples
        whole = count * self.frame_samples
        self._left = data[whole:].copy()
        if not count:
            return b""
        if _is_quiet(data):
            self._forget()
            return bytes(count)
        native = self._windows(data[:whole], count)
        probabilities, self._state = self._model.run(native, self._native_hz, self._state)
        return bytes([self._judge(each) for each in probabilities])

    def _judge(self, probability: float) -> int:
        self._is_speech = probability >= (SPEECH_UNTIL if self._is_speech else SPEECH_FROM)
        return self._is_speech

    def _windows(self, data: Samples, count: int) -> Floats:
        """Return the windows, each with the end of the one before it in front."""
        n = self._window
        if self._native_hz != self._rate_hz:
            data = self._at_native_rate(data, count * n)
        flat = np.concatenate((self._context, data * _SCALE), dtype=np.float32)
        context = len(self._context)
        self._context = flat[len(flat) - context :].copy()
        step = flat.strides[0]
        rows = np.lib.stride_tricks.as_strided(flat, (count, context + n), (n * step, step))
        return np.ascontiguousarray(rows)

    def _at_native_rate(self, data: Samples, count: int) -> Samples:
        # A lead-in of what came before: a filter that starts on the audio itself rings there.
        lead_in = _LEAD_IN * self._native_hz // self._rate_hz
        joined = np.concatenate((self._before, data))
        self._before = joined[-_LEAD_IN:].copy()
        return resampled(joined, self._rate_hz, self._native_hz, lead_in + count)[lead_in:]


_LEAD_IN: Final = 64
"""Samples of what came before that a resampled stretch begins with."""
