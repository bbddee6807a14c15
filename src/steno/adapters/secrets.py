"""Turns the secrets of the settings into the proof by which the OAuth client logs in.

``GENESYS_PRIVATE_KEY`` and ``GENESYS_JWT_CONFIG`` may hold the text itself or the path of a file
with it, as the tutorial's SDK takes both. Signing needs a library, so it is done here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from steno.core.secret import Secret
from steno.errors import ConfigError
from steno.wire.oauth import (
    JwtConfig,
    Proof,
    ReadyProof,
    SecretProof,
    Sign,
    SignedProof,
    decode_jwt_config,
    is_jwt,
)

MIN_RSA_BITS = 2048
MAX_FILE_BYTES = 64 * 1024

_OPEN_TO_OTHERS = 0o027
_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


def proof_of(
    *,
    client_secret: Secret,
    private_key: Secret,
    jwt_config: Secret,
    private_key_setting: str = "platform.private_key",
    jwt_config_setting: str = "platform.jwt_config",
) -> Proof:
    """Return how the client proves itself: by a ready assertion, by its key, or by its secret.

    Args:
        client_secret: Used when there is neither a key nor an assertion.
        private_key: PEM text, or the path of a PEM file.
        jwt_config: A ready assertion (JWT), the JSON that says how to make one, or the path of
            a file with either.
        private_key_setting: Name for errors.
        jwt_config_setting: Name for errors.

    Raises:
        ConfigError: None of them is given, one cannot be read, a file is open to others, or
            key and algorithm do not fit together. Nothing of a secret is quoted.
    """
    config = JwtConfig()
    if jwt_config:
        text = text_or_file(jwt_config, setting=jwt_config_setting, looks_like=_is_jwt_setting)
        if is_jwt(text.reveal()):
            return ReadyProof(text)
        config = decode_jwt_config(text.reveal(), setting=jwt_config_setting)
    if private_key:
        pem = text_or_file(private_key, setting=private_key_setting, looks_like=_is_pem)
        sign = load_signer(pem, config.alg, setting=private_key_setting)
        digest = hashlib.sha256(pem.reveal().encode()).hexdigest()
        return SignedProof(sign, Secret(digest), config)
    if client_secret:
        return SecretProof(client_secret)
    raise ConfigError(
        "there is nothing to log in with",
        setting="platform.client_secret",
        fix="Set OAUTH_CLIENT_SECRET, or GENESYS_PRIVATE_KEY with GENESYS_JWT_CONFIG",
    )


def text_or_file(value: Secret, *, setting: str, looks_like: Callable[[str], bool]) -> Secret:
    """Return ``value`` if it looks like the text itself, else the content of the file it names.

    The file's group may read it, since service managers hand credentials over like that; others
    may not.

    Raises:
        ConfigError: There is no such file, others may read it, or it holds something else. The
            value is not quoted: it may be a secret that was pasted badly.
    """
    text = value.reveal().strip()
    if looks_like(text):
        return Secret(text)
    try:
        with Path(text).expanduser().open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode & 0o777
            data = stream.read(MAX_FILE_BYTES + 1)
        content = data.decode().strip()
    except (OSError, ValueError, RuntimeError):  # no such file, no such text, no such home
        raise ConfigError(
            "neither the text itself nor a file that can be read", setting=setting
        ) from None
    if mode & _OPEN_TO_OTHERS:
        raise ConfigError(
            "the secret's file is open to others",
            setting=setting,
            mode=f"{mode:04o}",
            fix="Run chmod 600 on it",
        )
    if len(data) > MAX_FILE_BYTES or not looks_like(content):
        raise ConfigError("the file does not hold what is needed here", setting=setting)
    return Secret(content)


def load_signer(pem: Secret, algorithm: str, *, setting: str) -> Sign:
    """Return what signs bytes with a private key, in the form JWS wants (RFC 7518, 3).

    Args:
        pem: PEM text; a line end written out as backslash and n, as in many environment files,
            is taken for one.
        algorithm: One of ``wire.oauth.ALGORITHMS``.
        setting: Name for errors.

    Raises:
        ConfigError: No private key, one with a password, an RSA key under 2048 bits, or a key
            that does not fit the algorithm.
    """
    text = pem.reveal().replace("\\n", "\n")
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(
            "the private key cannot be read",
            setting=setting,
            fix="Give PEM (PKCS#8 or PKCS#1) without a password",
        ) from None
    sign = _signer(key, algorithm)
    if sign is None:
        raise ConfigError(
            "the private key does not fit the algorithm", setting=setting, algorithm=algorithm
        )
    return sign


def _signer(key: PrivateKeyTypes, algorithm: str) -> Sign | None:
    match key:
        case rsa.RSAPrivateKey() if key.key_size >= MIN_RSA_BITS and algorithm[:2] in ("RS", "PS"):
            return _rsa_signer(key, algorithm)
        case ec.EllipticCurvePrivateKey() if _CURVES.get(algorithm) == key.curve.name:
            return _ec_signer(key, algorithm)
        case ed25519.Ed25519PrivateKey() if algorithm == "EdDSA":
            return key.sign
        case _:
            return None


def _rsa_signer(key: rsa.RSAPrivateKey, algorithm: str) -> Sign:
    digest = _HASHES[algorithm[2:]]()
    filling: padding.AsymmetricPadding = padding.PKCS1v15()
    if algorithm.startswith("PS"):
        filling = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
    return lambda data: key.sign(data, filling, digest)


def _ec_signer(key: ec.EllipticCurvePrivateKey, algorithm: str) -> Sign:
    digest = _HASHES[algorithm[2:]]()
    size = (key.curve.key_size + 7) // 8

    def sign(data: bytes) -> bytes:
        # JWS wants r and s side by side, not the DER the library makes.
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    return sign


def _is_pem(text: str) -> bool:
    return text.startswith("-----BEGIN ")


def _is_jwt_setting(text: str) -> bool:
    return text.startswith("{") or is_jwt(text)
