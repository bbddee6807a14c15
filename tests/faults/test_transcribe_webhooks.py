"""Webhooks of a whole batch: verified by a foreign library, and led astray by nobody."""

from __future__ import annotations

import ipaddress
import json
import socket
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from faults.transcribe_oracle import entries_of
from faults.transcribe_rig import HOOK_SECRET, Rig, hook_settings, rig, write_input
from steno.adapters.state_dir import StateDir
from steno_sim.webhooks.receiver import WebhookReceiver

QUICK = {"queued_s": (0, 0), "processing_s": (0, 0)}


def statuses(one: Rig) -> set[str]:
    """Give what the audit log says of webhooks."""
    path = StateDir(one.product.state).audit_log
    return {entry["webhook_status"] for entry in entries_of(path)}


@pytest.mark.timeout(300)
async def test_every_delivery_verifies_and_every_job_arrives_once(tmp_path: Path) -> None:
    """By the public library; those that are reset come again, with the same id."""
    async with rig(tmp_path, 40, trouble=QUICK, hooks=True, hook_script="reset,200",
                   hook_share=0.1) as one:  # fmt: skip
        assert await one.done() == 0
        (await one.verdict()).kept()
        assert one.receiver is not None
        stats = one.receiver.stats()
    assert (stats["messages"], stats["accepted"], stats["repeated"]) == (40, 40, 0)
    assert one.receiver.count > 40
    public = Webhook(HOOK_SECRET)
    for line in (tmp_path / "deliveries.jsonl").read_bytes().splitlines():
        told = json.loads(line)
        headers = dict(told["headers"])
        body = public.verify(told["body"], headers)
        assert list(body) == ["transcript_id", "status", "metrics", "speakers", "processed_at"]
        assert headers["x-transcript-id"] == body["transcript_id"]


@pytest.mark.timeout(300)
async def test_a_receiver_that_sends_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """Whoever is named gets nothing; the audit log says why, and the jobs are done."""
    async with WebhookReceiver() as inside:
        script = f"redirect307:{inside.url}"
        async with rig(tmp_path, 3, trouble=QUICK, hooks=True, hook_script=script) as one:
            assert await one.done() == 0
            assert statuses(one) == {"failed: RedirectRefused"}
        assert (inside.connections, inside.count) == (0, 0)


@pytest.mark.timeout(300)
async def test_a_name_that_leads_inside_gets_no_connection(tmp_path: Path) -> None:
    """A name of this machine, looked up as any other: known only when it is called."""
    name = socket.gethostname()
    try:
        found = {str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(name, 80)}
    except OSError:
        pytest.skip("this machine's name does not resolve")
    if any(ipaddress.ip_address(address).is_global for address in found):
        pytest.skip("this machine's name is public")
    async with WebhookReceiver(listen="0.0.0.0") as inside:
        hook = f"http://{name}:{inside.port}/hook"
        async with rig(tmp_path, 3, trouble=QUICK) as one:
            write_input(tmp_path / "input.csv", one.asked, hook)
            one.product.env |= hook_settings(hook) | {"STENO_TRANSCRIBE_WEBHOOK_ALLOW": ""}
            assert await one.done() == 0
            assert statuses(one) == {"failed: AddressForbidden"}
            assert name not in one.product.said()
        assert inside.connections == 0
