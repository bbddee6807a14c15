"""Checks of what ``steno media`` needs: its port, certificate, keys, speech service and models."""

from __future__ import annotations

import errno
import json
import re
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from steno.adapters.doctor.consumers import GrpcPeer, check_grpc
from steno.adapters.doctor.findings import Area, Finding, Verdict, fail, failed_by, ok, warn
from steno.adapters.doctor.machine import check_writable
from steno.core.addresses import split_address
from steno.core.hosts import is_loopback
from steno.core.secret import Secret
from steno.errors import StenoError
from steno.wire.http import HttpExchange, HttpRequest

if TYPE_CHECKING:
    from cryptography import x509

CERTIFICATE_WARN: Final = timedelta(days=21)
SHORT_SECRET_BYTES: Final = 16
SHORT_TOKEN: Final = 16
LIMIT_S: Final = 10.0

ENGINES: Final[Mapping[str, tuple[str, str]]] = {
    "pocketsphinx": ("pocketsphinx", ""),
    "whisper": ("faster_whisper", "whisper"),
    "sherpa": ("sherpa_onnx", "sherpa"),
    "vosk": ("vosk", "vosk"),
    "text": ("lingua", "lingua"),
    "silero": ("onnxruntime", "whisper"),
}
"""What each engine imports, and the extra that installs it (empty: comes with Steno)."""

_API_KEY: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


# --- the server's side -----------------------------------------------------------------------


def check_listen(listen: str, *, has_tls: bool, behind_proxy: bool) -> list[Finding]:
    """Look whether the address can be listened on, and whether it may be without TLS.

    Raises:
        ConfigError: It is no address.
    """
    check = f"media address {listen}"
    host, port = split_address(listen, setting="media.listen")
    findings = [_bindable(check, host, port)]
    if not has_tls and not is_loopback(host) and not behind_proxy:
        what = "beyond loopback without TLS"
        fix = "Give media.tls_cert and media.tls_key, or name the proxy in media.behind_proxy"
        findings.append(fail(check, what, fix, Area.CONFIG))
    return findings


