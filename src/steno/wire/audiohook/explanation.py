"""Why a captured upgrade's signature does not verify: which component differs, and the cause.

A signature is a yes or a no, so the cause is found by trying: the mistakes that people report,
alone first, then together, until one way of signing gives the signature that was captured.

Neither the secret nor the API key appears in what is returned.

Source: AudioHook protocol 2, HTTP message signature; how servers behind proxies fail.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple

import msgspec

from steno.errors import ConfigError, RemoteProtocolError
from steno.ports.audio_server import UpgradeRequest
from steno.wire.audiohook.messages import is_uuid
from steno.wire.audiohook.signature import (
    AUTHORITY,
    COMPONENTS,
    CORRELATION_HEADER,
    INPUT_HEADER,
    KEY_HEADER,
    ORGANIZATION_HEADER,
    SESSION_HEADER,
    SIGNATURE_HEADER,
    TARGET,
    Refused,
    Rules,
    SignatureInput,
    check_profile,
    component_values,
    decode_secret,
    parse_input,
    parse_signature,
    public_authority,
    public_target,
    signature_base,
)

HIDDEN: Final = "[hidden]"
MAX_CAPTURE_CHARS: Final = 65_536
_MAX_TRIES: Final = 50_000
_KEY_ID: Final = re.compile(r'keyid="(?:[^"\\]|\\.)*"')
_SHOWN: Final = frozenset(COMPONENTS) - {KEY_HEADER}

_REFUSALS: Final = {
    "input-form": "Signature-Input has not the form sig1=(...);... of exactly one signature.",
    "signature-form": "Signature has not the form sig1=:base64: of exactly one signature.",
    "parameter-repeated": "A signature parameter is there twice.",
    "parameter-unknown": "There is a signature parameter that this profile does not have.",
    "parameter-form": "A signature parameter has a value of the wrong type.",
    "component-parameters": "A covered component has parameters of its own.",
    "component-repeated": "A component is covered twice.",
    "component-missing": "One of the six components that must be covered is not.",
    "component-unknown": "A covered header is not in the request: a proxy may have removed it.",
    "label": "Signature-Input and Signature have different labels.",
    "algorithm": "alg is not hmac-sha256.",
    "keyid": "keyid is not the X-API-KEY: the key was changed on the way, or is another one.",
    "nonce": "nonce is missing, or has fewer than 22 characters.",
    "created-missing": "created is missing.",
}


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked: a component or a step, the result, a fixed explanation."""

    check: str
    ok: bool
    text: str


class Explanation(msgspec.Struct, frozen=True):
    """What was found out.

    Attributes:
        matches: The signature verifies as the request and the settings stand.
        findings: In the order of the checks.
        base_lines: The signature base as built here; key and further headers hidden.
        signed_lines: As the signer must have built it, where that was found; else empty.
    """

    matches: bool
    findings: tuple[Finding, ...]
    base_lines: tuple[str, ...] = ()
    signed_lines: tuple[str, ...] = ()


class _Option(NamedTuple):
    """A way to get one part of the signature; ``check`` is empty for the right way."""

    check: str
    text: str
    value: str | bytes


def parse_capture(text: str, *, secure: bool = True) -> UpgradeRequest:
    """Return the upgrade of a captured HTTP request: request line, headers, nothing needed after.

    Args:
        text: As a proxy or a packet capture shows it; lines end in LF or CR LF.
        secure: It came over TLS, which decides the default port.

    Raises:
        RemoteProtocolError: It is no HTTP request.
    """
    if len(text) > MAX_CAPTURE_CHARS:
        raise RemoteProtocolError("the captured request is too large")
    lines = text.lstrip("\r\n").replace("\r\n", "\n").split("\n")
    first = lines[0].split()
    if len(first) != 3 or first[0].upper() != "GET" or not first[2].startswith("HTTP/"):
        raise RemoteProtocolError(
            "the capture does not begin with a request line", fix="It has to be GET /... HTTP/1.1."
        )
    headers: list[tuple[str, str]] = []
    for line in lines[1:]:
        if not line.strip():
            break
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise RemoteProtocolError("a captured header has no name and value")
        headers.append((name.strip().lower(), value.strip()))
    path = first[1].partition("?")[0]
    return UpgradeRequest(first[1], path, tuple(headers), "", secure)


