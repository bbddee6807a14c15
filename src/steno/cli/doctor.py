"""``steno doctor``: test what the enabled capabilities need, one thing after the other.

Its subcommands look closer at one thing: ``signature`` at a captured AudioHook upgrade,
``audiohook`` at a running server, from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from steno.cli.common import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    Output,
    StateDirOption,
    load_settings,
    make_telemetry,
    run_async,
)
from steno.cli.doctor_audiohook import audiohook
from steno.cli.doctor_signature import signature

if TYPE_CHECKING:
    import asyncio
    import ssl

    from steno.adapters.doctor import Finding
    from steno.adapters.platform_http import HttpClient
    from steno.adapters.tokens import TokenManager
    from steno.config import Config
    from steno.core.hosts import Host, PlatformHosts
    from steno.errors import ConfigError
    from steno.observability import LogTelemetry

    Tell = Callable[[Finding], None]

app = typer.Typer(
    invoke_without_command=True,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("signature")(signature)
app.command("audiohook")(audiohook)

PATIENCE_S = 5.0
"""Time for all tries of one credential: someone is waiting in front of the screen."""


@app.callback()
def doctor(
    context: typer.Context,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also open the transcript stream, as `steno live` would."),
    ] = False,
    host: Annotated[
        str | None, typer.Option(help="Platform host, in place of the setting.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Test settings, machine, reachability, clock, credentials, permissions and consumers.

    With the media capability enabled or set up: also its port, certificate, keys and speech
    service. With archive.url set: whether the archive takes something, gives it back and deletes
    it. Each line is ok, warn or FAIL, with what to do about it. Exit codes: 0 nothing failed
    (warnings allowed), 1 this machine, the archive or a consumer failed, 2 configuration, 3
    credentials or permissions, 4 platform unreachable. A real token is fetched, past the cache; on
    the real platform a notification channel is made.

    Example: steno doctor --config steno.toml --deep
    """
    if context.invoked_subcommand is not None:
        return
    from steno.adapters.doctor import exit_code_of
    from steno.errors import ConfigError

    out = Output(json=json)
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        _show(out, finding)

    try:
        settings = load_settings(
            config,
            state_dir=state_dir,
            log_level=log_level,
            overrides={"platform.host": host},
        )
    except ConfigError as error:
        _configuration(error, tell)
    else:
        telemetry = make_telemetry(settings) if log_level else _silent()
        run_async(lambda stop: _examine(settings, tell, telemetry, stop, deep=deep))
    code = exit_code_of(findings)
    if json:
        out.result({"ok": code == 0, "exit_code": code, "checks": findings})
    raise typer.Exit(code)


def _silent() -> LogTelemetry:
    """Return telemetry that writes nothing: the report says it all, unless logs are asked for."""
    from io import StringIO

    from steno.observability import LogTelemetry

    return LogTelemetry(level="error", stream=StringIO())


def _show(out: Output, finding: Finding) -> None:
    from steno.adapters.doctor import Verdict

    mark = {Verdict.OK: "ok  ", Verdict.WARN: "warn", Verdict.FAIL: "FAIL"}[finding.verdict]
    out.line(f"{mark}  {finding.check}: {finding.what}")
    if finding.fix:
        out.line(f"      → {finding.fix}")


def _configuration(error: ConfigError, tell: Tell) -> None:
    from steno.adapters.doctor import Area, Finding, Verdict
    from steno.errors import ConfigProblems

    for one in error.problems if isinstance(error, ConfigProblems) else (error,):
        origin = f", from {one.origin}" if one.origin else ""
        what = f"{one.summary} ({one.setting}{origin})"
        tell(Finding("settings", Verdict.FAIL, what, one.fix, Area.CONFIG))


async def _examine(
    config: Config, tell: Tell, telemetry: LogTelemetry, stop: asyncio.Event, *, deep: bool
) -> None:
    """Run the checks; a signal ends them at once, with 130."""
    import asyncio

    async with asyncio.TaskGroup() as group:
        work = group.create_task(_Examination(config, tell, telemetry).run(deep=deep))

        async def cancel_on_stop() -> None:
            await stop.wait()
            work.cancel()

        watch = group.create_task(cancel_on_stop())
        work.add_done_callback(lambda _: watch.cancel())
    if stop.is_set():
        raise typer.Exit(130)


