"""Building the destination ``job-webhooks``: the webhooks that requests of transcriptions name.

It is not in the settings' list of destinations: each job says where its webhook is. What a short
command leaves waits in the outbox for the next ``steno transcribe`` or ``steno outbox deliver``.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from steno import __version__
from steno.adapters.audit_log import AuditLog, AuditPlaces
from steno.adapters.durable_files import sync_folder, write_all
from steno.adapters.job_store import SqliteJobStore
from steno.adapters.sinks.job_webhook import JobWebhookSettings, JobWebhookSink
from steno.adapters.sinks.receivers import ReceiverRules
from steno.adapters.state_dir import StateDir
from steno.app.audit_entries import EntriesOf, actor
from steno.app.gateway import Delivery, Extra
from steno.app.platform import utc_us
from steno.config import Config
from steno.core.secret import Secret
from steno.delivery.relay import RelaySettings
from steno.errors import ConfigError, StorageError
from steno.ports import Telemetry
from steno.ports.jobs import JobStore
from steno.recordings.ending import Identity
from steno.recordings.ends import MAX_OWED, Ends
from steno.recordings.webhooks import DESTINATION, RELAY_SETTINGS, HeldBack, JobLanes
from steno.wire.webhooks import RETRY_SCHEDULE_S, SECRET_PREFIX, signing_keys

KEY_BYTES = 32
_LOOK_S = 0.5
_PAGE = 200
_US = 1_000_000


def receiver_rules(config: Config) -> ReceiverRules:
    """Return which receivers may be called.

    Raises:
        ConfigError: An entry of the allow-list is neither a network nor a name.
    """
    try:
        return ReceiverRules(config.transcribe.webhook_allow)
    except ConfigError as error:
        raise _of_setting(error, "transcribe.webhook_allow") from None


def webhook_secret(config: Config, state: StateDir) -> Secret:
    """Return what webhooks are signed with; made and kept, where the settings give nothing.

    Raises:
        ConfigError: It cannot be used.
        StorageError: It cannot be read or kept.
    """
    secret = config.transcribe.webhook_secret
    if not secret:
        try:
            secret = Secret(_kept(state), str(state.webhook_secret))
        except OSError as exc:
            raise StorageError(
                "the secret of the webhooks cannot be read or kept", cause=type(exc).__name__
            ) from exc
    try:
        signing_keys(secret)
    except ConfigError as error:
        raise _of_setting(error, "transcribe.webhook_secret") from None
    return secret


def _kept(state: StateDir) -> str:
    path = state.webhook_secret
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        text = path.read_text().strip()
        if text:
            return text
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # a kill came before its first byte
    text = SECRET_PREFIX + base64.b64encode(os.urandom(KEY_BYTES)).decode()
    try:
        write_all(fd, f"{text}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(path.parent)
    return text


def _of_setting(error: ConfigError, setting: str) -> ConfigError:
    return ConfigError(
        "what stands there cannot be used", setting=setting, fix=str(error.fields.get("fix", ""))
    )


def job_webhooks(
    config: Config,
    state: StateDir,
    store: JobStore,
    ends: Ends,
    telemetry: Telemetry,
    *,
    schedule_s: Sequence[float] = RETRY_SCHEDULE_S,
) -> Extra:
    """Build the destination; outcomes go to ``ends``, which also says when each may be sent.

    Raises:
        ConfigError: Its settings cannot be used.
        StorageError: The secret cannot be kept.
    """
    lanes = JobLanes(DESTINATION)

    async def address(job_id: str) -> str:
        job = await store.get(job_id)
        return "" if job is None else job.request.webhook

    sink = JobWebhookSink(
        JobWebhookSettings(
            secret=webhook_secret(config, state),
            rules=receiver_rules(config),
            schedule_s=tuple(schedule_s),
        ),
        addresses=address,
        attempts=lanes.attempts,
        load=lanes.load,
        tell=ends.desk.told,
        telemetry=telemetry,
        name=DESTINATION,
    )
    return Extra(HeldBack(sink, ends.turn, lanes.is_plain), _relay_settings(schedule_s), lanes)


def _relay_settings(schedule_s: Sequence[float]) -> RelaySettings:
    shortest_s = min((delay_s for delay_s in schedule_s if delay_s), default=1.0)
    usual = RELAY_SETTINGS.retry
    retry = msgspec.structs.replace(
        usual,
        first_s=min(usual.first_s, shortest_s),
        cap_s=min(usual.cap_s, max(shortest_s, *schedule_s)),
        max_attempts=len(schedule_s),
    )
    return msgspec.structs.replace(RELAY_SETTINGS, retry=retry)


async def waiting_webhooks(
    config: Config, state: StateDir, stack: AsyncExitStack, telemetry: Telemetry
) -> tuple[Extra, ...]:
    """Return the destination for a command that delivers and transcribes nothing.

    Webhooks of jobs whose end is not in the audit log yet are held back: ``steno transcribe``
    sends those. No list of jobs: no destination.

    Raises:
        ConfigError: Its settings cannot be used.
        StorageError: The list of jobs or the audit log cannot be opened.
    """
    if not state.jobs.exists():
        return ()
    store = await asyncio.to_thread(SqliteJobStore.open, state.jobs)
    stack.push_async_callback(store.close)
    places = AuditPlaces.of(state.root, config.transcribe.audit_log)
    audit = await stack.enter_async_context(AuditLog(places, telemetry=telemetry))
    # No end is settled here, so the host group, which names records, is not needed.
    ends = Ends(store, audit, EntriesOf(places.log), Identity("", actor(), __version__), telemetry)
    ends.hold(end.job.id for end in await store.unsettled(limit=MAX_OWED))
    return (job_webhooks(config, state, store, ends, telemetry),)


async def drain_webhooks(delivery: Delivery, limit_s: float) -> int:
    """Deliver for at most ``limit_s``, other destinations too; return how many webhooks wait.

    It ends sooner when every webhook that waits has its next attempt later than that.
    """
    loop = asyncio.get_running_loop()
    (relay,) = (each for each in delivery.relays if each.name == DESTINATION)
    end = loop.time() + limit_s
    while not await relay.drain(max(0.0, min(_LOOK_S, end - loop.time()))):
        left_s = end - loop.time()
        if left_s <= 0:
            break
        pending = await delivery.store.pending(DESTINATION, limit=_PAGE)
        if pending and all(each.next_at_us > utc_us() + left_s * _US for each in pending):
            break
    return relay.outstanding
