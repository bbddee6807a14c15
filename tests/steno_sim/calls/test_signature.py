"""The simulator's signer against published vectors."""

from __future__ import annotations

import base64

import pytest

from steno_sim.calls.signature import COMPONENTS, Signing, sign, signature_base

# Vector 1 is published by the vendor; vector 2 shows a port and a query.
VECTORS = [
    (
        "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=",
        {
            "@request-target": "/api/v1/voicebiometrics/ws",
            "@authority": "audiohook.example.com",
            "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
            "audiohook-session-id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
            "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
            "x-api-key": "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh",
        },
        ("VGhpc0lzQVVuaXF1ZU5vbmNl", 1641013200, 3282026430),
        "NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=",
    ),
    (
        "aW52ZW50ZWQtc2hhcmVkLXNlY3JldC1mb3ItdGVzdHM=",
        {
            "@request-target": "/audiohook/live?tenant=blue",
            "@authority": "stt.example.org:8443",
            "audiohook-organization-id": "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01",
            "audiohook-session-id": "0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22",
            "audiohook-correlation-id": "c4e8f1a6-93b2-4d07-b5c8-1e2f3a4b5c6d",
            "x-api-key": "ZGVtby1hcGkta2V5LTAx",
        },
        ("bm9uY2UtMDAwMS1hYmNkZWY", 1767225600, 1767225610),
        "4jF/SlndXmJXZjcIEFwylGM/QIAftQQnIDrWVMDLC30=",
    ),
]


@pytest.mark.parametrize(("secret", "components", "parameters", "expected"), VECTORS)
def test_vectors(
    secret: str,
    components: dict[str, str],
    parameters: tuple[str, int, int],
    expected: str,
) -> None:
    """The decoded secret over the six components gives the published signature."""
    nonce, created, expires = parameters
    signing = Signing(components["x-api-key"], nonce, created, expires)
    headers = sign(components, signing, key=base64.b64decode(secret))
    assert headers["Signature"] == f"sig1=:{expected}:"


def test_base_ends_with_the_parameters_and_no_newline() -> None:
    """Exactly one line for each component, then the line of the parameters."""
    _, components, (nonce, created, expires), _ = VECTORS[1]
    lines = signature_base(
        components, Signing(components["x-api-key"], nonce, created, expires)
    ).split("\n")
    assert lines[: len(COMPONENTS)] == [f'"{name}": {components[name]}' for name in COMPONENTS]
    assert lines[-1] == (
        '"@signature-params": ("@request-target" "@authority" "audiohook-organization-id" '
        '"audiohook-session-id" "audiohook-correlation-id" "x-api-key")'
        ';keyid="ZGVtby1hcGkta2V5LTAx";nonce="bm9uY2UtMDAwMS1hYmNkZWY";alg="hmac-sha256"'
        ";created=1767225600;expires=1767225610"
    )
