"""Generates the Python code of the protocol buffers: `python proto/generate.py [--check]`.

Rules kept here
- The generators are the floor versions of what the project declares, so the code runs on every later runtime.
- `--check` generates beside and compares: it fails, naming the file, when what is committed is not what comes out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
PACKAGE = Path("spbroker/v1")
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")


class GeneratorFailed(Exception):
    """protoc did not accept the sources; what it found is on the standard error."""


def generate(into: Path) -> None:
    """Writes the code of every `.proto` under `into`. Raises GeneratorFailed."""
    # The plug-in is found beside the interpreter, so that an environment need not be activated.
    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    arguments = [
        "protoc",
        f"--proto_path={HERE}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={plugin}",
        f"--python_out={into}",
        f"--grpc_python_out={into}",
        f"--mypy_out=quiet,readable_stubs:{into}",
        *(str(path.relative_to(HERE)) for path in sorted((HERE / PACKAGE).glob("*.proto"))),
    ]
    if protoc.main(arguments) != 0:
        raise GeneratorFailed("protoc refused the sources")
    for path in (into / PACKAGE).glob("*_pb2_grpc.py"):  # a file without services is nothing but a version check
        if "Servicer" not in path.read_text():
            path.unlink()


def generated(under: Path) -> dict[str, bytes]:
    """Every generated file under `under`, by name."""
    return {path.name: path.read_bytes() for pattern in GENERATED for path in (under / PACKAGE).glob(pattern)}


def differences() -> list[str]:
    """Names of files that are not committed as they come out of the generator."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = generated(Path(scratch))
    committed = generated(HERE)
    return sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the Python code of the protocol buffers.")
    parser.add_argument("--check", action="store_true", help="compare with what is committed, write nothing")
    if not parser.parse_args().check:
        generate(HERE)
        return 0
    stale = differences()
    for name in stale:
        print(f"{PACKAGE / name} is not what the sources give: run python proto/generate.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
