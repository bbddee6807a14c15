"""Signing an AudioHook upgrade, as the platform's client does.

Source: AudioHook security reference (draft-ietf-httpbis-message-signatures-11, label ``sig1``,
hmac-sha256 with the base64-decoded client secret).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

COMPONENTS = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)


@dataclass(frozen=True, slots=True)
class Signing:
    """What is signed, beside the components: see ``sign``."""

    key_id: str
    nonce: str
    created: int
    expires: int

    def parameters(self) -> str:
        """Give the value of ``@signature-params``, as it stands in Signature-Input."""
        names = " ".join(f'"{name}"' for name in COMPONENTS)
        return (
            f'({names});keyid="{self.key_id}";nonce="{self.nonce}";alg="hmac-sha256"'
            f";created={self.created};expires={self.expires}"
        )


def signature_base(components: Mapping[str, str], signing: Signing) -> str:
    """Give the text that is signed: one line for each component, and the parameters."""
    lines = [f'"{name}": {components[name].strip()}' for name in COMPONENTS]
    return "\n".join([*lines, f'"@signature-params": {signing.parameters()}'])


def sign(components: Mapping[str, str], signing: Signing, *, key: bytes) -> dict[str, str]:
    """Give the headers ``Signature-Input`` and ``Signature``.

    Args:
        components: Value of every name in ``COMPONENTS``: the target is path and query without
            a method, the authority the Host header in lower case.
        signing: Key id, nonce and times.
        key: The client secret, decoded.
    """
    text = signature_base(components, signing)
    digest = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return {
        "Signature-Input": f"sig1={signing.parameters()}",
        "Signature": f"sig1=:{base64.b64encode(digest).decode()}:",
    }
