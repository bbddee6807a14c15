"""The vendor's own Python SDK finds conversations and transcripts in the simulator, unchanged.

The SDK is imported inside the test: it takes 2.5 s, and it warns about itself.
"""

from __future__ import annotations

import asyncio
import urllib.request
import warnings
from typing import Any

import msgspec
import pytest

from steno_sim.archive.settings import ArchiveSettings
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.server import Simulator

# The SDK's code has invalid escapes and deprecated calls; they are not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore")
INTERVAL = "2026-01-05T00:00:00Z/2026-02-01T00:00:00Z"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the SDK a home of its own, which it watches for as long as the process lives."""
    folder = tmp_path_factory.getbasetemp() / "vendor-sdk-home"
    (folder / ".genesyscloudpython").mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("HOME", str(folder))


def sdk() -> Any:  # Any: the SDK has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import PureCloudPlatformClientV2  # type: ignore[import-untyped]  # it has no types

    return PureCloudPlatformClientV2


def signed_in(base: str) -> Any:  # Any: the SDK has no types
    client = sdk().api_client.ApiClient(host=base)
    return client.get_client_credentials_token(DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET)


def known(model: Any, body: dict[str, Any]) -> None:
    """Check that a model has every field of a body."""
    assert set(body) <= set(model.attribute_map.values())


async def test_the_sdk_gets_from_a_conversation_to_its_transcript() -> None:
    """Conversation, communication, both calls for links, and analytics; 404 is an exception."""
    settings = ArchiveSettings(conversations=2, parts=(2, 2))
    async with Simulator("quiet", archive=settings) as sim:
        one = sim.archive.library.ids()[0]

        def work() -> tuple[Any, Any, Any, bytes]:
            platform = sdk()
            client = signed_in(sim.url)
            told = platform.ConversationsApi(client).get_conversation(one)
            call = next(p for p in told.participants if p.purpose == "customer").calls[0].id
            api = platform.SpeechTextAnalyticsApi(client)
            url = api.get_speechandtextanalytics_conversation_communication_transcripturl(one, call)
            urls = api.get_speechandtextanalytics_conversation_communication_transcripturls(
                one, call
            )
            metrics = api.get_speechandtextanalytics_conversation(one)
            with pytest.raises(platform.rest.ApiException) as caught:
                api.get_speechandtextanalytics_conversation_communication_transcripturl(one, one)
            assert caught.value.status == 404
            assert "not.found" in caught.value.body
            with urllib.request.urlopen(url.url) as answer:
                return told, urls, metrics, answer.read()

        told, urls, metrics, raw = await asyncio.to_thread(work)
        communications = sim.archive.library.find(one).communications  # type: ignore[union-attr]  # it is there
    assert told.end_time > told.start_time
    assert urls.communication_id == communications[0]
    assert urls.conversation.id == metrics.conversation.id == one
    assert len({each.recording.id for each in urls.urls}) == 2
    assert metrics.sentiment_trend_class == "NoChange"
    assert msgspec.json.decode(raw)["conversationId"] == one


async def test_the_sdk_finds_conversations_by_job_and_query() -> None:
    """Submit, look, two pages, query, availability, cancel: every field fits the models."""
    async with Simulator("quiet", archive=ArchiveSettings(conversations=8)) as sim:
        library = sim.archive.library
        raw = await asyncio.to_thread(_raw_details, sim)

        def work() -> tuple[Any, list[str], Any]:
            platform = sdk()
            api = platform.AnalyticsApi(signed_in(sim.url))
            predicate = platform.SegmentDetailQueryPredicate()
            predicate.type, predicate.dimension, predicate.value = "dimension", "mediaType", "voice"
            only_calls = platform.SegmentDetailQueryFilter()
            only_calls.type, only_calls.predicates = "and", [predicate]
            body = platform.AsyncConversationQuery()
            body.interval, body.segment_filters = INTERVAL, [only_calls]
            made = api.post_analytics_conversations_details_jobs(body)
            state = api.get_analytics_conversations_details_job(made.job_id)
            first = api.get_analytics_conversations_details_job_results(made.job_id, page_size=5)
            rest = api.get_analytics_conversations_details_job_results(
                made.job_id, cursor=first.cursor
            )
            assert first.data_availability_date
            assert rest.cursor is None
            found = [c.conversation_id for c in [*first.conversations, *rest.conversations]]
            query = platform.ConversationQuery()
            query.interval = INTERVAL
            told = api.post_analytics_conversations_details_query(query)
            assert api.get_analytics_conversations_details_jobs_availability()
            api.delete_analytics_conversations_details_job(made.job_id)
            known(platform.AnalyticsConversation(), raw)
            person = raw["participants"][0]
            known(platform.AnalyticsParticipant(), person)
            known(platform.AnalyticsSession(), person["sessions"][0])
            known(platform.AnalyticsConversationSegment(), person["sessions"][0]["segments"][0])
            return state, found, told

        state, found, told = await asyncio.to_thread(work)
        expected = library.ids()[:8]
    assert state.state == "FULFILLED"
    assert found == [one for one in expected if one in found]
    assert len(found) >= 7
    assert told.total_hits == len(found)
    session = told.conversations[0].participants[0].sessions[0]
    assert session.session_id == library.find(found[0]).communications[0]  # type: ignore[union-attr]  # it is there


def _raw_details(sim: Simulator) -> dict[str, Any]:
    """Give the first conversation as it is on the wire."""
    from steno_sim.archive.finding import _details

    one = sim.archive.library.ids()[0]
    entity = sim.archive.library.entity(one)
    assert entity is not None
    return _details(one, entity)
