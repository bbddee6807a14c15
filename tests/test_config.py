"""Settings: precedence, strictness, secrets, and what follows from what."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.config import (
    Family,
    GrpcDestination,
    JsonlDestination,
    OAuthShape,
    SegmentSource,
    Source,
    WebhookDestination,
    find_file,
    load,
    require_diarisation,
    require_live,
    require_media,
    show,
)
from steno.config.loading import TUTORIAL_NAMES
from steno.config.settings import SECTIONS
from steno.core.addresses import split_address
from steno.core.secret import Secret
from steno.errors import ConfigError, ConfigProblems

CANARY = "hunter2-canary"
HOME = {"HOME": "/home/somebody"}


def written(folder: Path, text: str, name: str = "steno.toml", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def problems(error: ConfigError) -> list[ConfigError]:
    return list(error.problems) if isinstance(error, ConfigProblems) else [error]


def test_defaults_are_the_documents_own() -> None:
    """5 s window, 30 s ping, 15 s pong and handshake, 0.85 threshold, en-US, 30 s drain."""
    config = load(None, HOME)
    assert (config.live.window_s, config.live.ping_interval_s) == (5.0, 30.0)
    assert (config.live.pong_timeout_s, config.live.handshake_timeout_s) == (15.0, 15.0)
    assert (config.language.threshold, config.language.initial) == (0.85, "en-US")
    assert config.delivery.drain_s == 30.0
    assert config.delivery.destinations == ()
    assert config.platform.family is Family.TUTORIAL
    assert config.platform.environment == "api.mypurecloud.com"
    assert config.live.source is Source.TRANSCRIPT_STREAM


def test_option_wins_over_steno_name_over_tutorial_name_over_file(tmp_path: Path) -> None:
    """Each layer is taken away in turn, and the next one shows."""
    path = written(tmp_path, '[platform]\nhost = "file.example.com"\n')
    env = {
        **HOME,
        "GENESYS_HOST": "tutorial.example.com",
        "STENO_PLATFORM_HOST": "own.example.com",
    }
    options = {"platform.host": "option.example.com"}
    seen = [load(path, env, options).platform.host, load(path, env).platform.host]
    del env["STENO_PLATFORM_HOST"]
    seen.append(load(path, env).platform.host)
    del env["GENESYS_HOST"]
    seen.append(load(path, env).platform.host)
    assert [name.partition(".")[0] for name in seen] == ["option", "own", "tutorial", "file"]


@pytest.mark.parametrize(("name", "setting"), TUTORIAL_NAMES)
def test_every_tutorial_name_is_accepted_as_it_stands(name: str, setting: str) -> None:
    """A tutorial's environment works unchanged."""
    text = "value.example.com:50061" if setting == "speech.address" else "value.example.com"
    config = load(None, {**HOME, name: text})
    section, _, key = setting.partition(".")
    value = getattr(getattr(config, section), key)
    expected = (text,) if key in ("conversations", "recordings") else text
    assert (value.reveal() if isinstance(value, Secret) else value) == expected
    assert config.origins[setting] == name


def test_every_setting_has_an_environment_name() -> None:
    """STENO_<SECTION>_<KEY> reaches each scalar setting, text converted to its type."""
    env = {
        **HOME,
        "STENO_LIVE_WINDOW_S": "2.5",
        "STENO_LIVE_SOCKETS": "4",
        "STENO_LANGUAGE_SWITCH": "false",
        "STENO_REDACTION_LANGUAGES": "en, de",
        "STENO_FEATURES": "live",
        "STENO_STATE_DIR": "/var/lib/steno",
        "STENO_DELIVERY_DESTINATIONS": '[{"type": "jsonl", "path": "out.jsonl"}]',
    }
    config = load(None, env)
    assert (config.live.window_s, config.live.sockets) == (2.5, 4)
    assert config.language.switch is False
    assert config.redaction.languages == ("en", "de")
    assert config.state_dir == Path("/var/lib/steno")
    assert config.delivery.destinations == (JsonlDestination(name="jsonl", path=Path("out.jsonl")),)


