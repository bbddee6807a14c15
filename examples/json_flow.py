"""The whole way of the JSON form, on this machine, with nothing but this checkout.

A caller sends two participants' audio in envelopes of 20 ms to ``/media-api``; the gateway passes
it on over gRPC to the speech service in ``speech_service/`` and gets text back; redacted sentences
come out as records. What was said is known, so the end is compared with the beginning.

    python examples/json_flow.py        # exit code 1 if anything is missing
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys

from json_caller import play
from media_stack import MASK, Stack, running, sentences, show, verdict
from tones import mu_law, spoken
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

SAID = {
    "customer": "hello, i have a question about my order. my number is 415-555-0142.",
    "agent": "thank you. one moment please, i am looking for it.",
}
EXPECTED = {**SAID, "customer": SAID["customer"].replace("415-555-0142", MASK)}
SPEED = 4.0  # times real time


async def is_refused(stack: Stack) -> bool:
    """Tell whether a wrong token is answered 401."""
    try:
        async with connect(
            f"ws://{stack.address}/media-api", additional_headers={"Authorization": "Bearer wrong"}
        ):
            return False
    except InvalidStatus as error:
        return error.response.status_code == 401


def main() -> int:
    """Run it all; 0 when everything has arrived."""
    token = secrets.token_urlsafe(24)
    conversation = f"example-{secrets.token_hex(4)}"
    with running({"STENO_MEDIA_BEARER_TOKENS": token}) as stack:
        refused = asyncio.run(is_refused(stack))
        audio = {name: mu_law(spoken(text)) for name, text in SAID.items()}
        address = f"ws://{stack.address}/media-api"
        asyncio.run(play(address, token, conversation, audio, speed=SPEED))
        found = sentences(stack, EXPECTED.values())
        for line in stack.records.read_text().splitlines() if stack.records.exists() else ():
            show(json.loads(line))
    return verdict(
        a_wrong_token_is_refused=refused,
        every_word_arrived=found == EXPECTED,
        the_number_is_redacted="415-555" not in json.dumps(found) and MASK in json.dumps(found),
    )


if __name__ == "__main__":
    sys.exit(main())
