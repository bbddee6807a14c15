"""Write ``src/steno/_proto`` from ``proto/``, or with ``--check`` tell whether it is current."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
TARGET = ROOT / "src" / "steno" / "_proto"


def generate(folder: Path) -> dict[str, str]:
    """Compile every file of ``proto/`` into ``folder`` and return the texts by name.

    protoc writes absolute imports of its own output; they become imports from our package.
    """
    from grpc_tools import protoc  # type: ignore[import-untyped]  # theirs has no types

    files = sorted(path.name for path in SOURCES.glob("*.proto"))
    arguments = [f"-I{SOURCES}", *(f"--{kind}_out={folder}" for kind in ("python", "pyi"))]
    if protoc.main(["protoc", *arguments, f"--grpc_python_out={folder}", *files]):
        raise SystemExit("protoc failed")
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    return {
        name: re.sub(r"(?m)^import (\w+_pb2) as", r"from steno._proto import \1 as", text)
        for name, text in texts.items()
    }


def main() -> int:
    """Write, or compare; 1 when a file is stale."""
    with tempfile.TemporaryDirectory() as folder:
        texts = generate(Path(folder))
    if "--check" not in sys.argv:
        for name, text in texts.items():
            (TARGET / name).write_text(text)
        return 0
    stale = [
        name
        for name, text in texts.items()
        if not (TARGET / name).is_file() or (TARGET / name).read_text() != text
    ]
    for name in stale:
        print(f"stale: src/steno/_proto/{name}; run `make proto`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
