"""A live service becomes another while a steady stream of packets goes over it, in namespaces: what is lost is counted.

    one -- uni [left: firewall] nni ==== nni [b.right: meter] uni -- one

The broker of `left` sells the whole, and buys the right half of `b`. One packet a millisecond, so a loss is milliseconds too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lower_sp_clients.vim.linux import packets
from service_model.spec import ServiceSpec
from tests.packets.test_linux_customers import BEHIND, CUSTOMERS, bench, closed, order, ordered, served
from tests.support.driver_bench import LinuxBench
from tests.support.streaming import Stream

__all__ = ["bench"]

pytestmark = pytest.mark.packets

TARGET = BEHIND["b"][0].format(1)
MOST_LOST_MS = 2000
"""What a test allows on a machine that does much else; what is measured is told (`-rP`)."""


def at_right(spec: ServiceSpec) -> ServiceSpec:
    return replace(spec, functions=tuple(replace(f, places=("RIGHT",)) if f.id == "f1" else f for f in spec.functions))


def at_left(spec: ServiceSpec) -> ServiceSpec:
    return replace(spec, functions=tuple(replace(f, places=("LEFT",)) if f.id == "f1" else f for f in spec.functions))


def faster(spec: ServiceSpec) -> ServiceSpec:
    return replace(spec, bandwidth_bps=2 * spec.bandwidth_bps)


def stricter(spec: ServiceSpec) -> ServiceSpec:
    rules = {"deny": [{"protocol": "tcp", "port": 23}]}
    return replace(spec, functions=tuple(replace(f, parameters=rules) if f.id == "f0" else f for f in spec.functions))


def longer(spec: ServiceSpec) -> ServiceSpec:
    """One more meter between the two functions."""
    extra = replace(spec.functions[1], id="f2", places=("RIGHT",))
    links = tuple(replace(x, points=("f0:out", "f2:in")) if x.id == "l1" else x for x in spec.links)
    more = replace(next(x for x in spec.links if x.id == "l1"), id="l3", points=("f2:out", "f1:in"))
    (path,) = spec.paths
    hops = (*path.hops[:3], "f2:in", "f2:out", *path.hops[3:])
    return replace(spec, functions=(*spec.functions, extra), links=(*links, more), paths=(replace(path, hops=hops),))


async def lost_by(bench: LinuxBench, directory: Path, *changes: Callable[[ServiceSpec], ServiceSpec]) -> list[Stream]:
    """What each change in turn loses of a stream over the service of the first customer."""
    one = CUSTOMERS[0]
    there = await served(bench, directory, ordered_as=lambda c: at_right(order(c)), left=("firewall", "meter"))
    found, spec = [], at_right(order(one))
    try:
        near, far = there.router("a", one), there.router("b", one)
        for version, change in enumerate(changes, start=2):
            spec = change(spec)
            assert packets.ping(near, TARGET).ok
            with Stream(near, far, TARGET) as stream:
                await asyncio.to_thread(stream.goes_on)
                await ordered(there.stack, one, spec, version)
                await asyncio.to_thread(stream.flows)
            assert packets.ping(near, TARGET, size=1400).ok
            print(f"{change.__name__}: {stream.lost} of {stream.sent} lost, {stream.longest_gap} in a row")
            found.append(stream)
    finally:
        await closed(there)
    return found


async def test_more_bandwidth_loses_nothing(bench: LinuxBench, tmp_path: Path) -> None:
    (stream,) = await lost_by(bench, tmp_path, faster)
    assert stream.lost == 0


async def test_another_rule_of_a_firewall_loses_nothing(bench: LinuxBench, tmp_path: Path) -> None:
    (stream,) = await lost_by(bench, tmp_path, stricter)
    assert stream.lost == 0


@pytest.mark.parametrize("changes", [(longer,), (at_left, at_right)], ids=["added", "moved"])
async def test_functions_are_added_and_moved_with_a_short_gap(
    bench: LinuxBench, tmp_path: Path, changes: tuple[Callable[[ServiceSpec], ServiceSpec], ...]
) -> None:
    for stream in await lost_by(bench, tmp_path, *changes):
        assert stream.longest_gap < MOST_LOST_MS
