"""A real S3-compatible server: OpenStack Swift with its S3 interface, one disk, on free ports.

It is installed by ``.ci/run`` into ``.venv-swift``, from ``requirements/swift.txt``, and needs
memcached and liberasurecode of the system. Where SWIFT_VENV names its place, as in continuous
integration, it has to be there; elsewhere its tests skip without it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HOME: Final = Path(os.environ.get("SWIFT_VENV", ROOT / ".venv-swift"))
IS_REQUIRED: Final = "SWIFT_VENV" in os.environ
KEY_ID: Final = "test:tester"
SECRET: Final = "testing"
REGION: Final = "us-east-1"
MISSING: Final = (
    "no Swift: apt-get install liberasurecode1 liberasurecode-dev memcached; "
    "python3 -m venv .venv-swift; "
    ".venv-swift/bin/pip install --require-hashes -r requirements/swift.txt"
)

_STARTUP_S: Final = 30.0
_HASHES: Final = """[swift-hash]
swift_hash_path_prefix = steno
swift_hash_path_suffix = tests
[storage-policy:0]
name = gold
default = yes
"""
_PROXY: Final = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
log_address = /dev/null
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_interval = 0
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
check_bucket_owner = no
location = us-east-1
min_segment_size = 1
auth_pipeline_check = False
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:symlink]
use = egg:swift#symlink
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
"""
_PIPELINE: Final = (
    "catch_errors cache listing_formats s3api tempauth slo dlo versioned_writes symlink "
    "proxy-server"
)
_SERVER: Final = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
devices = {disk}
mount_check = false
swift_dir = {etc}
recon_cache_path = {cache}
log_address = /dev/null
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
[{kind}-replicator]
[{kind}-updater]
[{kind}-auditor]
"""
_RINGS: Final = """
import sys
from swift.common.ring import RingBuilder
for kind, port in (one.split("=") for one in sys.argv[1:]):
    builder = RingBuilder(4, 1, 0)
    builder.add_dev({"region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": int(port),
                     "replication_ip": "127.0.0.1", "replication_port": int(port), "device": "d1"})
    builder.rebalance()
    builder.get_ring().save(f"{kind}.ring.gz")
"""
_KINDS: Final = ("object", "container", "account")


def is_installed() -> bool:
    """Tell whether the server can be started here."""
    return (HOME / "bin" / "swift-proxy-server").exists() and shutil.which("memcached") is not None


class Swift:
    """One server; ``start`` waits until it answers, ``stop`` ends every process of it.

    Args:
        folder: Its disk, settings and logs; removed by whoever made it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Address of the S3 interface."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, once more with other ports should one have been taken meanwhile."""
        for attempt in range(3):
            try:
                self._start(self._folder / str(attempt))
                return
            except RuntimeError:
                self.stop()
        raise RuntimeError(f"Swift does not start; its words are in {self._folder}")

    def stop(self) -> None:
        """End it at once; nothing of it is kept."""
        for process in self._running:
            process.kill()
        for process in self._running:
            process.wait()
        self._running.clear()

    def make_bucket(self, name: str) -> None:
        """Make a bucket, by Swift's own interface: the library that we use cannot."""
        self._own("PUT", name)

    def names(self, bucket: str) -> list[str]:
        """Return what lies in a bucket; parts of uploads lie in ``BUCKET+segments``."""
        return self._own("GET", bucket.replace("+", "%2B")).decode().split()

    def _own(self, method: str, path: str) -> bytes:
        login = urllib.request.Request(f"{self.endpoint}/auth/v1.0")
        login.add_header("X-Auth-User", KEY_ID)
        login.add_header("X-Auth-Key", SECRET)
        headers, _ = _answered(login)
        request = urllib.request.Request(f"{headers['X-Storage-Url']}/{path}", method=method)
        request.add_header("X-Auth-Token", headers["X-Auth-Token"])
        return _answered(request)[1]

    def _start(self, folder: Path) -> None:
        ports = _free_ports(5)
        self.port, memcached = ports[0], ports[1]
        servers = dict(zip(_KINDS, ports[2:], strict=True))
        etc, disk, cache = folder / "etc", folder / "disk", folder / "cache"
        for one in (etc, disk / "d1", cache):
            one.mkdir(parents=True)
        user = _user()
        (etc / "swift.conf").write_text(_HASHES)
        (etc / "proxy.conf").write_text(
            _PROXY.format(
                port=self.port, user=user, etc=etc, memcached=memcached, pipeline=_PIPELINE
            )
        )
        for kind, port in servers.items():
            (etc / f"{kind}.conf").write_text(
                _SERVER.format(kind=kind, port=port, user=user, disk=disk, etc=etc, cache=cache)
            )
        _make_rings(etc, servers)
        self._run(
            folder, "memcached", "-l", "127.0.0.1", "-p", str(memcached), "-m", "16", "-u", user
        )
        for kind in _KINDS:
            self._swift(folder, f"swift-{kind}-server", str(etc / f"{kind}.conf"))
        self._swift(folder, "swift-proxy-server", str(etc / "proxy.conf"))
        self._wait()

    def _swift(self, folder: Path, program: str, settings: str) -> None:
        self._run(folder, str(HOME / "bin" / program), settings)

    def _run(self, folder: Path, *command: str) -> None:
        with (folder / "log").open("ab") as log:
            self._running.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def _wait(self) -> None:
        end = time.monotonic() + _STARTUP_S
        while time.monotonic() < end:
            if any(process.poll() is not None for process in self._running):
                break
            if self._all_answer():
                return
            time.sleep(0.05)
        raise RuntimeError("Swift does not answer")

    def _all_answer(self) -> bool:
        """Tell whether a bucket can be made: every server has its part in that."""
        try:
            self.make_bucket("first")
        except OSError:
            return False
        return True


def _answered(request: urllib.request.Request) -> tuple[Message, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        refused.close()
        raise


def _make_rings(etc: Path, servers: dict[str, int]) -> None:
    """In one process of Swift's own interpreter: its command would start nine."""
    subprocess.run(
        [
            HOME / "bin" / "python",
            "-c",
            _RINGS,
            *(f"{kind}={port}" for kind, port in servers.items()),
        ],
        cwd=etc,
        check=True,
        capture_output=True,
    )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
