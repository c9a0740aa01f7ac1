"""An order that nobody contends takes one round of parallel calls at each level, whatever its length and shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service_model.spec import ServiceSpec
from tests.support.orders import active, reserved
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

LENGTHS = (2, 3, 5, 8, 12)


def _apart(spec: ServiceSpec, first: int, last: int) -> ServiceSpec:
    """The two functions at the first and the last site."""
    at = {"f0": (f"S{first}",), "f1": (f"S{last}",)}
    return replace(spec, functions=tuple(replace(f, places=at[f.id]) for f in spec.functions))


def calls(stack: Stack) -> dict[tuple[str, str], int]:
    """How often each broker asked each of its suppliers to hold something for each of its segments: the most."""
    out = {}
    for name, node in stack.nodes.items():
        for alias, line in node.lines.items():
            refs = [ref for method, ref, _ in line.calls if method == "reserve"]
            out[name, alias] = max((refs.count(ref) for ref in refs), default=0)
    return out


def sites(count: int, *, swaps: bool, first: int = 0) -> tuple[Site, ...]:
    """In a line; those at the line's ends make the functions, what is between them carries only."""
    return tuple(Site(f"s{n}", ("meter",), swaps=swaps) for n in range(first, first + count))


def nested(count: int, depth: int, *, swaps: bool) -> tuple[Sp | Site, ...]:
    """Sites in a line, under `depth` levels of brokers that each have the half of them and leave the rest to the next."""
    here = sites(count, swaps=swaps)
    parts: tuple[Sp | Site, ...] = here
    for level in range(depth - 1, 0, -1):
        half = max(1, len(parts) // 2)
        parts = (*parts[:half], Sp(f"b{level}", parts[half:]))
    return parts


@pytest.mark.parametrize("swaps", [True, False], ids=["swapping", "labels carried through"])
@pytest.mark.parametrize("length", LENGTHS)
async def test_one_round_whatever_the_length(length: int, swaps: bool, tmp_path: Path) -> None:
    top = Sp("a", sites(length, swaps=swaps), (POOL,))
    async with Stack(top, tmp_path) as stack:
        spec = chain("s0.uni", f"s{length - 1}.uni", "meter", "meter")
        await reserved(stack, _apart(spec, 0, length - 1))
        assert set(calls(stack).values()) == {1}


@pytest.mark.parametrize("swaps", [True, False], ids=["swapping", "labels carried through"])
@pytest.mark.parametrize("depth", [2, 3, 4])
async def test_one_round_at_each_level_whatever_the_depth(depth: int, swaps: bool, tmp_path: Path) -> None:
    top = Sp("a", nested(6, depth, swaps=swaps), (POOL,))
    async with Stack(top, tmp_path) as stack:
        deepest = "".join(f"b{level}." for level in range(1, depth))
        spec = chain("s0.uni", f"{deepest}s5.uni", "meter", "meter")
        await active(stack, _apart(spec, 0, 5))
        assert set(calls(stack).values()) == {1}
