"""Building ``media``: the audio server, the recogniser and what calls go through between."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from steno.adapters.audio_server import AudioServer, ServerSettings
from steno.adapters.bearer import make_verifier, origin_allowed
from steno.adapters.speech.identifiers.choosing import choose_identifiers
from steno.adapters.speech.voice import SileroModel, make_voice_activity
from steno.app.capability import Capability, Shared, make_pipeline, make_spine
from steno.app.platform import hosts_of, utc_us
from steno.app.redactor import make_redactor
from steno.app.speech import open_recogniser
from steno.config import Config
from steno.errors import UnsupportedAudio
from steno.media.identification import IdentifierDesk
from steno.media.language import LanguageSettings, primary
from steno.media.service import CallRecording, MediaService, MediaSettings, Tools
from steno.ports import Telemetry
from steno.ports.audio_server import UpgradeRouter
from steno.ports.speech import VoiceActivity
from steno.redaction.redactor import Redactor
from steno.redaction.tokens import normalise
from steno.wire.audiohook import Keyring, Rules

SOURCE = "media"


async def open_media(shared: Shared, stack: AsyncExitStack) -> Capability:
    """Build the capability; ``stack`` closes what it opens.

    Raises:
        ConfigError: It can never work as it is set up.
        SpeechError: An engine or model that the settings name cannot be used.
    """
    config, telemetry = shared.config, shared.telemetry
    host_group = hosts_of(config).api.authority
    pipeline = make_pipeline(config, host_group, source=SOURCE, follows_language=False)
    spine = make_spine(shared, pipeline, journal=SOURCE)
    listening = await open_recogniser(config, telemetry)
    identifiers = choose_identifiers(
        config.media.identifier,
        model=config.media.identifier_model,
        languages=[primary(tag) for tag in config.media.languages],
        telemetry=telemetry,
    )
    tools = Tools(
        serve=lambda router: _server(config, router, telemetry),
        telemetry=telemetry,
        clock=time.monotonic,
        utc_us=utc_us,
        may_show=_partial_rule(make_redactor(config)),
        make_voice=_voice_factory(config),
        committed=spine.committed,
        desk=IdentifierDesk(identifiers.listener, identifiers.reader, telemetry, time.monotonic),
        recogniser=listening.recogniser,
        flush=listening.flush,
        replay_share=listening.replay_share,
        keyring=_keyring(config),
        tokens=await make_verifier(config.media, stack, telemetry),
        origin_allowed=origin_allowed(config.media.origins) if config.media.origins else None,
        start_recording=_recorder(shared, stack),
        on_listening=shared.run.on_listening,
    )
    service = MediaService(
        media_settings(config, host_group, had_earlier=not shared.store.report.created), tools
    )
    shared.store.on_committed(service.on_committed)
    return Capability(
        "media",
        spine,
        (service,),
        listening.trouble,
        counts=service.counts,
    )


def media_settings(config: Config, host_group: str, *, had_earlier: bool) -> MediaSettings:
    """Return the service's settings.

    Args:
        had_earlier: A process before this one may have taken calls.
    """
    media = config.media
    return MediaSettings(
        host_group=host_group,
        audiohook_path=media.audiohook_path,
        json_path=media.json_path,
        max_calls=media.max_calls,
        idle_s=media.idle_s,
        ping_interval_s=media.ping_interval_s,
        reconnect_s=media.reconnect_s,
        coalesce_ms=media.coalesce_ms,
        coalesce_max_ms=media.coalesce_max_ms,
        shutdown_s=media.shutdown_s,
        entities=media.entities,
        partials=media.partials,
        signature=Rules(
            age_s=media.signature_age_s,
            skew_s=media.signature_skew_s,
            authority=media.public_authority,
            path=media.audiohook_public_path,
            # A replay must not pass because a restart has emptied the memory of nonces. What the
            # process before this one took, it took earlier than now: no skew is allowed for.
            created_from=int(utc_us() / 1e6) if had_earlier else 0,
        ),
        organisations=frozenset(one.lower() for one in media.organisations),
        language=LanguageSettings(
            languages=media.languages,
            confidence=media.identifier_confidence,
            fixed=media.identifier == "none",
        ),
    )


def _server(config: Config, router: UpgradeRouter, telemetry: Telemetry) -> AudioServer:
    media = config.media
    return AudioServer(
        ServerSettings(
            listen=media.listen,
            tls_cert=media.tls_cert,
            tls_key=media.tls_key,
            behind_proxy=media.behind_proxy,
            paths=(media.audiohook_path, media.json_path),
            max_connections=media.max_calls + 100,
            max_per_peer=media.max_calls_per_peer,
        ),
        router,
        telemetry,
    )


def _keyring(config: Config) -> Keyring | None:
    keyring = Keyring.parse(config.media.audiohook_keys)
    return keyring if len(keyring) else None


def _partial_rule(redactor: Redactor) -> Callable[[str, str], bool]:
    """Show a partial only when nothing in it could be a secret, or the beginning of one."""

    def may_show(text: str, language: str) -> bool:
        return not redactor.is_notable(normalise(text), language=language)

    return may_show


def _voice_factory(config: Config) -> Callable[[int], VoiceActivity | None]:
    kind = config.media.voice_activity
    model = None
    if kind == "silero":
        model = SileroModel.load(config.media.silero_model)

    def make(rate_hz: int) -> VoiceActivity | None:
        try:
            return make_voice_activity(kind, rate_hz, model)
        except UnsupportedAudio:
            return None

    return make


def _recorder(shared: Shared, stack: AsyncExitStack) -> Callable[..., CallRecording | None] | None:
    folder = shared.config.media.recordings
    if folder is None:
        return None
    from steno.adapters.call_recorder import CallRecorder

    recorder = CallRecorder(folder, shared.telemetry)
    shared.state.note_recordings(folder)
    stack.push_async_callback(recorder.close)
    return recorder.start
