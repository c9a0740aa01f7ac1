"""What is committed is what the protocol buffers give."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def ran(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_the_generated_code_is_what_the_sources_give() -> None:
    result = ran(sys.executable, "proto/generate.py", "--check")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_stale_file_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "proto"
    shutil.copytree(ROOT / "proto", copy)
    stale = copy / "spbroker/v1/words_pb2.py"
    stale.write_text(stale.read_text() + "\n")
    result = ran(sys.executable, copy / "generate.py", "--check")
    assert result.returncode == 1
    assert "words_pb2.py" in result.stderr


def test_the_protocol_buffers_keep_the_rules_of_buf() -> None:
    result = ran(Path(sys.executable).with_name("buf"), "lint")
    assert (result.returncode, result.stdout) == (0, "")
