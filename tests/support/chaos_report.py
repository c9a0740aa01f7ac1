"""What a run of `make chaos` went through: each test tells it as it ends, and at the end it is added up, printed and kept.

`SPBROKER_CHAOS_REPORT` names the folder; without it nothing is told. `python -m tests.support.chaos_report FOLDER` prints the
sum, writes it to FOLDER/report.json, and ends with 1 where something was violated or nothing was told.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = "SPBROKER_CHAOS_REPORT"


@dataclass
class Facts:
    """Of one test. `points` that a life goes through, how many were `tried`, and at how many the mishap `came`; `schedules` that
    were run; `kills` of processes at any moment; how often each invariant was `checked`; what `befell`, by its name; what was
    violated; planted bugs, and those that were caught."""

    what: str
    points: int = 0
    tried: int = 0
    came: int = 0
    schedules: int = 0
    kills: int = 0
    checked: Mapping[str, int] = field(default_factory=dict)
    befell: Mapping[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)
    caught: list[str] = field(default_factory=list)


def tell(facts: Facts) -> None:
    if folder := os.environ.get(FOLDER):
        with (Path(folder) / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(vars(facts)) + "\n")


def told(folder: Path) -> list[Facts]:
    return [Facts(**json.loads(line)) for file in sorted(folder.glob("*.jsonl")) for line in file.open()]


def summed(facts: Iterable[Facts]) -> dict[str, Any]:
    """One report of all, and of each kind of test."""
    whole: dict[str, Any] = {}
    by_kind: dict[str, dict[str, int]] = {}
    checked: Counter[str] = Counter()
    befell: Counter[str] = Counter()
    numbers = ("points", "tried", "came", "schedules", "kills")
    violations, planted, caught = [], [], []
    for one in facts:
        kind = by_kind.setdefault(one.what, dict.fromkeys(numbers, 0))
        for number in numbers:
            kind[number] += getattr(one, number)
        checked.update(one.checked)
        befell.update(one.befell)
        violations += one.violations
        planted += one.planted
        caught += one.caught
    whole["by test"] = {what: {n: v for n, v in kind.items() if v} for what, kind in sorted(by_kind.items())}
    whole["checked"] = dict(sorted(checked.items()))
    whole["befell"] = dict(sorted(befell.items()))
    whole |= {"violations": violations, "planted": sorted(planted), "caught": sorted(caught)}
    return whole


def lines(report: Mapping[str, Any]) -> list[str]:
    out = ["what was gone through"]
    for what, numbers in report["by test"].items():
        out.append(f"  {what}: " + ", ".join(f"{value} {name}" for name, value in numbers.items()))
    for title, counts in (
        ("what befell", report["befell"]),
        ("invariants, and how often each was checked", report["checked"]),
    ):
        out += [title, *(f"  {name}: {count}" for name, count in counts.items())]
    out.append(f"planted bugs caught: {len(report['caught'])} of {len(report['planted'])}")
    out += [f"  not caught: {name}" for name in report["planted"] if name not in report["caught"]]
    return [*out, f"violations: {len(report['violations'])}", *(f"  {v}" for v in report["violations"])]


def main(folder: Path) -> int:
    report = summed(told(folder))
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join(lines(report)))
    missed = set(report["planted"]) - set(report["caught"])
    return 1 if report["violations"] or missed or not report["by test"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