def explain(
    request: UpgradeRequest,
    secret: str,
    *,
    rules: Rules | None = None,
    authorities: Sequence[str] = (),
    paths: Sequence[str] = (),
    utc_s: float | None = None,
) -> Explanation:
    """Return why a captured upgrade verifies or not; raises for no request and no secret.

    Args:
        request: As captured at the server.
        secret: The client secret as text, as somebody has typed it somewhere.
        rules: As the server has them: public authority and path, ages.
        authorities, paths: Further ones under which callers might know the server.
        utc_s: When the request came; None: its age is not looked at.
    """
    rules = rules or Rules()
    findings = list(_header_findings(request))
    try:
        read, told = _read(request)
        values = component_values(
            request,
            read.components,
            authority=public_authority(request, rules.authority),
            target=public_target(request, rules.path),
        )
    except Refused as refused:
        findings.append(Finding("profile", False, _text_of(refused.reason)))
        return Explanation(False, tuple(findings))
    findings.append(Finding("profile", True, "Signature-Input and Signature are well formed."))
    if utc_s is not None:
        findings.append(_age_finding(read, utc_s, rules))
    base_lines = _masked(read, values)
    found = _search(request, secret, read, told, values, authorities, paths)
    if found is None:
        findings.append(
            Finding(
                "signature",
                False,
                "No known mistake gives this signature. Either the secret is not the one of the "
                "integration, or a proxy changes host or path in a way that the request does not "
                "show: name the address as typed into the integration.",
            )
        )
        return Explanation(False, tuple(findings), base_lines)
    wrong, signed = found
    differing = {option.check for option in wrong}
    findings.extend(
        Finding(name, True, "As signed.") for name in COMPONENTS if name not in differing
    )
    findings.extend(Finding(option.check, False, option.text) for option in wrong)
    if not wrong:
        findings.append(Finding("signature", True, "The signature verifies."))
    return Explanation(
        not wrong, tuple(findings), base_lines, _masked(read, signed) if wrong else ()
    )


def _text_of(reason: str) -> str:
    return _REFUSALS.get(reason, "The signature headers are not what the protocol wants.")


def _header_findings(request: UpgradeRequest) -> Iterator[Finding]:
    needed = (
        ORGANIZATION_HEADER,
        SESSION_HEADER,
        CORRELATION_HEADER,
        KEY_HEADER,
        INPUT_HEADER,
        SIGNATURE_HEADER,
    )
    for name in needed:
        found = [value for key, value in request.headers if key == name]
        if not found:
            yield Finding(name, False, "The header is missing: not sent, or removed by a proxy.")
        elif len(found) > 1:
            yield Finding(name, False, "The header is there more than once.")
        elif name.startswith("audiohook-") and not is_uuid(found[0].strip()):
            yield Finding(name, False, "The header is not a UUID of version 1 to 5.")


def _read(request: UpgradeRequest) -> tuple[SignatureInput, bytes]:
    read = parse_input(request.header(INPUT_HEADER))
    label, told = parse_signature(request.header(SIGNATURE_HEADER))
    if label != read.label:
        raise Refused("label")
    check_profile(read, request.header(KEY_HEADER).strip())
    return read, told


def _age_finding(read: SignatureInput, utc_s: float, rules: Rules) -> Finding:
    created = read.integers["created"]
    expires = read.integers.get("expires")
    if created > utc_s + rules.skew_s:
        return Finding("created", False, "Signed in the future: one of the two clocks is wrong.")
    earliest = utc_s - rules.skew_s
    if earliest - created > rules.age_s or (expires is not None and expires < earliest):
        return Finding("created", False, "Too old: a clock is wrong, or the request was held up.")
    return Finding("created", True, "Fresh.")


# --- trying ----------------------------------------------------------------------------------


