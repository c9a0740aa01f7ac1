"""The programs of a benchmark, each a process of its own, which answer a line on stdin with what their store did."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Peers:
    """Processes that answer a line on stdin with what their store did."""

    processes: dict[str, Process] = field(default_factory=dict)

    async def start(self, name: str, program: str, *arguments: str, **more: str) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "SPBROKER_LOG_LEVEL": "error", **more}
        self.processes[name] = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "benchmarks" / "peers" / program), *arguments,
            stdin=PIPE, stdout=PIPE, env=environment,
        )  # fmt: skip

    async def counts(self) -> dict[str, dict[str, int]]:
        """By level, as soon as nothing more is recorded."""
        former: dict[str, dict[str, int]] = {}
        while (now := {name: await self._ask(process) for name, process in self.processes.items()}) != former:
            former = now
            await asyncio.sleep(0.7)
        return now

    @staticmethod
    async def _ask(process: Process) -> dict[str, int]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        answer: dict[str, int] = json.loads(await process.stdout.readline())
        return answer

    def processor_s(self) -> float:
        """What all have used of processors so far, what the kernel did for them included."""
        return sum(used_s(process.pid) for process in self.processes.values())

    async def kill(self, name: str) -> None:
        """As a crash does, and not asked for counts any more."""
        process = self.processes.pop(name)
        process.kill()
        await process.wait()

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.stdin is not None:
                process.stdin.close()
        for process in self.processes.values():
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def used_s(pid: int) -> float:
    """What a process has used of processors so far, of the program and of the kernel for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