def test_unknown_keys_are_errors_with_a_suggestion(tmp_path: Path) -> None:
    """A misspelt key never passes silently, in the file, a table, or the environment."""
    path = written(
        tmp_path,
        "[live]\nwindows_s = 3\n[lve]\n[[delivery.destinations]]\ntype='grpc'\nadress='a:1'\n",
    )
    with pytest.raises(ConfigProblems) as caught:
        load(path, {**HOME, "STENO_LIVE_WINDOWS_S": "3"})
    found = {one.setting: one.fix for one in caught.value.problems}
    assert found["live.windows_s"] == "Did you mean live.window_s?"
    assert found["lve"] == "Did you mean live?"
    assert "address" in found["delivery.destinations[0].adress"]
    assert found["STENO_LIVE_WINDOWS_S"] == "Did you mean STENO_LIVE_WINDOW_S?"


def test_orchestrator_variables_are_not_taken_for_settings() -> None:
    """A Kubernetes service called steno must not keep us from starting."""
    env = {
        **HOME,
        "STENO_SERVICE_HOST": "10.0.0.1",
        "STENO_SERVICE_PORT_GRPC": "50051",
        "STENO_PORT": "tcp://10.0.0.1:50051",
        "STENO_PORT_50051_TCP_ADDR": "10.0.0.1",
    }
    assert load(None, env).live.window_s == 5.0


def test_all_problems_are_told_at_once_with_their_origin(tmp_path: Path) -> None:
    """One run of `config check` is enough to mend a file."""
    path = written(tmp_path, "[live]\nping_interval_s = -1\nsockets = 'two'\n")
    with pytest.raises(ConfigProblems) as caught:
        load(path, {**HOME, "STENO_LANGUAGE_THRESHOLD": "1.5"})
    origins = {one.setting: one.origin for one in caught.value.problems}
    assert origins == {
        "live.ping_interval_s": f"file {path}",
        "live.sockets": f"file {path}",
        "language.threshold": "STENO_LANGUAGE_THRESHOLD",
    }
    assert str(caught.value).count("\n") == 3


def test_a_file_that_cannot_be_read_or_is_not_toml_is_one_error(tmp_path: Path) -> None:
    """The error names the file."""
    for path in (tmp_path / "missing.toml", written(tmp_path, "[live\n")):
        with pytest.raises(ConfigError) as caught:
            load(path, HOME)
        assert str(path) in caught.value.origin


def test_a_relative_path_in_a_file_is_relative_to_it(tmp_path: Path) -> None:
    """Where the program was started from does not matter."""
    path = written(tmp_path, 'state_dir = "state"\n[platform]\nca_file = "ca.pem"\n')
    config = load(path, HOME)
    assert config.state_dir == tmp_path / "state"
    assert config.platform.ca_file == tmp_path / "ca.pem"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (HOME, "/home/somebody/.local/state/steno"),
        ({**HOME, "XDG_STATE_HOME": "/state"}, "/state/steno"),
        ({**HOME, "STENO_STATE_DIR": "~/here"}, "/home/somebody/here"),
    ],
)
def test_state_directory_follows_xdg(env: dict[str, str], expected: str) -> None:
    """$XDG_STATE_HOME/steno, else ~/.local/state/steno."""
    assert load(None, env).state_dir == Path(expected)


def test_the_users_own_file_is_found_only_if_it_exists(tmp_path: Path) -> None:
    """Option, then STENO_CONFIG, then the usual place; never the working directory."""
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    assert find_file(None, env) is None
    (tmp_path / "steno").mkdir()
    usual = written(tmp_path / "steno", "")
    assert find_file(None, env) == usual
    assert find_file(None, {**env, "STENO_CONFIG": "/a"}) == Path("/a")
    assert find_file(Path("/b"), {**env, "STENO_CONFIG": "/a"}) == Path("/b")


# --- secrets ----------------------------------------------------------------------------------


def test_a_secret_in_the_file_or_as_an_option_is_refused(tmp_path: Path) -> None:
    """Secrets come by variable or by the reference to a file only."""
    text = f'[platform]\nclient_secret = "{CANARY}"\n'
    text += f'[[delivery.destinations]]\ntype="webhook"\nurl="https://a.example"\nsecret="{CANARY}"'
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, HOME, {"platform.jwt_config": CANARY})
    assert len(problems(caught.value)) >= 3
    assert CANARY not in str(caught.value)


def test_a_secret_file_is_read_and_its_mode_checked(tmp_path: Path) -> None:
    """Others may not read it; its group may, as service managers need."""
    config = written(tmp_path, '[platform]\nclient_secret_file = "secret"\n')
    for mode in (0o400, 0o600, 0o440):
        secret = written(tmp_path, f"{CANARY}\n", "secret", mode)
        assert load(config, HOME).platform.client_secret == Secret(CANARY)
        secret.chmod(0o600)
    for mode in (0o604, 0o644, 0o620, 0o660):
        secret = written(tmp_path, CANARY, "secret", mode)
        with pytest.raises(ConfigError, match="open to others") as caught:
            load(config, HOME)
        assert CANARY not in str(caught.value)
        secret.chmod(0o600)


