"""A consumer of one's own that sees each record exactly once.

Steno delivers at least once: after a lost answer or a restart a record comes again. A consumer
that remembers the pair (key, revision), in the same transaction in which it does its work, sees
each record once. This one keeps both in SQLite and serves the document's unary call:

    python examples/drop_repeats.py 127.0.0.1:50051 sentences.db
    steno live --grpc 127.0.0.1:50051 ...
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from typing import Any

import grpc

from steno._proto import transcript_v1_pb2 as pb

SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (key TEXT, revision INTEGER, PRIMARY KEY (key, revision));
CREATE TABLE IF NOT EXISTS sentence (conversation TEXT, participant TEXT, text TEXT, at_us INTEGER);
"""


class Sentences:
    """Stores a sentence and the fact that it was seen in one transaction."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + SCHEMA)

    def store(self, message: pb.TranscriptMessage, key: str, revision: int) -> bool:
        """Return False for a repeat. The answer goes out after the commit, never before."""
        with self._db:  # one transaction: both rows, or neither
            added = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, revision))
            if added.rowcount == 0:
                return False
            self._db.execute(
                "INSERT INTO sentence VALUES (?, ?, ?, ?)",
                (
                    message.conversation_id,
                    message.participant_id,
                    message.sanitized_text,
                    message.timestamp,
                ),
            )
        return True


async def main(listen: str, path: str) -> None:
    """Serve until interrupted."""
    sentences = Sentences(path)

    async def push(request: pb.TranscriptMessage, context: Any) -> pb.AckResponse:
        # "steno-key: <key>.<revision>.<seq>" rides beside the document's message.
        metadata = dict(context.invocation_metadata())
        key, revision, _ = metadata["steno-key"].split(".")
        is_new = sentences.store(request, key, int(revision))
        # A repeat is acknowledged too: it is stored, and that is all the sender wants to know.
        return pb.AckResponse(success=True, message="stored" if is_new else "repeat")

    handler = grpc.unary_unary_rpc_method_handler(
        push, pb.TranscriptMessage.FromString, pb.AckResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "transcript.v1.TranscriptStream", {"PushTranscript": handler}
            ),
        )
    )
    port = server.add_insecure_port(listen)
    sys.stdout.write(f"listening on port {port}\n")
    sys.stdout.flush()
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
