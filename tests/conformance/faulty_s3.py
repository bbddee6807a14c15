"""An S3 service with the faults of one: refusals, lost answers, damage, death in mid-upload.

Objects lie in memory. ``script`` holds what befalls the next requests of a kind, by
``METHOD`` or ``METHOD part``; the rest is served as S3 serves it.
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

CANARY: Final = "AKIAPLANTEDSECRET"
"""In every error's text: none of it may reach an error of ours."""

_DATE: Final = "Mon, 15 Jan 2024 10:30:00 GMT"


class FaultyS3:
    """One bucket named ``bucket``.

    Attributes:
        conditional: ``kept``, ``ignored`` or ``unknown`` (501), as stores differ.
        script: What befalls the next requests, e.g. ``{"PUT part": ["slow down", "drop"]}``;
            ``*`` at the end of a list stays.
        uploads: Uploads in parts that were begun and neither completed nor aborted.
        on_request: Called with each kind before it is served.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.script: dict[str, list[str]] = {}
        self.conditional = "kept"
        self.requests: list[str] = []
        self.on_request: Callable[[str, str], None] = lambda kind, key: None
        self.lock = threading.RLock()
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def served(self) -> Iterator[FaultyS3]:
        """Serve until the block ends."""

        class Handler(_Handler):
            s3 = self

        server = _Server(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def fault(self, kind: str) -> str:
        """Return what befalls a request of this kind."""
        with self.lock:
            self.requests.append(kind)
            faults = self.script.get(kind, [])
            if not faults:
                return ""
            return faults[0].rstrip("*") if faults[0].endswith("*") else faults.pop(0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed. Any: as the library has it."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    s3: FaultyS3
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Serve an object, a range of it, or a list."""
        if "list-type" in self._query:
            self._serve("LIST", self._list)
        else:
            self._serve("GET", self._get)

    def do_HEAD(self) -> None:
        """Serve an object's size."""
        self._serve("HEAD", self._get)

    def do_PUT(self) -> None:
        """Take an object or a part."""
        part = "partNumber" in self._query
        self._serve("PUT part" if part else "PUT", self._put_part if part else self._put)

    def do_POST(self) -> None:
        """Begin or complete an upload in parts, or delete."""
        if "delete" in self._query:
            self._serve("DELETE", self._delete_many)
            return
        begins = "uploads" in self._query
        self._serve("BEGIN" if begins else "COMPLETE", self._begin if begins else self._complete)

    def do_DELETE(self) -> None:
        """Delete an object or an upload."""
        upload = "uploadId" in self._query
        self._serve("ABORT" if upload else "DELETE", self._delete)

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/bucket").lstrip("/")

    @property
    def _query(self) -> dict[str, str]:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {name: values[0] for name, values in query.items()}

    def _serve(self, kind: str, work: Callable[[bytes], None]) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.s3.on_request(kind, self._key)
        self._fault = self.s3.fault(kind)
        if not urlsplit(self.path).path.startswith("/bucket"):
            self._error(404, "NoSuchBucket")
        elif self._fault == "slow down":
            self._error(503, "SlowDown")
        elif self._fault == "denied":
            self._error(403, "AccessDenied")
        elif self._fault == "drop":
            self.close_connection = True
        else:
            with self.s3.lock:
                work(body)

    def _put(self, body: bytes) -> None:
        if "If-None-Match" in self.headers:
            if self.s3.conditional == "unknown":
                self._error(501, "NotImplemented")
                return
            if self.s3.conditional == "kept" and self._key in self.s3.objects:
                self._error(412, "PreconditionFailed")
                return
        if self._fault == "damage":
            body = body[:-1] + b"?"
        self.s3.objects[self._key] = (body, self._kept_headers())
        if self._fault == "lose answer":
            self.close_connection = True
            return
        self._answer(200, headers={"ETag": _etag(body)})

    def _begin(self, body: bytes) -> None:
        upload = f"upload{len(self.s3.requests)}"
        self.s3.uploads[upload] = {}
        self._answer(
            200,
            f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>"
            "</InitiateMultipartUploadResult>".encode(),
        )

    def _put_part(self, body: bytes) -> None:
        self.s3.uploads[self._query["uploadId"]][int(self._query["partNumber"])] = body
        self._answer(200, headers={"ETag": _etag(body)})

    def _complete(self, body: bytes) -> None:
        parts = self.s3.uploads.pop(self._query["uploadId"])
        whole = b"".join(parts[number] for number in sorted(parts))
        if self._fault == "damage":
            whole = whole[:-1] + b"?"
        self.s3.objects[self._key] = (whole, {})
        self._answer(
            200,
            f"<CompleteMultipartUploadResult><ETag>{_etag(whole)}</ETag>"
            "</CompleteMultipartUploadResult>".encode(),
        )

    def _get(self, body: bytes) -> None:
        if self._key not in self.s3.objects:
            self._error(404, "NoSuchKey")
            return
        data, kept = self.s3.objects[self._key]
        headers = {"ETag": _etag(data), "Last-Modified": _DATE, **kept}
        status, size = 200, len(data)
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            start, end = int(found[1]), min(int(found[2]), size - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{size}"
            status, data = 206, data[start : end + 1]
        self._answer(status, data, headers, cut=self._fault == "truncate")

    def _list(self, body: bytes) -> None:
        prefix = self._query.get("prefix", "")
        rows = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2024-01-15T10:30:00.000Z</LastModified>"
            f"<ETag>{_etag(data)}</ETag><Size>{len(data)}</Size></Contents>"
            for key, (data, _) in sorted(self.s3.objects.items())
            if key.startswith(prefix)
        )
        self._answer(200, f"<ListBucketResult>{rows}</ListBucketResult>".encode())

    def _delete(self, body: bytes) -> None:
        if "uploadId" in self._query:
            self.s3.uploads.pop(self._query["uploadId"], None)
        else:
            self.s3.objects.pop(self._key, None)
        self._answer(204)

    def _delete_many(self, body: bytes) -> None:
        keys = re.findall(r"<Key>([^<]*)</Key>", body.decode())
        for key in keys:
            self.s3.objects.pop(key, None)
        rows = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{rows}</DeleteResult>".encode())

    def _kept_headers(self) -> dict[str, str]:
        names = ("Content-Type", "Content-Encoding")
        return {name: self.headers[name] for name in names if name in self.headers}

    def _error(self, status: int, code: str) -> None:
        self._answer(
            status, f"<Error><Code>{code}</Code><Message>{CANARY}</Message></Error>".encode()
        )

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        cut: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