class _Examination:
    """The checks in their order; what later ones need of earlier ones is kept here."""

    def __init__(self, config: Config, tell: Tell, telemetry: LogTelemetry) -> None:
        self._config = config
        self._tell = tell
        self._telemetry = telemetry
        self._unreachable: set[Host] = set()

    async def run(self, *, deep: bool) -> None:
        from steno.adapters.doctor import check_sqlite, check_state_dir
        from steno.adapters.platform_http import HttpClient, trusted_tls
        from steno.cli.doctor_archive import examine_archive, wants_archive
        from steno.cli.doctor_media import examine_media, wants_media
        from steno.errors import ConfigError

        platform = self._config.platform
        follows = not {"live", "diarisation"}.isdisjoint(self._config.features)
        complete = follows and self._required()
        for finding in check_state_dir(self._config.state_dir.expanduser()):
            self._tell(finding)
        self._tell(check_sqlite())
        try:
            tls = trusted_tls(platform.ca_file)
        except ConfigError as error:
            _configuration(error, self._tell)
            return
        async with HttpClient(proxy=platform.proxy or None, ca_file=platform.ca_file) as http:
            if wants_media(self._config):
                await examine_media(self._config, self._tell, http)
            if follows:
                await self._platform(tls, http, complete=complete, deep=deep)
        if wants_archive(self._config):
            await examine_archive(self._config, self._tell)
        await self._consumers()

    async def _platform(
        self, tls: ssl.SSLContext, http: HttpClient, *, complete: bool, deep: bool
    ) -> None:
        platform = self._config.platform
        hosts = self._hosts(platform.host or platform.environment, "platform.host")
        await self._way(hosts, tls, http)
        if complete:
            await self._primary(hosts, http, tls, deep=deep)
        if platform.backup_host:
            backup = self._hosts(platform.backup_host, "platform.backup_host")
            await self._way(backup, tls, http)
            if complete:
                await self._backup(backup, http)

    def _required(self) -> bool:
        """Tell what the sources lack; True when credentials are there to be tried."""
        from steno.adapters.doctor import Area, Finding, Verdict
        from steno.config import require_diarisation, require_live
        from steno.errors import ConfigError

        platform, features = self._config.platform, self._config.features
        sources = []
        try:
            if "live" in features:
                require_live(self._config)
                sources.append(self._config.live.source.value)
            if "diarisation" in features:
                require_diarisation(self._config)
                sources.append(self._config.diarisation.source.value)
        except ConfigError as error:
            _configuration(error, self._tell)
        else:
            what = f"sound; {platform.family.value} family, {', '.join(sources)}"
            self._tell(Finding("settings", Verdict.OK, what, area=Area.CONFIG))
        secret = platform.client_secret or platform.private_key or platform.jwt_config
        return bool(secret and (platform.client_id or platform.jwt_config))

    @property
    def _is_real(self) -> bool:
        from steno.config import Family

        return self._config.platform.family is Family.GENESYS_CLOUD

    def _hosts(self, text: str, setting: str) -> PlatformHosts:
        from steno.core.hosts import real_hosts, tutorial_hosts

        return (real_hosts if self._is_real else tutorial_hosts)(text, setting=setting)

    async def _way(self, hosts: PlatformHosts, tls: ssl.SSLContext, http: HttpClient) -> None:
        from datetime import UTC, datetime

        from steno.adapters.doctor import Verdict, check_clock, check_reach

        # Behind a proxy names and ports beyond it cannot be tried; the clock check goes through.
        if not self._config.platform.proxy:
            for host in dict.fromkeys((hosts.api, hosts.login, hosts.streaming)):
                finding = await check_reach(host, tls=tls)
                if finding.verdict is Verdict.FAIL:
                    self._unreachable.add(host)
                self._tell(finding)
        if hosts.api not in self._unreachable:
            self._tell(await check_clock(hosts.api, http, now=lambda: datetime.now(UTC)))

    def _manager(self, hosts: PlatformHosts, http: HttpClient) -> TokenManager:
        """Make a token manager without a cache: the credentials are to be tried."""
        from steno.adapters.secrets import proof_of
        from steno.adapters.tokens import TokenManager, TokenTiming
        from steno.wire.oauth import Feature, Shape

        platform, enabled = self._config.platform, self._config.features
        features = set()
        if "live" in enabled:
            features.add(Feature.LIVE)
            if self._config.language.switch:
                features.add(Feature.LIVE_SWITCH)
        if "diarisation" in enabled:
            features.add(Feature.DIARISE)
        shape = platform.oauth_shape.value if platform.oauth_shape else Shape.QUERY.value
        return TokenManager(
            hosts.login,
            Shape(shape),
            platform.client_id,
            proof_of(
                client_secret=platform.client_secret,
                private_key=platform.private_key,
                jwt_config=platform.jwt_config,
            ),
            exchange=http,
            telemetry=self._telemetry,
            features=() if self._is_real else features,
            scopes=platform.scope.split(),
            timing=TokenTiming(
                request_limit_s=platform.request_timeout_s,
                patience_s=PATIENCE_S,
                margin_s=platform.token_margin_s,
            ),
        )

    async def _primary(
        self, hosts: PlatformHosts, http: HttpClient, tls: ssl.SSLContext, *, deep: bool
    ) -> None:
        from steno.adapters.doctor import check_event_socket, check_stream_upgrade, check_token
        from steno.errors import ConfigError

        if hosts.login in self._unreachable:
            return
        try:
            tokens = self._manager(hosts, http)
        except ConfigError as error:
            _configuration(error, self._tell)
            return
        findings, has_token = await check_token(hosts.login, tokens)
        for finding in findings:
            self._tell(finding)
        if not has_token or hosts.api in self._unreachable:
            return
        if self._is_real:
            await self._rights(hosts, http, tokens)
            return
        proxy = self._config.platform.proxy or None
        if deep and "live" in self._config.features:
            self._tell(
                await check_stream_upgrade(
                    hosts.api,
                    await tokens.token(),
                    tls=tls,
                    conversation=next(iter(self._config.live.conversations), ""),
                    proxy=proxy,
                )
            )
        if deep and "diarisation" in self._config.features:
            self._tell(
                await check_event_socket(
                    hosts.api,
                    await tokens.token(),
                    tls=tls,
                    path=self._config.diarisation.path,
                    proxy=proxy,
                )
            )

    async def _rights(self, hosts: PlatformHosts, http: HttpClient, tokens: TokenManager) -> None:
        from steno.adapters.doctor import check_live_permissions, check_settings
        from steno.adapters.platform_http import NotificationsApi, PlatformHttp

        api = PlatformHttp(hosts.api, tokens, exchange=http, telemetry=self._telemetry)
        wanted = (*self._config.live.conversations, *self._config.diarisation.conversations)
        conversation = next(iter(wanted), "")
        channels = NotificationsApi(api)
        self._tell(await check_live_permissions(channels, conversation=conversation))
        self._tell(await check_settings(api))

    async def _backup(self, hosts: PlatformHosts, http: HttpClient) -> None:
        from steno.adapters.doctor import check_token
        from steno.errors import ConfigError

        if hosts.login in self._unreachable:
            return
        try:
            tokens = self._manager(hosts, http)
        except ConfigError:
            return  # told already for the primary
        for finding in (await check_token(hosts.login, tokens, backup=True))[0]:
            self._tell(finding)

    async def _consumers(self) -> None:
        from urllib.parse import urlsplit

        from steno.adapters.doctor import GrpcPeer, check_address, check_grpc
        from steno.adapters.platform_http import trusted_tls
        from steno.config import GrpcDestination, WebhookDestination
        from steno.core.addresses import split_address
        from steno.core.hosts import is_loopback, parse_host

        for one in self._config.delivery.destinations:
            match one:
                case GrpcDestination():
                    name, _ = split_address(one.address, setting="address")
                    peer = GrpcPeer(
                        one.name,
                        one.address,
                        tls=one.tls == "on" or (one.tls == "auto" and not is_loopback(name)),
                        ca_file=one.ca_file,
                        cert_file=one.cert_file,
                        key_file=one.key_file,
                        server_name=one.server_name,
                    )
                    self._tell(await check_grpc(peer))
                case WebhookDestination():
                    parts = urlsplit(one.url)
                    host = parse_host(f"{parts.scheme}://{parts.netloc}", setting="url")
                    self._tell(await check_address(one.name, host, tls=trusted_tls(None)))
                case _:
                    pass  # files and object stores are tried by the first delivery
