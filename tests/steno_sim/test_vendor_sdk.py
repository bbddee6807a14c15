"""The vendor's own Python SDK works against the simulator, unchanged.

The SDK is imported inside the test: it takes 2.5 s, and it warns about itself.
"""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

from conformance.sim_peers import peer, receive
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.recordings.settings import MediaSettings
from steno_sim.region import RegionSettings
from steno_sim.scenario import Call, Scenario, Turn
from steno_sim.server import Simulator
from steno_sim.wire import transcription_topic

# The SDK's code has invalid escapes and deprecated calls; they are not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore")
CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the SDK a home of its own.

    It watches the folder of its settings for as long as the process lives, and where that folder
    is missing the one above it, with everything below: another test's files among them.
    """
    folder = tmp_path_factory.getbasetemp() / "vendor-sdk-home"
    (folder / ".genesyscloudpython").mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("HOME", str(folder))


def sdk() -> Any:  # Any: the SDK has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import PureCloudPlatformClientV2  # type: ignore[import-untyped]  # it has no types

    return PureCloudPlatformClientV2


def signed_in(base: str) -> Any:  # Any: the SDK has no types
    """Log in as the SDK's documentation shows.

    The login host is the API host with ``api.`` made ``login.``; a host without ``api.`` is
    its own login host, which suits a simulator that is all hosts at once.
    """
    client = sdk().api_client.ApiClient(host=base)
    return client.get_client_credentials_token(DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET)


async def test_the_sdk_logs_in_makes_a_channel_and_subscribes() -> None:
    """Log in, make, subscribe, list, replace, remove, look: what the SDK's users do."""
    topic = transcription_topic(CALL)
    async with Simulator("quiet") as sim:

        def work() -> None:
            platform = sdk()
            api = platform.NotificationsApi(signed_in(sim.url))
            channel = api.post_notifications_channels()
            assert channel.connect_uri == f"{sim.ws_url}/channels/{channel.id}"
            body = platform.ChannelTopic()
            body.id = topic
            made = api.post_notifications_channel_subscriptions(channel.id, [body])
            assert [(t.id, t.state) for t in made.entities] == [(topic, "Permitted")]
            listed = api.get_notifications_channel_subscriptions(channel.id)
            assert [t.id for t in listed.entities] == [topic]
            api.put_notifications_channel_subscriptions(channel.id, [])
            api.delete_notifications_channel_subscriptions(channel.id)
            assert api.get_notifications_channel_subscriptions(channel.id).entities == []
            channels = api.get_notifications_channels(includechannels="oauthclient")
            assert [c.id for c in channels.entities] == [channel.id]
            topics = api.get_notifications_availabletopics(expand=["requiresPermissions"])
            assert any(t.id == "v2.conversations.{id}.transcription" for t in topics.entities)

        await asyncio.to_thread(work)
        stats = sim.stats()["regions"]["primary"]
    assert stats["channels_created"] == stats["tokens_issued"] == 1


async def test_the_sdk_reads_our_errors_and_settings() -> None:
    """A refusal becomes the SDK's exception with our status, code and message."""
    async with Simulator("quiet") as sim:

        def work() -> None:
            platform = sdk()
            client = signed_in(sim.url)
            api = platform.NotificationsApi(client)
            bad = platform.ChannelTopic()
            bad.id = "v2.bad"
            channel = api.post_notifications_channels()
            with pytest.raises(platform.rest.ApiException) as caught:
                api.post_notifications_channel_subscriptions(channel.id, [bad])
            assert caught.value.status == 400
            assert "notification.invalid.topic" in caught.value.body
            settings = platform.RoutingApi(client).get_routing_settings_transcription()
            assert settings.transcription == "EnabledGlobally"
            assert platform.OrganizationApi(client).get_organizations_me().id

        await asyncio.to_thread(work)


async def test_the_sdk_knows_every_field_of_our_events() -> None:
    """The event body fits the SDK's model of the transcription topic, field by field."""
    turns = [Turn(who="customer", say="I need two tickets.")]
    scenario = Scenario(conversations=[Call(id=CALL, turns=turns)])
    settings = RegionSettings()
    async with (
        Simulator(scenario, speed=0, wait_for_sockets=1, settings=settings) as sim,
        peer(sim) as client,
    ):
        channel = await client.channel(transcription_topic(CALL))
        async with client.listen(channel) as ws:
            await sim.finished()
            bodies = [e["eventBody"] for e in await receive(ws, 3)]

    def work() -> None:
        models = sdk()
        spoken = next(b for b in bodies if b.get("transcripts"))
        check(models.TranscriptionTopicTranscriptionMessage(), spoken)
        said = spoken["transcripts"][0]
        check(models.TranscriptionTopicTranscriptResult(), said)
        best = said["alternatives"][0]
        check(models.TranscriptionTopicTranscriptAlternative(), best)
        check(models.TranscriptionTopicTranscriptWord(), best["words"][0])
        check(models.TranscriptionTopicTranscriptionRequestStatus(), spoken["status"])

    def check(model: Any, body: dict[str, Any]) -> None:
        assert set(body) <= set(model.attribute_map.values())

    await asyncio.to_thread(work)


