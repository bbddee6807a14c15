"""The engine the settings name, loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, assert_never

from steno.adapters.speech.engines.port import Engine

EngineName = Literal["pocketsphinx", "whisper", "sherpa", "vosk"]


def choose_engine(
    name: EngineName, *, model: str = "", grammar: str | Path = "", workers: int = 0
) -> Engine:
    """Load an engine; blocks, for seconds with a large model. Its library is imported here.

    Args:
        name: As in ``speech.engine``.
        model: As in ``speech.model``; pocketsphinx has one built in.
        grammar: As in ``speech.grammar``; of no meaning to the other engines.
        workers: As in ``speech.workers``.

    Raises:
        EngineUnavailable: Its package is not installed, or its model cannot be read.
        ConfigError: The model or the grammar is not set, or is none.
    """
    match name:
        case "pocketsphinx":
            from steno.adapters.speech.engines.pocketsphinx import PocketSphinxEngine

            return PocketSphinxEngine(grammar, model)
        case "whisper":
            from steno.adapters.speech.engines.whisper import WhisperEngine

            return WhisperEngine(model, workers=worker_count(workers))
        case "sherpa":
            from steno.adapters.speech.engines.sherpa import SherpaEngine

            return SherpaEngine(model)
        case "vosk":
            from steno.adapters.speech.engines.vosk import VoskEngine

            return VoskEngine(model)
        case _:
            assert_never(name)


def worker_count(workers: int) -> int:
    """Return how many streams are recognised side by side; 0 means the processors we may use."""
    return workers or len(os.sched_getaffinity(0))