def test_a_secret_file_is_read_only_if_it_is_the_one_in_force(tmp_path: Path) -> None:
    """A variable wins, so the missing file of the lower layer is no error."""
    config = written(tmp_path, '[platform]\nclient_secret_file = "missing"\n')
    loaded = load(config, {**HOME, "OAUTH_CLIENT_SECRET": CANARY})
    assert loaded.platform.client_secret.reveal() == CANARY
    with pytest.raises(ConfigError, match="cannot be read"):
        load(config, HOME)


def test_a_destinations_secret_comes_by_a_variable_of_its_name(tmp_path: Path) -> None:
    """STENO_DELIVERY_<NAME>_<KEY>, also with _FILE."""
    path = written(
        tmp_path,
        '[[delivery.destinations]]\ntype="webhook"\nname="my-hook"\nurl="https://a.example"\n',
    )
    env = {**HOME, "STENO_DELIVERY_MY_HOOK_SECRET": CANARY}
    hook = load(path, env).delivery.destinations[0]
    assert isinstance(hook, WebhookDestination)
    assert hook.secret.reveal() == CANARY
    secret = written(tmp_path, CANARY, "hook")
    env = {**HOME, "STENO_DELIVERY_MY_HOOK_SECRET_FILE": str(secret)}
    assert load(path, env).delivery.destinations[0] == hook


def test_secrets_are_hidden_and_nothing_else_is() -> None:
    """`config show` tells of a secret only whether it is set, and where it came from."""
    env = {**HOME, "OAUTH_CLIENT_SECRET": CANARY, "OAUTH_CLIENT_ID": "public-id"}
    rows = show(load(None, env))
    assert rows["platform.client_secret"] == {"value": "[hidden]", "origin": "OAUTH_CLIENT_SECRET"}
    assert rows["platform.private_key"]["value"] == "[not set]"
    assert rows["platform.client_id"]["value"] == "public-id"
    assert CANARY.encode() not in msgspec.json.encode(rows)
    expected = {f"{name}.{key}" for name, cls in SECTIONS.items() for key in cls.__struct_fields__}
    assert set(rows) == expected | {"features", "state_dir"}


def test_a_secret_does_not_show_itself() -> None:
    """Not by repr, str, format, pickle, msgspec, or inside another object's repr."""
    secret = Secret(CANARY)
    config = load(None, {**HOME, "OAUTH_CLIENT_SECRET": CANARY})
    shown = [repr(secret), str(secret), f"{secret:>40}", repr(config), repr([secret])]
    assert not any(CANARY in text for text in shown)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    assert copy.deepcopy(secret) == secret
    assert secret != Secret("other")
    assert not Secret("")
    assert secret.reveal() == CANARY


# --- what follows from what -------------------------------------------------------------------


def test_family_source_and_oauth_shape_follow_one_another() -> None:
    """The real platform has notifications and Basic; the tutorials' host has the stream."""
    real = load(
        None, {**HOME, "STENO_PLATFORM_FAMILY": "genesys-cloud", "GENESYS_ENV": "eu-west-1"}
    )
    assert real.live.source is Source.NOTIFICATIONS
    assert real.platform.oauth_shape is OAuthShape.BASIC
    by_source = load(None, HOME, {"live.source": "notifications"})
    assert by_source.platform.family is Family.GENESYS_CLOUD
    assert load(None, HOME).platform.oauth_shape is OAuthShape.QUERY
    form = load(None, {**HOME, "STENO_PLATFORM_OAUTH_SHAPE": "form"})
    assert form.platform.oauth_shape is OAuthShape.FORM
    both = {"live.source": "notifications", "platform.family": "tutorial"}
    assert load(None, HOME, both).platform.family is Family.TUTORIAL
    with pytest.raises(ConfigError, match="no transcript stream"):
        load(None, HOME, {**both, "live.source": "transcript-stream",
                          "platform.family": "genesys-cloud"})  # fmt: skip


