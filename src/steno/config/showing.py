"""The effective settings as plain values, and the rows of their reference page."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Literal, NamedTuple, get_args, get_origin

import msgspec

from steno.config.base import Section
from steno.config.destinations import DESTINATIONS, Destination
from steno.config.loading import TUTORIAL_NAMES
from steno.config.settings import SECTIONS, TOP_LEVEL, Config
from steno.core.secret import Secret


def show(config: Config) -> dict[str, dict[str, object]]:
    """Return every setting as ``{"value": …, "origin": …}`` by dotted name, secrets hidden."""
    rows: dict[str, dict[str, object]] = {}
    for name in SECTIONS:
        section: Section = getattr(config, name)
        for key in section.__struct_fields__:
            _add(rows, config, f"{name}.{key}", getattr(section, key))
    for key in TOP_LEVEL:
        _add(rows, config, key, getattr(config, key))
    return rows


def _add(rows: dict[str, dict[str, object]], config: Config, setting: str, value: object) -> None:
    origin = config.origins.get(setting, "default")
    rows[setting] = {"value": plain(value), "origin": origin}


def plain(value: object) -> object:
    """Return a value as JSON knows it; a secret as a word that tells only whether it is set."""
    match value:
        case Secret():
            return repr(value)
        case Enum():
            return value.value
        case Path():
            return str(value)
        case tuple():
            return [plain(one) for one in value]
        case Destination():
            tag = next(name for name, cls in DESTINATIONS.items() if type(value) is cls)
            fields = {key: plain(getattr(value, key)) for key in value.__struct_fields__}
            return {"type": tag, **fields}
        case _:
            return value


class Row(NamedTuple):
    """One setting of the reference page."""

    key: str
    kind: str
    default: str
    unit: str
    text: str
    variables: tuple[str, ...]


class Table(NamedTuple):
    """One table of the reference page."""

    title: str
    text: str
    rows: tuple[Row, ...]


def reference() -> Iterator[Table]:
    """Yield the tables of the settings page, from the structs themselves."""
    yield Table("Top level", "Keys outside any table.", tuple(_rows(Config, "", TOP_LEVEL)))
    for name, cls in SECTIONS.items():
        text = _summary(cls)
        yield Table(f"[{name}]", text, tuple(_rows(cls, name, cls.__struct_fields__)))
    for tag, destination in DESTINATIONS.items():
        title = f'[[delivery.destinations]] type = "{tag}"'
        rows = tuple(_rows(destination, "", destination.__struct_fields__, variables=False))
        yield Table(title, _summary(destination), rows)


def _summary(cls: type[Section]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _rows(
    cls: type[Section], section: str, keys: tuple[str, ...], *, variables: bool = True
) -> Iterator[Row]:
    prefix = f"{section}." if section else ""
    for field in msgspec.structs.fields(cls):
        if field.name not in keys:
            continue
        wanted, meta = get_args(field.type)[0], get_args(field.type)[1]
        extra = meta.extra or {}
        names = _variables(prefix + field.name) if variables else ()
        is_secret = wanted is Secret
        default = "" if is_secret or field.default is None else _text(plain(field.default))
        text = str(meta.description)
        if is_secret:
            text += f" Only by variable, or by `{field.name}_file`."
        yield Row(field.name, _kind(wanted), default, str(extra.get("unit", "")), text, names)


def _variables(setting: str) -> tuple[str, ...]:
    own = "STENO_" + setting.upper().replace(".", "_")
    return (own, *(name for name, of in TUTORIAL_NAMES if of == setting))


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _kind(wanted: object) -> str:
    origin, args = get_origin(wanted), get_args(wanted)
    if origin is tuple:
        return "array of tables" if len(args[:1]) and _is_struct_union(args[0]) else "array"
    if origin is Literal:
        return " \\| ".join(f"`{one}`" for one in args)
    options = [one for one in args if one is not NoneType] or [wanted]
    first = options[0]
    if isinstance(first, type) and issubclass(first, Enum):
        return " \\| ".join(f"`{one.value}`" for one in first)
    names: dict[type, str] = {str: "string", float: "number", int: "integer", bool: "boolean"}
    names |= {Path: "path", Secret: "secret"}
    return names.get(first, "string") if isinstance(first, type) else "string"


def _is_struct_union(wanted: object) -> bool:
    return any(isinstance(one, type) and issubclass(one, Section) for one in get_args(wanted))
