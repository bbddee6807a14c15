"""What stores behind presigned addresses share: signatures that end, ranges, and errors in XML.

An address holds its end and a signature over both. No token is needed, and one that comes is
refused (400, one way of authentication only); a changed address or one past its end is 403.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from datetime import UTC, datetime
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from aiohttp import web

DRIP_BYTES = 16_384
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Signer:
    """Signs addresses of one store, and judges those that come.

    Args:
        life_s: Life of an address.
        expired_status: What one past its end is answered.
    """

    def __init__(self, life_s: float, *, expired_status: int = 403) -> None:
        self._life_s = life_s
        self._expired_status = expired_status
        self._key = secrets.token_bytes(32)

    def address(self, base: str, path: str, *, issued: float | None = None) -> str:
        """Give the presigned address of a path; its life begins at ``issued`` (epoch seconds)."""
        at = time.time() if issued is None else issued
        date, life = f"{at:.6f}", f"{self._life_s:g}"
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Date": datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ"),
            "X-Amz-Expires": life,
            "X-Sim-Issued": date,
            "X-Amz-Signature": self._sign(path, date, life),
        }
        return f"{base}{path}?{urlencode(query)}"

    def refusal(self, request: web.Request) -> web.Response | None:
        """Give what a request with a token, a changed or an ended address is answered."""
        if "Authorization" in request.headers:
            return store_error(400, "InvalidArgument", "Only one auth mechanism allowed")
        query = request.query
        date, life = query.get("X-Sim-Issued", ""), query.get("X-Amz-Expires", "")
        signature = query.get("X-Amz-Signature", "")
        expected = self._sign(request.path, date, life)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return store_error(403, "SignatureDoesNotMatch", "The signature does not match.")
        if time.time() >= end_of(request):
            return store_error(self._expired_status, "AccessDenied", "Request has expired")
        return None

    def _sign(self, path: str, date: str, life: str) -> str:
        return hmac.digest(self._key, f"{path}\n{date}\n{life}".encode(), "sha256").hex()


def issued_at(request: web.Request) -> float:
    """Give when the address of a request was signed, epoch seconds; it must have passed."""
    return float(request.query["X-Sim-Issued"])


def end_of(request: web.Request) -> float:
    """Give when the address of a request ends, epoch seconds; its signature must be right."""
    return issued_at(request) + float(request.query["X-Amz-Expires"])


def ranged(text: str, size: int) -> tuple[int, dict[str, str], int, int]:
    """Give status, headers and bounds for a ``Range`` header; one that is none is ignored."""
    headers = {"Accept-Ranges": "bytes"}
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return 200, headers, 0, size
    if match[1]:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        return 416, headers | {"Content-Range": f"bytes */{size}"}, 0, 0
    return 206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}, start, end


def not_satisfiable(headers: dict[str, str]) -> web.Response:
    """Give the answer to a range that begins behind the end."""
    answer = store_error(416, "InvalidRange", "The requested range is not satisfiable")
    answer.headers.update(headers)
    return answer


def store_error(status: int, code: str, message: str) -> web.Response:
    """Give an error as object stores write it."""
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    return web.Response(status=status, text=text, content_type="application/xml")