def _bindable(check: str, host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server does: what a closed connection left behind does not count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                fix = "Fine if that is `steno media` itself; else choose another media.listen"
                return warn(check, "somebody listens there already", fix, Area.MACHINE)
            what = f"it cannot be listened on ({type(error).__name__})"
            return fail(check, what, "Check media.listen and the port's rights", Area.MACHINE)
    return ok(check, "free", Area.MACHINE)


def check_certificate(certificate: Path, key: Path, *, now: datetime) -> list[Finding]:
    """Read certificate and key, look whether they belong together, and at the dates."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    check = "media certificate"
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except OSError as error:
        what = f"certificate or key cannot be read ({type(error).__name__})"
        return [fail(check, what, "Check media.tls_cert and media.tls_key", Area.CONFIG)]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = "certificate or key is no PEM, or the key has a password"
        return [fail(check, what, "Give PEM files, the key without password", Area.CONFIG)]
    if private.public_key() != chain[0].public_key():
        what = "certificate and key do not belong together"
        return [fail(check, what, "Check media.tls_cert and media.tls_key", Area.CONFIG)]
    findings = [_dates(check, chain[0], now)]
    if chain[0].issuer == chain[0].subject:
        fix = "Take one of a public authority: Genesys Cloud refuses self-signed ones"
        findings.append(warn(check, "it signs itself", fix, Area.CONFIG))
    if key.stat().st_mode & 0o027:
        fix = f"Run chmod 600 on {key.name}"
        findings.append(fail(check, "others can read its key", fix, Area.CONFIG))
    return findings


def _dates(check: str, certificate: x509.Certificate, now: datetime) -> Finding:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        fix = "Check the clock, or the certificate"
        return fail(check, f"it is valid only from {begins:%Y-%m-%d}", fix, Area.CONFIG)
    if now >= ends:
        return fail(check, f"it expired on {ends:%Y-%m-%d}", "Renew it", Area.CONFIG)
    what = f"valid until {ends:%Y-%m-%d}"
    if ends - now < CERTIFICATE_WARN:
        fix = "Renew it; a running `steno media` takes the new file by itself"
        return warn(check, what, fix, Area.CONFIG)
    return ok(check, what, Area.CONFIG)


def check_recordings(folder: Path) -> Finding:
    """Look whether recordings can be written, and remind that they are not redacted."""
    check = "recordings"
    if not folder.is_dir():
        return fail(check, "the folder is not there", "Make media.recordings", Area.MACHINE)
    found = check_writable(check, folder, "writable; recordings are not redacted")
    if found.verdict is Verdict.OK and folder.stat().st_mode & 0o077:
        what = f"others have rights on the folder (mode {folder.stat().st_mode & 0o777:04o})"
        return warn(check, what, "Run chmod 700 on it", Area.MACHINE)
    return found


# --- who may connect -------------------------------------------------------------------------


def check_audiohook_keys(keys: Mapping[str, bytes]) -> list[Finding]:
    """Look at the keys and the length of their decoded secrets; neither is ever shown."""
    check = "AudioHook keys"
    if not keys:
        fix = "Set media.audiohook_keys_file, if AudioHook is wanted"
        return [warn(check, "none: every AudioHook caller is refused", fix, Area.CONFIG)]
    findings = []
    for number, (key, secret) in enumerate(keys.items(), start=1):
        which = f"{check}: {number} of {len(keys)}"
        if not _API_KEY.fullmatch(key):
            what = "the key has a character that Genesys does not take"
            fix = "Take letters, digits and + / _ -, with up to two = at the end"
            findings.append(fail(which, what, fix, Area.CONFIG))
        elif not secret:
            fix = "Give the integration a client secret, unless this is a test"
            findings.append(warn(which, "no secret: unsigned callers are let in", fix, Area.CONFIG))
        elif len(secret) < SHORT_SECRET_BYTES:
            what = f"its secret has {len(secret)} bytes"
            findings.append(warn(which, what, "Take at least 32 random bytes", Area.CONFIG))
        else:
            findings.append(ok(which, f"its secret has {len(secret)} bytes", Area.CONFIG))
    return findings


async def check_bearer(
    tokens: Secret, *, jwks_url: str, check_url: str, http: HttpExchange
) -> list[Finding]:
    """Look at each way in which a caller of the JSON form can be known."""
    check = "bearer tokens of the JSON form"
    findings = []
    if tokens:
        given = re.split(r"[\s,]+", tokens.reveal().strip())
        short = sum(len(one) < SHORT_TOKEN for one in given)
        if short:
            what = f"{short} of {len(given)} are shorter than {SHORT_TOKEN} characters"
            findings.append(warn(check, what, "Take long random tokens", Area.CONFIG))
        else:
            findings.append(ok(check, f"{len(given)} fixed", Area.CONFIG))
    if jwks_url:
        findings.append(await _key_set(jwks_url, http))
    if check_url:
        what = f"asked for at {urlsplit(check_url).hostname}"
        findings.append(ok(check, what, Area.CONFIG))
    if not findings:
        fix = "Set media.bearer_tokens_file or media.bearer_jwks_url, if it is wanted"
        findings.append(warn(check, "none: every caller is refused", fix, Area.CONFIG))
    return findings


async def _key_set(url: str, http: HttpExchange) -> Finding:
    check = "keys of the bearer tokens"
    try:
        answer = await http.send(HttpRequest("GET", url), limit_s=LIMIT_S)
    except StenoError as error:
        return failed_by(check, error, area=Area.REACH)
    if answer.status != 200:
        what = f"their address answers {answer.status}"
        return fail(check, what, "Check media.bearer_jwks_url", Area.REACH)
    try:
        keys = json.loads(answer.body)["keys"]
        count = len([key for key in keys if key["kty"]])
    except (ValueError, TypeError, KeyError):
        what = "what their address answers is no JWKS"
        return fail(check, what, "Check media.bearer_jwks_url", Area.CONFIG)
    if not count:
        return fail(check, "the JWKS is empty", "Check media.bearer_jwks_url", Area.CONFIG)
    return ok(check, f"{count} in the JWKS", Area.CONFIG)


# --- recognition -----------------------------------------------------------------------------


async def check_speech(peer: GrpcPeer, *, limit_s: float = LIMIT_S) -> Finding:
    """Look whether the speech service answers; no audio is sent."""
    found = await check_grpc(peer, limit_s=limit_s)
    fix = found.fix
    if found.verdict is Verdict.FAIL and found.area is Area.CONSUMER:
        fix = "Start it, or check speech.address and TLS; audio waits media.replay_s at most"
    elif found.verdict is Verdict.WARN:
        fix = "Look at the speech service"
    return msgspec.structs.replace(found, check=f"speech service at {peer.address}", fix=fix)


def check_engine(what_for: str, name: str, model: str, *, may_be_named: bool) -> Finding:
    """Look whether an engine's library is installed and its model is there.

    Args:
        what_for: ``speech.engine``, ``media.identifier`` or ``media.voice_activity``.
        name: The engine, one of ``ENGINES``.
        model: File or folder; empty when it needs none.
        may_be_named: A model that is no path is a name, fetched once by the library.
    """
    check = f"{what_for} {name}"
    module, extra = ENGINES[name]
    if find_spec(module) is None:
        fix = f"pip install 'steno[{extra}]'" if extra else "Install Steno's own requirements"
        return fail(check, "its library is not installed", fix, Area.MACHINE)
    if not model:
        return ok(check, "installed", Area.MACHINE)
    path = Path(model).expanduser()
    if path.exists():
        return ok(check, "installed, its model is there", Area.MACHINE)
    if may_be_named and not model.startswith(("/", ".", "~")) and model.count("/") <= 1:
        fix = "Give a folder instead, if this machine must not fetch it"
        return warn(check, "installed; the model is a name, fetched once", fix, Area.MACHINE)
    return fail(check, "its model is not there", "Check the model's path", Area.CONFIG)
