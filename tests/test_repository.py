"""The repository itself: pins, generated pages, links, words that must not be there."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PINS = re.compile(r"(?m)^([A-Za-z0-9._-]+)==(\S+)")


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {found.lower(): version for found, version in PINS.findall(text)}


def test_every_requirement_is_pinned_by_hash() -> None:
    """Nothing unpinned is installed, and no index is named."""
    for name in ("build", "runtime", "dev"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        entries = re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]
        assert all("--hash=sha256:" in entry for entry in entries)
        assert "://" not in text


def test_tests_run_against_the_versions_that_run() -> None:
    """The development set has the runtime set in it, version by version."""
    dev = pins("dev")
    for name, version in {**pins("runtime"), **pins("build")}.items():
        assert dev[name] == version


def test_every_dependency_of_the_package_is_pinned() -> None:
    """pyproject.toml and requirements/runtime.in name the same libraries."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[><=;\s]", one)[0].lower() for one in project["dependencies"]}
    lines = (ROOT / "requirements" / "runtime.in").read_text().splitlines()
    listed = {re.split(r"[;\s]", one)[0].lower() for one in lines if one and one[0] != "#"}
    assert wanted == listed
    assert wanted <= set(pins("runtime"))


MODULES = {
    "google-re2": "re2",
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health",
    "lingua-language-detector": "lingua",
    "prometheus-client": "prometheus_client",
    "protobuf": "google",
    "pyjwt": "jwt",
    "webrtcvad-wheels": "_webrtcvad",
}
"""Where the imported name is not the library's."""


def test_what_is_declared_is_what_is_imported() -> None:
    """No library is installed for nothing, and none is used that is not asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    declared = {re.split(r"[><=;\s]", one)[0] for one in wanted}
    modules = {MODULES.get(name, name.replace("-", "_")) for name in declared}
    imported: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    ours = {"steno", "steno_sim", "yarl"}  # yarl: aiohttp's own type of an address
    assert imported - sys.stdlib_module_names - ours == modules


@pytest.mark.parametrize("tool", ["reference.py --check", "links.py", "proto.py --check"])
def test_generated_files_are_current_and_links_lead_somewhere(tool: str) -> None:
    """What `make check` says of the pages and of the protocol code."""
    script, *arguments = tool.split()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is_and_stays_readable() -> None:
    """A docstring at the top of each module, and none over 900 lines."""
    for path in (ROOT / "src").rglob("*.py"):
        if "_proto" in path.parts:
            continue
        text = path.read_text()
        assert ast.get_docstring(ast.parse(text)), path
        assert text.count("\n") <= 900, path


def test_every_error_of_the_tree_can_be_told_without_a_peers_text() -> None:
    """str() of an error is made of its summary, fields and fix."""
    errors = importlib.import_module("steno.errors")
    error = errors.TransportError("could not connect", fix="Try later.", status=503, host=None)
    assert str(error) == "could not connect (status=503). Try later."


def test_the_service_unit_and_the_container_run_without_root() -> None:
    """No root, no new privileges, a read-only system, core dumps off, secrets by credential."""
    unit = (ROOT / "packaging" / "steno.service").read_text()
    for line in (
        "DynamicUser=yes",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "LimitCORE=0",
        "UMask=0077",
        "StateDirectoryMode=0700",
        "LoadCredential=client-secret:/etc/steno/client-secret",
    ):
        assert f"\n{line}\n" in unit
    container = (ROOT / "packaging" / "Containerfile").read_text()
    assert "\nUSER 10001:10001\n" in container
    assert "--require-hashes" in container


def test_make_has_the_promised_targets() -> None:
    """The README's two commands and the developers' others."""
    text = (ROOT / "Makefile").read_text()
    for target in ("setup", "demo", "test", "check", "bench", "soak", "fuzz", "docs", "lock"):
        assert re.search(rf"(?m)^{target}:", text)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
