"""Settings of one archive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSettings:
    """Where transcripts are archived and how.

    Attributes:
        url: ``s3://bucket/prefix``, ``gs://…``, ``az://…``, ``file:///folder``, ``memory:///``, or
            a plain path. Credentials come from the provider's own variables.
        endpoint, region: Of an S3-compatible service.
        key: Template of keys (``keys.KeyTemplate``); empty for the default.
        compress: Objects made by ``item`` are compressed with zstd.
        lease_s: How long a claim lasts unless it is renewed, which happens every third of it.
        wait_s: How long somebody else's claim is waited for; longer than a lease, so that a
            killed writer's claim runs out meanwhile.
        part_bytes: Up to this a bucket's object is put at once, on condition; larger ones are put
            in parts of it, of which S3 takes ten thousand, none but the last below 5 MB.
        deadline_s: Limit of one request with the library's own retries.
        options: Further settings of the store, by the library's names.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    key: str = ""
    compress: bool = False
    lease_s: float = 30.0
    wait_s: float = 60.0
    part_bytes: int = 8 * 1024 * 1024
    deadline_s: float = 30.0
    options: dict[str, Any] = field(default_factory=dict)  # the library's own names and types