async def test_the_sdk_reads_a_conversation_and_its_participants() -> None:
    """Menu, queue and two agents, each with the calls and times that the SDK's models have."""
    turns = [
        Turn(who="ivr", say="Please hold."),
        Turn(who="agent", say="Hello, this is Anna."),
        Turn(who="agent", say="Hello, this is Ben.", agent="ben", leg=2),
    ]
    scenario = Scenario(conversations=[Call(id=CALL, agent="anna", turns=turns)])
    async with Simulator(scenario, speed=200) as sim:
        await sim.finished()
        raw = sim.world.conversation(CALL) or {}

        def work() -> tuple[Any, list[str]]:
            platform = sdk()
            found = platform.ConversationsApi(signed_in(sim.url)).get_conversation(CALL)
            known = set(platform.Participant().attribute_map.values())
            assert set(raw["participants"][0]) <= known
            assert set(raw) <= set(platform.Conversation().attribute_map.values())
            for person in raw["participants"]:
                for call in person["calls"]:
                    assert set(call) <= set(platform.Call().attribute_map.values())
            return found, [p.purpose for p in found.participants]

        found, purposes = await asyncio.to_thread(work)
        plan = sim.world.script.plans[0]
    assert found.id == CALL
    assert purposes == ["customer", "ivr", "acd", "agent", "agent"]
    customer, *_, anna, ben = found.participants
    assert [c.id for c in customer.calls] == plan.communications
    assert [c.direction for c in customer.calls] == ["inbound", "inbound"]
    assert [p.user_id for p in (anna, ben)] == plan.agents
    assert [p.name for p in (anna, ben)] == ["Anna", "Ben"]
    assert anna.start_time < anna.end_time <= ben.start_time < ben.end_time == found.end_time
    assert anna.calls[0].disconnected_time == anna.end_time
    assert {c.state for p in found.participants for c in p.calls} == {"disconnected"}
    assert found.start_time == customer.start_time == customer.calls[0].connected_time


async def test_the_sdk_downloads_recordings_by_batch_and_by_conversation() -> None:
    """Submit, look, list and get: every field fits the SDK's models, and so does a 202."""
    media = MediaSettings(item_s=(0, 0), layouts=("dual",), transcode_s=0.2)
    async with Simulator("quiet", media=media) as sim:
        one = sim.catalogue.recordings()[0]

        def work() -> tuple[Any, list[Any], Any]:
            platform = sdk()
            api = platform.RecordingApi(signed_in(sim.url))
            body = platform.BatchDownloadJobSubmission()
            item = platform.BatchDownloadRequest()
            item.conversation_id = one.conversation
            body.batch_download_request_list = [item]
            made = api.post_recording_batchrequests(body)
            told = api.get_recording_batchrequest(made.id)
            options = {"format_id": "WAV", "max_wait_ms": 0}
            later = api.get_conversation_recording(one.conversation, one.id, format_id="WAV")
            assert later.estimated_transcode_time_ms == 200
            early = api.get_conversation_recordings(one.conversation, **options)
            assert [r.estimated_transcode_time_ms for r in early] == [200]
            assert early[0].media_uris is None
            options["max_wait_ms"] = 5000
            listed = api.get_conversation_recordings(one.conversation, **options)
            single = api.get_conversation_recording(one.conversation, one.id, format_id="WAV")
            known = set(platform.Recording().attribute_map.values())
            assert set(one.facts()) | {"mediaUris"} <= known
            return told, listed, single

        told, listed, single = await asyncio.to_thread(work)
    assert (told.job_id, told.status, told.expected_result_count) == (told.job_id, "Completed", 2)
    assert [r.recording_id for r in told.results] == [one.id, one.id]
    assert told.results[0].content_type == "audio/wav"
    assert told.results[0].result_url.startswith(sim.url)
    assert [r.id for r in listed] == [one.id] == [single.id]
    assert set(single.media_uris) == {"0", "1"}
    assert single.media_uris["1"].media_uri.startswith(sim.url)


async def test_the_sdk_reads_why_a_download_failed() -> None:
    """An unknown conversation is a result with a message, as the SDK tells it."""
    async with Simulator("quiet", media=MediaSettings(item_s=(0, 0))) as sim:

        def work() -> Any:
            platform = sdk()
            api = platform.RecordingApi(signed_in(sim.url))
            body = platform.BatchDownloadJobSubmission()
            item = platform.BatchDownloadRequest()
            item.conversation_id = CALL
            body.batch_download_request_list = [item]
            return api.get_recording_batchrequest(api.post_recording_batchrequests(body).id)

        told = await asyncio.to_thread(work)
    assert (told.error_count, told.results[0].result_url) == (1, None)
    assert told.results[0].error_msg
