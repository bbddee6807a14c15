"""HTTP message signatures of AudioHook upgrades: made, verified, and kept from replay.

The profile is small and fixed, and the verifier knows nothing beyond it: one signature by
HMAC-SHA256 over at least six components, of a key named in ``X-API-KEY``. What a caller sends
never widens it. Verification ends in a value, accepted or refused with a fixed word; an unknown
key costs the same work as a wrong signature, and looks the same from outside.

Source: draft-ietf-httpbis-message-signatures-11; RFC 8941 (structured fields); AudioHook
protocol 2, HTTP message signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from steno.core.secret import Secret
from steno.errors import ConfigError
from steno.ports.audio_server import UpgradeRequest
from steno.wire.audiohook.messages import is_uuid

ORGANIZATION_HEADER: Final = "audiohook-organization-id"
SESSION_HEADER: Final = "audiohook-session-id"
CORRELATION_HEADER: Final = "audiohook-correlation-id"
KEY_HEADER: Final = "x-api-key"
INPUT_HEADER: Final = "signature-input"
SIGNATURE_HEADER: Final = "signature"
TARGET: Final = "@request-target"
AUTHORITY: Final = "@authority"
COMPONENTS: Final = (
    TARGET,
    AUTHORITY,
    ORGANIZATION_HEADER,
    SESSION_HEADER,
    CORRELATION_HEADER,
    KEY_HEADER,
)
MIN_NONCE_CHARS: Final = 22  # 16 bytes in base64
MAX_NONCE_CHARS: Final = 256
MAX_HEADER_CHARS: Final = 4096
ALGORITHM: Final = "hmac-sha256"

_ID_HEADERS: Final = (ORGANIZATION_HEADER, SESSION_HEADER, CORRELATION_HEADER)
_DUMMY_KEY: Final = bytes(32)
_KEY_ID: Final = re.compile(r"\A[A-Za-z0-9+/_-]{1,512}={0,2}\Z")
_MEMBER: Final = re.compile(r"([a-z*][a-z0-9_.*-]*)=\(")
_STRING: Final = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")
_PARAMETER: Final = re.compile(r"; *([a-z*][a-z0-9_.*-]*)=")
_INTEGER: Final = re.compile(r"[0-9]{1,15}(?![0-9.])")
_SPACES: Final = re.compile(r" *")
_SIGNATURE: Final = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):")
_STRINGS: Final = frozenset(("keyid", "nonce", "alg"))
_INTEGERS: Final = frozenset(("created", "expires"))


class Refused(Exception):
    """Carries the fixed word of a refusal, and nothing of the request."""

    @property
    def reason(self) -> str:
        """The word."""
        return str(self.args[0])


# --- keys ------------------------------------------------------------------------------------


class Keyring:
    """API keys with their decoded secrets; an empty one allows unsigned requests. Shows nothing.

    Args:
        secrets: Secret as text in base64, by API key.

    Raises:
        ConfigError: A key or a secret is not of its form.
    """

    __slots__ = ("_keys",)

    def __init__(self, secrets: Mapping[str, str]) -> None:
        for key_id in secrets:
            if _KEY_ID.match(key_id) is None:
                raise ConfigError(
                    "an AudioHook API key has characters that are not allowed",
                    setting="media.audiohook_keys",
                    fix="Letters, digits, + / _ - and up to two = at the end are.",
                )
        self._keys = {key_id: decode_secret(text) for key_id, text in secrets.items()}

    @classmethod
    def parse(cls, setting: Secret) -> Keyring:
        """Return the keys of a JSON object of API key to base64 secret; none when it is empty.

        Raises:
            ConfigError: Not such an object.
        """
        if not setting:
            return cls({})
        try:
            secrets = msgspec.json.decode(setting.reveal(), type=dict[str, str])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            # ``from None``: the text of such an error quotes what it read.
            raise ConfigError(
                "the AudioHook keys are not a JSON object of key to secret",
                setting="media.audiohook_keys",
                origin=setting.file,
            ) from None
        return cls(secrets)

    def get(self, key_id: str) -> bytes | None:
        """Return a key's secret; None for an unknown key."""
        return self._keys.get(key_id)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Keyring({len(self._keys)} keys)"