def test_the_source_of_segments_follows_the_family_and_tells_it() -> None:
    """The real platform has notifications only, for sentences and segments alike."""
    config = load(None, HOME)
    assert config.diarisation.source is SegmentSource.EVENT_SOCKET
    config = load(None, HOME, {"diarisation.source": "notifications"})
    assert config.platform.family is Family.GENESYS_CLOUD
    assert config.platform.oauth_shape is OAuthShape.BASIC
    assert config.live.source is Source.NOTIFICATIONS
    config = load(None, HOME, {"live.source": "notifications"})
    assert config.diarisation.source is SegmentSource.NOTIFICATIONS
    with pytest.raises(ConfigError, match="no event socket"):
        load(None, HOME, {"platform.family": "genesys-cloud", "diarisation.source": "event-socket"})


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"platform.host": "http://example.com"}, "platform.host"),
        ({"platform.host": "https://user:pw@example.com"}, "platform.host"),
        ({"platform.backup_host": "a/b"}, "platform.backup_host"),
        ({"platform.proxy": "socks5://a"}, "platform.proxy"),
        ({"observability.listen": "9464"}, "observability.listen"),
        ({"live.conversations": ("../etc",)}, "live.conversations"),
        ({"language.initial": "english!"}, "language.initial"),
        ({"features": ()}, "features"),
        ({"diarisation.queues": ("q",)}, "diarisation.queues"),
        ({"diarisation.users": ("u",)}, "diarisation.users"),
        ({"diarisation.events": ()}, "diarisation.events"),
        ({"diarisation.path": "socket?token=1"}, "diarisation.path"),
        ({"diarisation.backoff_max_s": 1.0}, "diarisation.backoff_max_s"),
        ({"redaction.default_region": "usa"}, "redaction.default_region"),
        ({"media.listen": "8080"}, "media.listen"),
        ({"media.tls_cert": Path("a.pem")}, "media.tls_cert"),
        ({"media.json_path": "/audiohook"}, "media.json_path"),
        ({"media.coalesce_max_ms": 40.0}, "media.coalesce_max_ms"),
        ({"media.languages": ()}, "media.languages"),
        ({"media.bearer_jwks_url": "http://keys.example.com"}, "media.bearer_jwks_url"),
        ({"media.bearer_check_url": "ftp://example.com"}, "media.bearer_check_url"),
        ({"speech.address": "nowhere"}, "speech.address"),
        ({"speech.address": "stt.example.com:1", "speech.tls": "off"}, "speech.tls"),
        ({"speech.address": "127.0.0.1:1", "speech.token": Secret("t")}, "speech.token"),
        ({"speech.cert_file": Path("a.pem")}, "speech.cert_file"),
    ],
)
def test_a_wrong_value_names_its_setting(settings: dict[str, object], setting: str) -> None:
    """Bounds, patterns and hosts are checked at the start, not when first used."""
    with pytest.raises(ConfigError) as caught:
        load(None, HOME, settings)
    assert caught.value.setting == setting
    assert caught.value.origin == "option"


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"type": "grpc", "address": "nowhere"}, "address"),
        ({"type": "grpc", "address": "example.com:443", "tls": "off"}, "tls"),
        ({"type": "grpc", "address": "example.com:443", "cert_file": "a"}, "cert_file"),
        ({"type": "grpc", "token": Secret("t")}, "token"),
        ({"type": "webhook", "url": "http://example.com", "secret": Secret("s")}, "url"),
        ({"type": "webhook", "url": "https://u:p@example.com", "secret": Secret("s")}, "url"),
        ({"type": "webhook", "url": "https://example.com"}, "secret"),
        ({"type": "objects", "url": "ftp://a"}, "url"),
        ({"type": "jsonl", "path": ""}, "path"),
        ({"type": "jsonl", "max_mb": -1.0}, "max_mb"),
        (
            {"type": "webhook", "url": "https://e.com", "secret": Secret("s"), "max_records": 0},
            "max_records",
        ),
        ({"type": "jsonl", "name": "Has Space"}, "name"),
        ({"type": "pigeon"}, "type"),
        ({}, "type"),
    ],
)
def test_a_wrong_destination_names_its_key(table: dict[str, object], key: str) -> None:
    """Each kind of destination has rules of its own."""
    with pytest.raises(ConfigError) as caught:
        load(None, HOME, {"delivery.destinations": [table]})
    assert caught.value.setting == f"delivery.destinations[0].{key}"


def test_destinations_are_named_by_their_type_and_names_are_unique() -> None:
    """A name is what the store remembers a destination by."""
    config = load(None, HOME, {"delivery.destinations": [{"type": "grpc", "address": "a:1"}]})
    assert config.delivery.destinations == (GrpcDestination(name="grpc", address="a:1"),)
    with pytest.raises(ConfigError, match="two destinations"):
        load(None, HOME, {"delivery.destinations": [{"type": "jsonl"}, {"type": "jsonl"}]})


