"""Proofs: a key or assertion as text or file, signatures others can verify, nothing shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from steno.adapters.secrets import load_signer, proof_of
from steno.core.secret import Secret
from steno.errors import ConfigError
from steno.wire.oauth import ReadyProof, SecretProof, SignedProof

NONE = Secret("")
READY = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJhIn0.c2ln"


def pem_of(key: PrivateKeyTypes, password: bytes | None = None) -> str:
    """Write a key as PEM."""
    seal: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        seal = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, seal
    ).decode()


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    """Make one key for the module: it takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_secret_alone_is_a_secret_proof() -> None:
    """The usual case."""
    proof = proof_of(client_secret=Secret("s"), private_key=NONE, jwt_config=NONE)
    assert proof == SecretProof(Secret("s"))


def test_nothing_at_all_is_a_config_error() -> None:
    """It names the variables that help."""
    with pytest.raises(ConfigError, match="GENESYS_PRIVATE_KEY"):
        proof_of(client_secret=NONE, private_key=NONE, jwt_config=NONE)


def test_key_goes_before_the_secret(rsa_key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    """As text, with written-out line ends, or as a file; all sign alike."""
    pem = pem_of(rsa_key)
    path = tmp_path / "key.pem"
    path.write_text(pem)
    path.chmod(0o600)
    signatures = set()
    for given in (pem, pem.replace("\n", "\\n"), str(path)):
        proof = proof_of(client_secret=Secret("s"), private_key=Secret(given), jwt_config=NONE)
        assert isinstance(proof, SignedProof)
        assert "BEGIN" not in repr(proof)
        signatures.add(proof.sign(b"data"))
    assert len(signatures) == 1
    rsa_key.public_key().verify(signatures.pop(), b"data", padding.PKCS1v15(), hashes.SHA256())


def test_jwt_settings_choose_the_algorithm(rsa_key: rsa.RSAPrivateKey) -> None:
    """JSON beside the key says how to sign."""
    proof = proof_of(
        client_secret=NONE,
        private_key=Secret(pem_of(rsa_key)),
        jwt_config=Secret('{"alg": "PS384", "kid": "k"}'),
    )
    assert isinstance(proof, SignedProof)
    assert proof.config.kid == "k"
    filling = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH)
    rsa_key.public_key().verify(proof.sign(b"data"), b"data", filling, hashes.SHA384())


@pytest.mark.parametrize("as_file", [False, True])
def test_ready_assertion_goes_first(as_file: bool, tmp_path: Path) -> None:
    """A JWT instead of settings is sent as it is."""
    given = READY
    if as_file:
        path = tmp_path / "jwt"
        path.write_text(READY + "\n")
        path.chmod(0o600)
        given = str(path)
    proof = proof_of(client_secret=Secret("s"), private_key=NONE, jwt_config=Secret(given))
    assert proof == ReadyProof(Secret(READY))


@pytest.mark.parametrize(
    ("algorithm", "curve", "digest"),
    [
        ("ES256", ec.SECP256R1(), hashes.SHA256()),
        ("ES384", ec.SECP384R1(), hashes.SHA384()),
        ("ES512", ec.SECP521R1(), hashes.SHA512()),
    ],
)
def test_curve_signatures_are_r_and_s_side_by_side(
    algorithm: str, curve: ec.EllipticCurve, digest: hashes.HashAlgorithm
) -> None:
    """JWS has no DER in it."""
    key = ec.generate_private_key(curve)
    raw = load_signer(Secret(pem_of(key)), algorithm, setting="x")(b"data")
    half = (curve.key_size + 7) // 8
    assert len(raw) == 2 * half
    r, s = int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
    key.public_key().verify(encode_dss_signature(r, s), b"data", ec.ECDSA(digest))


def test_ed25519_signs_too() -> None:
    """EdDSA of RFC 8037."""
    key = ed25519.Ed25519PrivateKey.generate()
    signature = load_signer(Secret(pem_of(key)), "EdDSA", setting="x")(b"data")
    key.public_key().verify(signature, b"data")


def test_keys_that_do_not_fit_are_refused(rsa_key: rsa.RSAPrivateKey) -> None:
    """Wrong kind, wrong curve, too short, with a password, or no key."""
    curve = pem_of(ec.generate_private_key(ec.SECP384R1()))
    short = pem_of(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    for pem, algorithm in [
        (pem_of(rsa_key), "ES256"),
        (curve, "ES256"),
        (curve, "RS256"),
        (short, "RS256"),
        (pem_of(rsa_key, b"pw"), "RS256"),
        ("-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----", "RS256"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_signer(Secret(pem), algorithm, setting="platform.private_key")
        assert "planted" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o666])
def test_key_file_open_to_others_is_refused(
    mode: int, rsa_key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    """The error tells the mode and the cure."""
    path = tmp_path / "key.pem"
    path.write_text(pem_of(rsa_key))
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        proof_of(client_secret=NONE, private_key=Secret(str(path)), jwt_config=NONE)


@pytest.mark.parametrize(
    "given", ["/no/such/file", "planted-secret", "\0", "~nobody-here/key", "/"]
)
def test_what_is_neither_text_nor_file_is_not_quoted(given: str) -> None:
    """It may be a secret pasted badly."""
    for key, jwt_config in ((Secret(given), NONE), (NONE, Secret(given))):
        with pytest.raises(ConfigError) as caught:
            proof_of(client_secret=NONE, private_key=key, jwt_config=jwt_config)
        assert "planted" not in str(caught.value)


def test_file_with_something_else_is_refused(tmp_path: Path) -> None:
    """A key is asked for, a shopping list found."""
    path = tmp_path / "list"
    path.write_text("eggs")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="does not hold"):
        proof_of(client_secret=NONE, private_key=Secret(str(path)), jwt_config=NONE)
