"""From file, environment and options to one frozen ``Config``.

An option wins over ``STENO_…``, that over the tutorials' names, those over the file. Every
problem is reported in one go, each naming the setting and where it came from.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args, get_origin

import msgspec

from steno.config.base import NAME_PATTERN, Section
from steno.config.checks import check
from steno.config.destinations import DESTINATIONS, Destination
from steno.config.settings import (
    SECTIONS,
    TOP_LEVEL,
    Config,
    Family,
    OAuthShape,
    SegmentSource,
    Source,
)
from steno.core.secret import Secret
from steno.errors import ConfigError, ConfigProblems

TUTORIAL_NAMES: tuple[tuple[str, str], ...] = (
    ("GENESYS_HOST", "platform.host"),
    ("GENESYS_BACKUP_HOST", "platform.backup_host"),
    ("GENESYS_ENV", "platform.environment"),
    ("GENESYS_CLIENT_ID", "platform.client_id"),
    ("OAUTH_CLIENT_ID", "platform.client_id"),
    ("GENESYS_CLIENT_SECRET", "platform.client_secret"),
    ("OAUTH_CLIENT_SECRET", "platform.client_secret"),
    ("GENESYS_PRIVATE_KEY", "platform.private_key"),
    ("GENESYS_JWT_CONFIG", "platform.jwt_config"),
    ("CONVERSATION_ID", "live.conversations"),
    ("GENESYS_CONVERSATION_ID", "live.conversations"),
    ("GENESYS_CONVERSATION_ID", "archive.conversations"),
    ("TRANSCRIPTION_GRPC_ADDR", "speech.address"),
    ("RECORDING_ID", "transcribe.recordings"),
    ("WEBHOOK_URL", "transcribe.webhook"),
)

# STENO_ names that are no settings: the file to read, the token of `steno consume`, what
# `make bench` is told, and where a fault test stops the store.
OTHER_NAMES = frozenset({"STENO_CONFIG", "STENO_CONSUME_TOKEN", "STENO_BASELINE", "STENO_CRASH_AT"})

# A Kubernetes service or linked container called "steno" puts these into every neighbour.
_ORCHESTRATOR = re.compile(r"STENO(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT)\w*|PORT(_\d+_(TCP|UDP)\w*)?)")

_GROUP_WRITE_OR_OTHERS = 0o027
_MAX_SECRET_BYTES = 65536


class Given(NamedTuple):
    """A value somebody gave, before it is checked."""

    value: object
    origin: str
    is_text: bool = False
    base: Path | None = None


class _SecretFile(NamedTuple):
    path: str


Layer = dict[str, Given]
Problems = list[ConfigError]


def find_file(option: Path | None, env: Mapping[str, str]) -> Path | None:
    """Return the file to read: the option, ``STENO_CONFIG``, or the user's own if it exists."""
    if option is not None:
        return option
    if named := env.get("STENO_CONFIG"):
        return Path(named)
    home = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME", "/nonexistent")) / ".config")
    usual = Path(home) / "steno" / "steno.toml"
    return usual if usual.is_file() else None