def decode_secret(text: str) -> bytes:
    """Return the bytes of a client secret: base64, as typed into the integration.

    Raises:
        ConfigError: It is not base64.
    """
    try:
        return base64.b64decode(text.strip().encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ConfigError(
            "an AudioHook client secret is not base64",
            setting="media.audiohook_keys",
            fix="Copy it from the integration as it stands; it is decoded here.",
        ) from None


# --- signing ---------------------------------------------------------------------------------


class Upgrade(msgspec.Struct, frozen=True):
    """What an upgrade's signature is about; ``authority`` as dialled, in lower case."""

    target: str
    authority: str
    organization: str
    session: str
    correlation: str
    key_id: str

    def values(self) -> dict[str, str]:
        """Return the six components by name."""
        return dict(
            zip(
                COMPONENTS,
                (
                    self.target,
                    self.authority,
                    self.organization,
                    self.session,
                    self.correlation,
                    self.key_id,
                ),
                strict=True,
            )
        )

    def __repr__(self) -> str:
        return f"Upgrade(session={self.session!r})"


def sign(
    upgrade: Upgrade, secret: bytes, *, nonce: str, created: int, expires: int
) -> tuple[tuple[str, str], ...]:
    """Return ``Signature-Input`` and ``Signature``, as the platform's client makes them.

    Args:
        upgrade: What is signed.
        secret: Decoded.
        nonce: At least 16 random bytes in base64, used once.
        created, expires: Seconds of UTC.
    """
    names = " ".join(f'"{name}"' for name in COMPONENTS)
    parameters = (
        f'({names});keyid="{upgrade.key_id}";nonce="{nonce}";alg="{ALGORITHM}"'
        f";created={created};expires={expires}"
    )
    base = signature_base(COMPONENTS, upgrade.values(), parameters)
    digest = hmac.new(secret, base.encode("ascii"), hashlib.sha256).digest()
    return (
        (INPUT_HEADER, f"sig1={parameters}"),
        (SIGNATURE_HEADER, f"sig1=:{base64.b64encode(digest).decode()}:"),
    )


def signature_base(components: Sequence[str], values: Mapping[str, str], parameters: str) -> str:
    """Return the text that is signed: a line for each component, no line feed at the end."""
    lines = [f'"{name}": {values[name]}' for name in components]
    lines.append(f'"@signature-params": {parameters}')
    return "\n".join(lines)


# --- reading ---------------------------------------------------------------------------------


class SignatureInput(NamedTuple):
    """``Signature-Input`` as read; ``parameters`` is the serialized text from the parenthesis."""

    label: str
    components: tuple[str, ...]
    strings: dict[str, str]
    integers: dict[str, int]
    parameters: str


def parse_input(text: str) -> SignatureInput:
    """Return the one member of a ``Signature-Input`` field.

    Raises:
        Refused: More than one member, or anything that the profile does not have.
    """
    text = text.strip(" ")
    member = _MEMBER.match(text)
    if member is None or len(text) > MAX_HEADER_CHARS:
        raise Refused("input-form")
    components, at = _components(text, member.end())
    strings: dict[str, str] = {}
    integers: dict[str, int] = {}
    while at < len(text):
        parameter = _PARAMETER.match(text, at)
        if parameter is None:
            raise Refused("input-form")  # a second member, a bare flag, or rubbish
        name = parameter[1]
        if name in strings or name in integers:
            raise Refused("parameter-repeated")
        if name in _STRINGS:
            value = _STRING.match(text, parameter.end())
            if value is not None:
                strings[name] = _unescape(value[1])
        elif name in _INTEGERS:
            value = _INTEGER.match(text, parameter.end())
            if value is not None:
                integers[name] = int(value[0])
        else:
            raise Refused("parameter-unknown")
        if value is None:
            raise Refused("parameter-form")
        at = value.end()
    # Exactly as it was serialized: what is rebuilt might differ from what was signed.
    return SignatureInput(member[1], components, strings, integers, text[member.end() - 1 :])


def _components(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """Read the inner list behind its parenthesis; return its names, and where it ends."""
    names: list[str] = []
    while True:
        spaces = _SPACES.match(text, at)
        gap = 0 if spaces is None else spaces.end() - at
        at += gap
        if text.startswith(")", at):
            break
        name = _STRING.match(text, at)
        if name is None or (names and not gap):
            raise Refused("input-form")
        names.append(_unescape(name[1]))
        at = name.end()
        if text.startswith(";", at):
            raise Refused("component-parameters")
    if len(set(names)) != len(names):
        raise Refused("component-repeated")
    return tuple(names), at + 1


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def parse_signature(text: str) -> tuple[str, bytes]:
    """Return label and bytes of the one member of a ``Signature`` field.

    Raises:
        Refused: Not exactly one byte sequence.
    """
    member = _SIGNATURE.fullmatch(text.strip(" "))
    if member is None or len(text) > MAX_HEADER_CHARS:
        raise Refused("signature-form")
    try:
        value = base64.b64decode(member[2].encode("ascii"), validate=True)
    except binascii.Error:
        raise Refused("signature-form") from None
    # One spelling for one signature: base64 has spare bits at its end.
    if base64.b64encode(value).decode() != member[2]:
        raise Refused("signature-form")
    return member[1], value


def public_authority(request: UpgradeRequest, configured: str = "") -> str:
    """Return ``@authority``: as configured, else the Host header; default port left out."""
    authority = (configured or request.header("host")).strip().lower()
    port = ":443" if configured or request.secure else ":80"
    return authority.removesuffix(port)


def public_target(request: UpgradeRequest, configured_path: str = "") -> str:
    """Return ``@request-target``: the request line's, its path replaced where configured."""
    if not configured_path:
        return request.target
    _, mark, query = request.target.partition("?")
    return configured_path + mark + query


def component_values(
    request: UpgradeRequest, components: Sequence[str], *, authority: str, target: str
) -> dict[str, str]:
    """Return the value of each component.

    Raises:
        Refused: A component that we cannot know, or a header that is not there.
    """
    values: dict[str, str] = {}
    for name in components:
        if name == TARGET:
            values[name] = target
        elif name == AUTHORITY:
            values[name] = authority
        else:
            found = [value.strip() for key, value in request.headers if key == name]
            if not found or name in (INPUT_HEADER, SIGNATURE_HEADER):
                raise Refused("component-unknown")
            values[name] = ", ".join(found)
    return values


# --- verifying -------------------------------------------------------------------------------


class Rules(msgspec.Struct, frozen=True):
    """What a signature has to obey.

    Attributes:
        age_s: Since ``created``, at most.
        skew_s: By how much the caller's clock may be off.
        authority: ``host[:port]`` as dialled; empty: the Host header counts.
        path: Path as dialled, where a proxy changes it.
        created_from: UTC seconds; what was signed before is refused. With the start of the
            process it keeps a replay from passing a nonce cache that a restart has emptied.
    """

    age_s: float = 10.0
    skew_s: float = 3.0
    authority: str = ""
    path: str = ""
    created_from: int = 0

    @property
    def keep_nonces_s(self) -> float:
        """Twice the time for which one signature can be valid."""
        return 2 * (self.age_s + 2 * self.skew_s)


class NonceCache:
    """Nonces in use, bounded; when it is full, callers are refused and nothing is forgotten.

    Args:
        keep_s: How long a nonce is kept: ``Rules.keep_nonces_s``.
        capacity: Nonces at once.
    """

    def __init__(self, keep_s: float, *, capacity: int = 100_000) -> None:
        self._keep_s = keep_s
        self._capacity = capacity
        self._until: dict[tuple[str, str], float] = {}  # in order of time

    def claim(self, key_id: str, nonce: str, now: float) -> str:
        """Take a nonce; return an empty text, or why not: ``replay``, ``nonces-full``."""
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now:
                break
            del self._until[oldest]
        if (key_id, nonce) in self._until:
            return "replay"
        if len(self._until) >= self._capacity:
            return "nonces-full"
        self._until[key_id, nonce] = now + self._keep_s
        return ""

    def __len__(self) -> int:
        return len(self._until)


class Verdict(msgspec.Struct, frozen=True):
    """Whether an upgrade may pass.

    Attributes:
        accepted: It may.
        reason: A fixed word; ``signed`` or ``unsigned`` when accepted. For our log: the caller
            learns nothing from us but the refusal.
        organization, session, correlation: From the headers; empty where they are malformed.
    """

    accepted: bool
    reason: str
    organization: str = ""
    session: str = ""
    correlation: str = ""


def verify(
    request: UpgradeRequest,
    keyring: Keyring,
    nonces: NonceCache,
    *,
    utc_s: float,
    now: float,
    rules: Rules | None = None,
) -> Verdict:
    """Decide about an upgrade; raises for no request.

    A refusal should be answered late (at least 500 ms) and in the same way whatever the reason.

    Args:
        request: As it came; header names in lower case.
        keyring: Keys that may call.
        nonces: Shared by all connections.
        utc_s: Wall clock, seconds.
        now: Monotonic seconds.
        rules: Limits and the public address.
    """
    rules = rules or Rules()
    ids = ("", "", "")
    try:
        organization, session, correlation = ids = _ids(request)
        key_id = _single(request, KEY_HEADER, "api-key")
        if _KEY_ID.match(key_id) is None:
            raise Refused("api-key")
        reason = _verify(request, key_id, keyring, nonces, utc_s=utc_s, now=now, rules=rules)
        return Verdict(True, reason, organization, session, correlation)
    except Refused as refused:
        return Verdict(False, refused.reason, *ids)


def _ids(request: UpgradeRequest) -> tuple[str, str, str]:
    found = [_single(request, name, name.removeprefix("audiohook-")) for name in _ID_HEADERS]
    for name, value in zip(_ID_HEADERS, found, strict=True):
        if not is_uuid(value):
            raise Refused(name.removeprefix("audiohook-"))
    return found[0], found[1], found[2]


def _single(request: UpgradeRequest, name: str, reason: str) -> str:
    """Return the header that must be there exactly once."""
    found = [value.strip() for key, value in request.headers if key == name]
    if len(found) != 1:
        raise Refused(reason)
    return found[0]


def _verify(
    request: UpgradeRequest,
    key_id: str,
    keyring: Keyring,
    nonces: NonceCache,
    *,
    utc_s: float,
    now: float,
    rules: Rules,
) -> str:
    secret = keyring.get(key_id)
    names = {name for name, _ in request.headers}
    if INPUT_HEADER not in names and SIGNATURE_HEADER not in names:
        if secret == b"":
            return "unsigned"
        raise Refused("unsigned")
    read = parse_input(_single(request, INPUT_HEADER, "input-repeated"))
    label, told = parse_signature(_single(request, SIGNATURE_HEADER, "signature-repeated"))
    if label != read.label:
        raise Refused("label")
    nonce, created = check_profile(read, key_id)
    values = component_values(
        request,
        read.components,
        authority=public_authority(request, rules.authority),
        target=public_target(request, rules.path),
    )
    try:
        base = signature_base(read.components, values, read.parameters).encode("ascii")
    except UnicodeEncodeError:
        raise Refused("not-ascii") from None
    # The same work for a key that nobody has: how long it takes says nothing about keys.
    expected = hmac.new(secret or _DUMMY_KEY, base, hashlib.sha256).digest()
    matches = hmac.compare_digest(expected, told)
    if not secret:
        raise Refused("unknown-key" if secret is None else "key-without-secret")
    if not matches:
        raise Refused("mismatch")
    _check_times(created, read.integers.get("expires"), utc_s, rules)
    # Last: only who knows the secret can fill the cache.
    if reason := nonces.claim(key_id, nonce, now):
        raise Refused(reason)
    return "signed"


def check_profile(read: SignatureInput, key_id: str) -> tuple[str, int]:
    """Return nonce and time of a signature that covers and carries what it must.

    Raises:
        Refused: It does not.
    """
    if not set(COMPONENTS) <= set(read.components):
        raise Refused("component-missing")
    if read.strings.get("alg", ALGORITHM) != ALGORITHM:
        raise Refused("algorithm")
    if not hmac.compare_digest(read.strings.get("keyid", "").encode(), key_id.encode()):
        raise Refused("keyid")
    nonce = read.strings.get("nonce", "")
    if not MIN_NONCE_CHARS <= len(nonce) <= MAX_NONCE_CHARS:
        raise Refused("nonce")
    created = read.integers.get("created")
    if created is None:
        raise Refused("created-missing")
    return nonce, created


def _check_times(created: int, expires: int | None, utc_s: float, rules: Rules) -> None:
    if created > utc_s + rules.skew_s:
        raise Refused("created-ahead")
    earliest = utc_s - rules.skew_s
    if earliest - created > rules.age_s:
        raise Refused("too-old")
    if expires is not None and expires < earliest:
        raise Refused("expired")
    if created < rules.created_from:
        raise Refused("before-start")