def _search(
    request: UpgradeRequest,
    secret: str,
    read: SignatureInput,
    told: bytes,
    values: Mapping[str, str],
    authorities: Sequence[str],
    paths: Sequence[str],
) -> tuple[tuple[_Option, ...], dict[str, str]] | None:
    """Return the smallest set of mistakes that gives the signature, and the values signed."""
    dimensions = (
        list(_secrets(secret)),
        list(_targets(request, values[TARGET], values[AUTHORITY], paths)),
        list(_authorities(request, values[AUTHORITY], authorities)),
        [
            _Option("", "", ""),
            _Option(
                SESSION_HEADER,
                "Signed with session id and correlation id exchanged (an old print of the "
                "published example has them so).",
                "",
            ),
        ],
        [
            _Option("", "", ""),
            _Option("base", "Signed with a line feed at the end of the base.", "\n"),
            _Option("base", "Signed with CR LF between the lines of the base.", "\r\n"),
        ],
    )
    ways = sorted(product(*dimensions), key=lambda way: sum(bool(one.check) for one in way))
    for key, target, authority, swap, ends in ways[:_MAX_TRIES]:
        signed = {**values, TARGET: str(target.value), AUTHORITY: str(authority.value)}
        if swap.check:
            signed[SESSION_HEADER] = values[CORRELATION_HEADER]
            signed[CORRELATION_HEADER] = values[SESSION_HEADER]
        base = signature_base(read.components, signed, read.parameters)
        if ends.value == "\n":
            base += "\n"
        elif ends.value:
            base = base.replace("\n", "\r\n")
        digest = hmac.new(_as_bytes(key.value), base.encode("latin-1", "replace"), hashlib.sha256)
        if hmac.compare_digest(digest.digest(), told):
            way = (key, target, authority, swap, ends)
            return tuple(one for one in way if one.check), signed
    return None


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _secrets(secret: str) -> Iterator[_Option]:
    """Yield the keys that people make out of a secret; the right one first."""
    text = secret.strip()
    raw = text.encode("utf-8", "replace")
    try:
        yield _Option("", "", decode_secret(secret))
    except ConfigError:
        try:
            decoded = base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
        except binascii.Error:
            decoded = b""
        yield _Option(
            "secret", "The secret is not plain base64: it was read as base64url.", decoded
        )
    yield _Option("secret", "Signed with the text of the secret: it was not base64-decoded.", raw)
    yield _Option(
        "secret", "Signed with the text of the secret and a line feed behind it.", raw + b"\n"
    )
    yield _Option(
        "secret",
        "The secret was base64-encoded once more before it was used.",
        base64.b64encode(raw),
    )


def _targets(
    request: UpgradeRequest, right: str, authority: str, paths: Sequence[str]
) -> Iterator[_Option]:
    """Yield request targets; the right one first."""
    yield _Option("", "", right)
    path, mark, query = right.partition("?")
    seen = {right}
    tries: list[tuple[str, str]] = [
        (f"get {right}", "Signed with the method in front of the target: it is path and query."),
        (f"GET {right}", "Signed with the method in front of the target: it is path and query."),
        (path, "Signed without the query."),
        (f"wss://{authority}{right}", "Signed with the whole URL: the target is path and query."),
        (request.target, "Signed over the path as it came: the configured public path is wrong."),
    ]
    slash = path[:-1] if path.endswith("/") else path + "/"
    tries.append((slash + mark + query, "A slash at the end of the path was added or removed."))
    rewritten = "Signed over another path: a proxy rewrites it. Set media.audiohook_public_path."
    originals = ("x-original-uri", "x-original-url", "x-rewrite-url", "x-forwarded-uri")
    tries.extend((request.header(name), rewritten) for name in originals)
    prefix = request.header("x-forwarded-prefix").rstrip("/")
    if prefix:
        tries.append((prefix + right, rewritten))
    for one in paths:
        tries.append((one, rewritten))
        tries.append((one.partition("?")[0] + mark + query, rewritten))
    yield from _new(TARGET, tries, seen)


def _authorities(
    request: UpgradeRequest, right: str, authorities: Sequence[str]
) -> Iterator[_Option]:
    """Yield authorities; the right one first."""
    yield _Option("", "", right)
    proxy = "Signed for another host: a proxy changes Host. Set media.public_authority."
    names = [*authorities]
    for name in ("x-forwarded-host", "x-original-host", "host", "x-forwarded-server"):
        names.extend(one.strip() for one in request.header(name).split(",") if one.strip())
    for part in request.header("forwarded").replace(",", ";").split(";"):
        key, _, value = part.strip().partition("=")
        if key.lower() == "host":
            names.append(value.strip('"'))
    tries = list(_spellings(right))
    tries.extend((one.lower(), proxy) for one in names)
    for one in names:
        tries.extend(_spellings(one.lower()))
    tries.append((request.header("host"), "Signed with the host as spelt: lower case is wanted."))
    yield from _new(AUTHORITY, tries, {right})


def _spellings(authority: str) -> Iterator[tuple[str, str]]:
    host, _, port = authority.rpartition(":")
    bare = host if port.isdigit() else authority
    kept = "Signed with the default port: it is to be left out."
    yield f"{bare}:443", kept
    yield f"{bare}:80", kept
    yield bare, "Signed without the port, which is not the default one."
    yield authority.upper(), "Signed with the host in capitals."


def _new(check: str, tries: Iterable[tuple[str, str]], seen: set[str]) -> Iterator[_Option]:
    for value, text in tries:
        if value and value not in seen:
            seen.add(value)
            yield _Option(check, text, value)


def _masked(read: SignatureInput, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the lines of a base without the key, and without headers we do not know."""
    shown = {name: value if name in _SHOWN else HIDDEN for name, value in values.items()}
    parameters = _KEY_ID.sub(f'keyid="{HIDDEN}"', read.parameters)
    return tuple(signature_base(read.components, shown, parameters).split("\n"))