def load(
    path: Path | None,
    env: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Return the effective settings.

    Args:
        path: TOML file, or None for none (see ``find_file``).
        env: Usually ``os.environ``.
        overrides: From options, by dotted name (``live.window_s``); None values are not given.
            A secret is taken only as a ``Secret``: there is no option for one.

    Raises:
        ConfigError: One setting is wrong; ``ConfigProblems`` when several are.
    """
    problems: Problems = []
    given: Layer = {}
    given.update(_from_file(path, problems))
    given.update(_from_tutorial_names(env))
    given.update(_from_steno_names(env))
    given.update(_from_options(overrides or {}, problems))
    config = _build(given, env, problems)
    _refuse_unknown_names(config, env, problems)
    if not problems:
        problems.extend(check(config))
    if problems:
        raise problems[0] if len(problems) == 1 else ConfigProblems(problems)
    return config


# --- layers -----------------------------------------------------------------------------------


def _from_file(path: Path | None, problems: Problems) -> Layer:
    if path is None:
        return {}
    origin = f"file {path}"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(
            ConfigError(
                "the configuration file cannot be read",
                setting="--config",
                origin=origin,
                error=type(error).__name__,
            )
        )
        return {}
    except tomllib.TOMLDecodeError as error:
        # Its text tells line and column; it quotes single characters only.
        problems.append(ConfigError(f"not TOML: {error}", setting="--config", origin=origin))
        return {}
    layer: Layer = {}
    for key, value in table.items():
        if key in TOP_LEVEL:
            layer[key] = Given(value, origin, base=path.parent)
        elif key in SECTIONS and isinstance(value, dict):
            layer.update(_section_of_file(key, value, origin, path.parent, problems))
        else:
            problems.append(_unknown(key, [*SECTIONS, *TOP_LEVEL], origin))
    return layer


def _section_of_file(
    section: str, table: Mapping[str, object], origin: str, base: Path, problems: Problems
) -> Layer:
    cls = SECTIONS[section]
    layer: Layer = {}
    for key, value in table.items():
        setting = f"{section}.{key}"
        if key in _secrets(cls):
            problems.append(_secret_in_file(setting, origin))
        elif (of := key.removesuffix("_file")) in _secrets(cls):
            layer[f"{section}.{of}"] = Given(_SecretFile(str(value)), origin, base=base)
        elif key in cls.__struct_fields__:
            layer[setting] = Given(value, origin, base=base)
        else:
            problems.append(_unknown(setting, _names(cls, section), origin))
    return layer


def _from_tutorial_names(env: Mapping[str, str]) -> Layer:
    layer: Layer = {}
    for name, setting in TUTORIAL_NAMES:
        if env.get(name) and setting not in layer:
            layer[setting] = Given(env[name], name, is_text=True)
    return layer


def _from_steno_names(env: Mapping[str, str]) -> Layer:
    layer: Layer = {}
    for name, setting, is_file in _steno_names():
        if value := env.get(name):
            layer[setting] = (
                Given(_SecretFile(value), name) if is_file else Given(value, name, is_text=True)
            )
    return layer


def _from_options(overrides: Mapping[str, object], problems: Problems) -> Layer:
    layer: Layer = {}
    known = [setting for _, setting, is_file in _steno_names() if not is_file]
    for setting, value in overrides.items():
        if value is None:
            continue
        if setting not in known:
            problems.append(_unknown(setting, known, "option"))
            continue
        layer[setting] = Given(value, "option", is_text=isinstance(value, str))
    return layer


def _steno_names() -> Iterator[tuple[str, str, bool]]:
    """Yield environment name, setting, and whether the name holds a secret's file."""
    for key in TOP_LEVEL:
        yield f"STENO_{key.upper()}", key, False
    for section, cls in SECTIONS.items():
        for key in cls.__struct_fields__:
            name = f"STENO_{section}_{key}".upper()
            if key in _secrets(cls):
                yield f"{name}_FILE", f"{section}.{key}", True
            yield name, f"{section}.{key}", False


# --- building ---------------------------------------------------------------------------------


def _build(given: Layer, env: Mapping[str, str], problems: Problems) -> Config:
    origins = {setting: one.origin for setting, one in given.items()}
    state_home = env.get("XDG_STATE_HOME") or "~/.local/state"
    home = Path(env.get("HOME", "~"))
    given.setdefault("state_dir", Given(f"{state_home}/steno", "default"))
    sections: dict[str, Any] = {}  # Any: struct fields are checked one by one below
    for name, cls in SECTIONS.items():
        values: dict[str, Any] = {}
        for field in _fields(cls):
            setting = f"{name}.{field.name}"
            if setting not in given:
                continue
            if setting == "delivery.destinations":
                values[field.name] = _destinations(given[setting], env, problems)
            else:
                _put(values, field.name, setting, field.type, given[setting], problems)
        sections[name] = cls(**values)
    for field in _fields(Config):
        if field.name in TOP_LEVEL and field.name in given:
            _put(sections, field.name, field.name, field.type, given[field.name], problems)
    if "state_dir" in sections:
        parts = sections["state_dir"].parts
        if parts and parts[0] == "~":
            sections["state_dir"] = home.joinpath(*parts[1:])
    return _derived(Config(**sections, origins=origins))


def _put(
    values: dict[str, Any],
    key: str,
    setting: str,
    wanted: object,
    given: Given,
    problems: Problems,
) -> None:
    try:
        values[key] = _converted(wanted, given, setting)
    except ConfigError as error:
        problems.append(error)
    except msgspec.ValidationError as error:
        # Its text names types and bounds, and for a closed set the value; secrets never get here.
        problems.append(ConfigError(str(error), setting=setting, origin=given.origin))


def _converted(wanted: object, given: Given, setting: str) -> object:
    value = given.value
    if _is_secret(wanted):
        return _secret(value, given, setting)
    if given.is_text and isinstance(value, str):
        if _is_tuple(wanted):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return msgspec.convert(value, wanted, strict=False, dec_hook=_hook)
    result = msgspec.convert(value, wanted, dec_hook=_hook)
    if (
        isinstance(result, Path)
        and given.base is not None
        and str(result) != "-"
        and str(result)[:1] != "~"
    ):
        # A relative path in a file is relative to that file, wherever we are started.
        return given.base / result
    return result


def _hook(wanted: type, value: object) -> object:
    if wanted is Path and isinstance(value, str | Path):
        return Path(value)
    raise msgspec.ValidationError(f"Expected `str`, got `{type(value).__name__}`")


def _secret(value: object, given: Given, setting: str) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, _SecretFile):
        return read_secret(
            (given.base or Path()) / Path(value.path).expanduser(),
            setting=setting,
            origin=given.origin,
        )
    if given.origin == "option" or not isinstance(value, str):
        raise ConfigError(
            "a secret is given by variable or file only", setting=setting, origin=given.origin
        )
    return Secret(value.strip())