def test_live_needs_credentials_and_something_to_follow() -> None:
    """What is missing is told before the first connection."""
    with pytest.raises(ConfigProblems) as caught:
        require_live(load(None, HOME))
    missing = {one.setting for one in caught.value.problems}
    assert missing == {"platform.client_id", "platform.client_secret"}
    env = {**HOME, "OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": CANARY}
    require_live(load(None, env))
    with pytest.raises(ConfigError, match="nothing to follow"):
        require_live(load(None, env, {"live.source": "notifications"}))
    require_live(load(None, env, {"live.source": "notifications", "live.queues": ("q",)}))


def test_collecting_needs_credentials_and_something_to_follow() -> None:
    """As following does; the event socket gives every conversation."""
    with pytest.raises(ConfigError, match="OAuth client"):
        require_diarisation(load(None, HOME))
    env = {**HOME, "OAUTH_CLIENT_ID": "client", "OAUTH_CLIENT_SECRET": CANARY}
    require_diarisation(load(None, env))
    notified = {"diarisation.source": "notifications"}
    with pytest.raises(ConfigError) as caught:
        require_diarisation(load(None, env, notified))
    assert caught.value.setting == "diarisation.queues"
    require_diarisation(load(None, env, {**notified, "diarisation.users": ("u",)}))


def test_media_needs_somebody_who_may_call_and_something_that_recognises() -> None:
    """Without keys nobody could connect, without a recogniser nothing would come of it."""
    with pytest.raises(ConfigProblems) as caught:
        require_media(load(None, HOME))
    missing = {one.setting for one in caught.value.problems}
    assert missing == {"media.audiohook_keys", "speech.address"}
    env = {**HOME, "STENO_MEDIA_BEARER_TOKENS": CANARY}
    require_media(load(None, env, {"speech.engine": "none"}))
    require_media(load(None, {**env, "TRANSCRIPTION_GRPC_ADDR": "127.0.0.1:50061"}))


@pytest.mark.parametrize(
    "keys", [f'["{CANARY}"]', f'{{"key": "{CANARY}!"}}', '{"a key": ""}', CANARY]
)
def test_audiohook_keys_are_an_object_of_base64_secrets(keys: str) -> None:
    """What is wrong with them is told without showing them."""
    with pytest.raises(ConfigError) as caught:
        load(None, {**HOME, "STENO_MEDIA_AUDIOHOOK_KEYS": keys})
    assert caught.value.setting == "media.audiohook_keys"
    assert CANARY not in str(caught.value)
    assert load(None, {**HOME, "STENO_MEDIA_AUDIOHOOK_KEYS": '{"key": "c2VjcmV0"}'})


@given(text=st.text(max_size=40), port=st.integers(-1, 70000))
def test_any_address_is_split_or_refused(text: str, port: int) -> None:
    """No text gives anything but a host and a port, or an error of ours."""
    try:
        host, number = split_address(f"{text}:{port}", setting="listen")
    except ConfigError:
        return
    assert 0 <= number <= 65535
    assert not any(c.isspace() or c in "/@[]" for c in host)


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12) | st.integers(), max_size=4))
def test_any_table_is_a_destination_or_an_error_of_ours(table: dict[str, object]) -> None:
    """Whatever stands in a destination's table, nothing but ConfigError comes out."""
    for kind in ("grpc", "jsonl", "objects", "webhook", None):
        given_table = table if kind is None else {**table, "type": kind}
        try:
            loaded = load(None, HOME, {"delivery.destinations": [given_table]})
        except ConfigError as error:
            names = {one.setting.partition("[")[0] for one in problems(error)}
        else:
            names = {"delivery.destinations"}
            assert len(loaded.delivery.destinations) == 1
        assert names == {"delivery.destinations"}


@pytest.mark.parametrize("setting", ["transcribe.webhook_allow", "archive.link_allow"])
def test_allow_lists_hold_networks(tmp_path: Path, setting: str) -> None:
    """Anything else is refused before the work, by the name of the setting."""
    section, _, key = setting.partition(".")
    load(written(tmp_path, f'[{section}]\n{key} = ["10.0.0.0/8", "127.0.0.1"]\n'), HOME)
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, f'[{section}]\n{key} = ["10.0.0.0/8", "my.host"]\n'), HOME)
    assert setting in str(caught.value)
