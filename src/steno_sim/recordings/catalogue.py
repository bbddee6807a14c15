"""The recordings there are: whose conversation, which voice, in what codec, in how many files.

All of it follows from the seed and the id. Every fifth recording belongs to the conversation of
the one before, which so has two. Which file or channel of a recording is the customer's is not
told by the platform, and differs; ``channels`` tells a test.
"""

from __future__ import annotations

from typing import Any

import msgspec

from steno_sim.calls.voices import channels as voice_channels
from steno_sim.calls.voices import spoken_calls
from steno_sim.pieces import stable_id
from steno_sim.recordings.settings import Encoding, JobSettings, Layout, MediaSettings
from steno_sim.recordings.talk import draw, recording_id, start_ms
from steno_sim.wire import milli_stamp

MAX_ADOPTED = 100_000


class File(msgspec.Struct, frozen=True):
    """One file of a recording: the channels of the voice in it, in order (none: all mixed)."""

    name: str
    channels: tuple[int, ...]


class Recording(msgspec.Struct, frozen=True):
    """One recording, and the voice that can be heard in it."""

    id: str
    conversation: str
    voice: str
    encoding: Encoding
    layout: Layout
    swapped: bool
    start_ms: int
    duration_ms: int
    archived: bool
    failing: bool

    def files(self) -> list[File]:
        """Give its files, in the order of ``mediaUris``."""
        order = (1, 0) if self.swapped else (0, 1)
        if self.layout == "dual":
            return [File(f"{self.id}-{n}", (channel,)) for n, channel in enumerate(order)]
        return [File(f"{self.id}-0", () if self.layout == "mono" else order)]

    def truth(self) -> dict[str, Any]:
        """Tell what the platform does not: whose sound is where."""
        names = voice_channels()
        told: dict[str, Any] = msgspec.to_builtins(self)
        told["files"] = [[names[n] for n in file.channels] or ["mixed"] for file in self.files()]
        return told

    def facts(self) -> dict[str, Any]:
        """Give the platform's description, without media."""
        return {
            "id": self.id,
            "conversationId": self.conversation,
            "startTime": milli_stamp(self.start_ms * 1000),
            "endTime": milli_stamp((self.start_ms + self.duration_ms) * 1000),
            "media": "audio",
            "mediaSubtype": "Trunk",
            "annotations": [],
            "fileState": "ARCHIVED" if self.archived else "AVAILABLE",
            "outputDurationMs": self.duration_ms,
            "sessionId": stable_id("session", self.id),
            "users": [],
            "recordingFileRole": "CUSTOMER_EXPERIENCE",
            "selfUri": f"/api/v2/conversations/{self.conversation}/recordings/{self.id}",
        }


class Catalogue:
    """Finds recordings by their id or their conversation."""

    def __init__(self, jobs: JobSettings, media: MediaSettings) -> None:
        self.count = jobs.recordings
        self._seed = jobs.seed
        self._media = media
        self._by_conversation: dict[str, list[str]] = {}
        self._conversation_of: dict[str, str] = {}
        self._listed = False
        self._adopted = 0

    def recordings(self) -> list[Recording]:
        """Give the recordings that there are from the beginning."""
        return [self._made(recording_id(self._seed, n)) for n in range(self.count)]

    def find(self, recording: str) -> Recording | None:
        """Give a recording that the platform knows, or None."""
        self._index()
        return self._made(recording) if recording in self._conversation_of else None

    def any_recording(self, recording: str) -> Recording:
        """Give a recording whether the platform knows it or not."""
        self._index()
        return self._made(recording)

    def of_conversation(self, conversation: str) -> list[Recording]:
        """Give the recordings of a conversation; none of one that is unknown."""
        self._index()
        return [self._made(r) for r in self._by_conversation.get(conversation, [])]

    def adopt(self, conversation: str) -> None:
        """Let a conversation have a recording, at most ``MAX_ADOPTED`` such."""
        self._index()
        if conversation not in self._by_conversation and self._adopted < MAX_ADOPTED:
            self._adopted += 1
            self._add(stable_id("recording", conversation), conversation)

    def _index(self) -> None:
        """List the recordings at the first question, so that an idle simulator starts at once."""
        if self._listed:
            return
        self._listed = True
        for number in range(self.count):
            home = number - (number % 5 == 4)
            self._add(recording_id(self._seed, number), stable_id("conversation", self._seed, home))

    def _add(self, recording: str, conversation: str) -> None:
        self._conversation_of[recording] = conversation
        self._by_conversation.setdefault(conversation, []).append(recording)

    def _made(self, recording: str) -> Recording:
        self._index()
        media, dice = self._media, draw(self._seed, recording, "media")
        call = dice.choice(spoken_calls())
        return Recording(
            recording,
            self._conversation_of.get(recording) or stable_id("conversation", recording),
            call.name,
            dice.choice(media.encodings),
            dice.choice(media.layouts),
            dice.random() < 0.5,
            start_ms(self._seed, recording),
            call.duration_ms * media.repeats,
            dice.random() < media.archived,
            dice.random() < media.item_errors,
        )
