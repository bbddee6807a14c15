"""The checks of ``steno doctor``: each looks at one thing and says what it found and how to mend
it.
"""

from steno.adapters.doctor.audiohook import AudioHookTarget, check_audiohook
from steno.adapters.doctor.captured import read_captured
from steno.adapters.doctor.consumers import GrpcPeer, check_address, check_grpc
from steno.adapters.doctor.findings import Area, Finding, Verdict, exit_code_of
from steno.adapters.doctor.machine import check_sqlite, check_state_dir
from steno.adapters.doctor.media import (
    check_audiohook_keys,
    check_bearer,
    check_certificate,
    check_engine,
    check_listen,
    check_recordings,
    check_speech,
)
from steno.adapters.doctor.platform import (
    ChannelCalls,
    Tokens,
    check_clock,
    check_event_socket,
    check_live_permissions,
    check_reach,
    check_settings,
    check_stream_upgrade,
    check_token,
)

__all__ = [
    "Area",
    "AudioHookTarget",
    "ChannelCalls",
    "Finding",
    "GrpcPeer",
    "Tokens",
    "Verdict",
    "check_address",
    "check_audiohook",
    "check_audiohook_keys",
    "check_bearer",
    "check_certificate",
    "check_clock",
    "check_engine",
    "check_event_socket",
    "check_grpc",
    "check_listen",
    "check_live_permissions",
    "check_reach",
    "check_recordings",
    "check_settings",
    "check_speech",
    "check_sqlite",
    "check_state_dir",
    "check_stream_upgrade",
    "check_token",
    "exit_code_of",
    "read_captured",
]