def read_secret(path: Path, *, setting: str, origin: str = "") -> Secret:
    """Return what a file holds, without white space around it.

    The group may read it (service managers hand credentials over like that); others may not.

    Raises:
        ConfigError: It cannot be read, is empty or too large, or others may read or write it.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode & 0o777
            data = stream.read(_MAX_SECRET_BYTES + 1)
        text = data.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the secret's file cannot be read",
            setting=setting,
            origin=origin,
            file=str(path),
            error=type(error).__name__,
        ) from None
    if mode & _GROUP_WRITE_OR_OTHERS:
        raise ConfigError(
            "the secret's file is open to others",
            setting=setting,
            origin=origin,
            file=str(path),
            mode=f"{mode:04o}",
            fix="Run chmod 600 on it.",
        )
    if not text or len(data) > _MAX_SECRET_BYTES:
        raise ConfigError(
            "the secret's file is empty or too large",
            setting=setting,
            origin=origin,
            file=str(path),
        )
    return Secret(text, str(path))


def _derived(config: Config) -> Config:
    """Fill in what follows from other settings: family, sources and OAuth shape."""
    origins = dict(config.origins)
    platform, live, diarisation = config.platform, config.live, config.diarisation
    if "platform.family" not in origins:
        for setting, notified in (
            ("live.source", live.source is Source.NOTIFICATIONS),
            ("diarisation.source", diarisation.source is SegmentSource.NOTIFICATIONS),
            ("transcribe.engine", config.transcribe.engine != "service"),
        ):
            if notified:
                platform = msgspec.structs.replace(platform, family=Family.GENESYS_CLOUD)
                origins["platform.family"] = f"follows {setting}"
                break
    real = platform.family is Family.GENESYS_CLOUD
    if real and "live.source" not in origins:
        live = msgspec.structs.replace(live, source=Source.NOTIFICATIONS)
        origins["live.source"] = "follows platform.family"
    if real and "diarisation.source" not in origins:
        diarisation = msgspec.structs.replace(diarisation, source=SegmentSource.NOTIFICATIONS)
        origins["diarisation.source"] = "follows platform.family"
    if platform.oauth_shape is None:
        shape = OAuthShape.BASIC if real else OAuthShape.QUERY
        platform = msgspec.structs.replace(platform, oauth_shape=shape)
        origins["platform.oauth_shape"] = "follows platform.family"
    return msgspec.structs.replace(
        config, platform=platform, live=live, diarisation=diarisation, origins=origins
    )


# --- destinations -----------------------------------------------------------------------------


def _destinations(
    given: Given, env: Mapping[str, str], problems: Problems
) -> tuple[Destination, ...]:
    setting = "delivery.destinations"
    value = given.value
    if given.is_text and isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            problems.append(
                ConfigError("not a JSON array of tables", setting=setting, origin=given.origin)
            )
            return ()
    if not isinstance(value, list | tuple):
        problems.append(ConfigError("not an array of tables", setting=setting, origin=given.origin))
        return ()
    built: list[Destination] = []
    for index, item in enumerate(value):
        one = _destination(f"{setting}[{index}]", item, given, env, problems)
        if one is None:
            continue
        if any(one.name == other.name for other in built):
            problems.append(
                ConfigError(
                    "two destinations have this name",
                    setting=f"{setting}[{index}].name",
                    origin=given.origin,
                )
            )
        built.append(one)
    return tuple(built)


def _destination(
    setting: str, item: object, given: Given, env: Mapping[str, str], problems: Problems
) -> Destination | None:
    if isinstance(item, Destination):
        return item if item.name else msgspec.structs.replace(item, name=_type_of(item))
    if not isinstance(item, dict):
        problems.append(ConfigError("not a table", setting=setting, origin=given.origin))
        return None
    table = cast("dict[str, object]", dict(item))
    kind = table.pop("type", None)
    cls = DESTINATIONS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        summary = "a destination needs a type" if kind is None else "no such type"
        fix = f"One of {', '.join(DESTINATIONS)}."
        problems.append(
            ConfigError(summary, setting=f"{setting}.type", origin=given.origin, fix=fix)
        )
        return None
    name = table.setdefault("name", kind)
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name):
        problems.append(
            ConfigError(
                "not a name",
                setting=f"{setting}.name",
                origin=given.origin,
                fix="Lower case, digits, - and _, at most 32 characters.",
            )
        )
        return None
    layer = _destination_layer(cls, setting, table, given, problems)
    for key in _secrets(cls):
        for variable, is_file in (
            (_variable(name, key) + "_FILE", True),
            (_variable(name, key), False),
        ):
            if text := env.get(variable):
                layer[key] = Given(_SecretFile(text) if is_file else text, variable, True)
    values: dict[str, Any] = {}
    for field in _fields(cls):
        if field.name in layer:
            _put(
                values,
                field.name,
                f"{setting}.{field.name}",
                field.type,
                layer[field.name],
                problems,
            )
    return cls(**values)


def _destination_layer(
    cls: type[Destination],
    setting: str,
    table: Mapping[str, object],
    given: Given,
    problems: Problems,
) -> Layer:
    layer: Layer = {}
    for key, value in table.items():
        if key in _secrets(cls) and not isinstance(value, Secret):
            problems.append(_secret_in_file(f"{setting}.{key}", given.origin))
        elif key.endswith("_file") and (of := key.removesuffix("_file")) in _secrets(cls):
            layer[of] = Given(_SecretFile(str(value)), given.origin, base=given.base)
        elif key in cls.__struct_fields__:
            layer[key] = Given(value, given.origin, base=given.base)
        else:
            names = [f"{setting}.{one}" for one in ("type", *cls.__struct_fields__)]
            problems.append(_unknown(f"{setting}.{key}", names, given.origin))
    return layer


def _variable(name: str, key: str) -> str:
    return f"STENO_DELIVERY_{name}_{key}".upper().replace("-", "_")


def _type_of(destination: Destination) -> str:
    return next(name for name, cls in DESTINATIONS.items() if type(destination) is cls)


# --- names ------------------------------------------------------------------------------------


def _refuse_unknown_names(config: Config, env: Mapping[str, str], problems: Problems) -> None:
    known = {name for name, _, _ in _steno_names()} | OTHER_NAMES
    for one in config.delivery.destinations:
        for key in _secrets(type(one)):
            known |= {_variable(one.name, key), _variable(one.name, key) + "_FILE"}
    for name in sorted(env):
        if name.startswith("STENO_") and name not in known and not _ORCHESTRATOR.fullmatch(name):
            problems.append(_unknown(name, sorted(known), "environment"))


def _unknown(name: str, known: list[str], origin: str) -> ConfigError:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    fix = f"Did you mean {close[0]}?" if close else ""
    return ConfigError("no such setting", setting=name, origin=origin, fix=fix)


def _secret_in_file(setting: str, origin: str) -> ConfigError:
    return ConfigError(
        "a secret may not stand in the configuration",
        setting=setting,
        origin=origin,
        fix=f"Use {setting.rpartition('.')[2]}_file or an environment variable.",
    )


def _names(cls: type[Section], section: str) -> list[str]:
    secret_files = [f"{section}.{key}_file" for key in _secrets(cls)]
    return [f"{section}.{key}" for key in cls.__struct_fields__] + secret_files


@cache
def _fields(cls: type[Section]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(cls)  # evaluates every annotation: not to be done twice


@cache
def _secrets(cls: type[Section]) -> tuple[str, ...]:
    return tuple(f.name for f in _fields(cls) if _is_secret(f.type))


def _is_secret(wanted: object) -> bool:
    return wanted is Secret or Secret in get_args(wanted)[:1]


def _is_tuple(wanted: object) -> bool:
    inner = get_args(wanted)[0] if hasattr(wanted, "__metadata__") else wanted
    return get_origin(inner) is tuple
