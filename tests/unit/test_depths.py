"""Services that are split again and again: at every depth what is chosen is within what was asked, and nothing overlaps.

Random services over random trees of brokers, up to six levels: each broker splits what it is asked over suppliers at random,
with transits that swap labels and such that do not, and the domains at the bottom choose. `SPBROKER_DEPTHS` says how many
(`SPBROKER_DEPTHS=2000 pytest tests/unit/test_depths.py`).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from itertools import chain, combinations, count

import pytest

from address_planner.classes import LabelClass, disagreement
from address_planner.labels import LabelSet
from address_planner.macs import MacSet
from address_planner.prefixes import overlap
from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Plan
from broker.orders.cut import Cut
from broker.orders.gather import gather, violation
from broker.orders.narrowing import constraint_of, link_key, widened
from broker.orders.retrying import MAX_ROUNDS
from broker.orders.split import HandedDown, split
from lower_sp_clients.vim.choosing import choose
from lower_sp_clients.vim.domain import Usage
from service_model.check import check
from service_model.families import families_of
from service_model.outcomes import AddressingChoice
from service_model.path_headers import PathHeader
from service_model.spec import Blocks, LinkAddressing, ServiceSpec, split_point
from service_model.words import Prefix
from tests.support.mesh_delivery import domain, sap_of
from tests.support.meshes import NAMES, Ground, random_plan, random_service

SERVICES = int(os.environ.get("SPBROKER_DEPTHS", "60"))
DEPTH = 6
BLOCKS = (ip_network("10.64.0.0/21"), ip_network("fd00:64::/48"))
STACKS = ((4,), (6,), (4, 6))


@dataclass
class Delivery:
    """One service on its way down, with what was met there."""

    rng: random.Random
    segments: int = 0
    repaired: int = 0
    """How many segments were asked again because labels differed."""
    deepest: int = 0
    joints: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    """Labels by interconnect: where in the tree it is, and which two suppliers it joins."""

    def deliver(
        self, spec: ServiceSpec, level: int, at: tuple[str, ...], swaps: Set[str] = frozenset()
    ) -> AddressingChoice:
        """`swaps`: its links for which it was announced that labels are swapped between their ends."""
        assert check(spec) == (), spec
        self.deepest = max(self.deepest, level)
        if level == DEPTH or (level and self.rng.random() < 0.25):
            self.segments += 1
            saps = {end.sap: sap_of(end.sap) for end in spec.ends}
            return choose(domain("d", spec, saps.values()), Usage(), spec, "/".join(at)).addressing
        mesh = read_mesh(spec)
        assert isinstance(mesh, Mesh), mesh
        ground = Ground(
            joints={(x, y): f"to-{y}" for x in NAMES for y in NAMES if x != y},
            unis={end.id: f"uni-{end.id}" for end in spec.ends},
        )
        planned = possible(random_plan(self.rng, mesh, ground), swaps)
        parts = split(mesh, planned, ground.snapshot(), spec.blocks.allowed, "/".join(at))
        asked = {p.key: (p, swapping(mesh, planned, n)) for n, p in enumerate(parts.segments)}
        answers: dict[str, AddressingChoice] = {}
        for key in asked:
            self._ask(spec, level, at, asked, key, answers)
        for _ in range(MAX_ROUNDS):
            if not self._agree(spec, level, at, asked, parts.classes, answers):
                break
        for item in parts.classes:
            chosen = {answers[m.segment].labels[m.end] for m in item.members}
            assert len(chosen) == 1, "all members of a class agree"
            for joint in item.interconnects:
                self.joints.setdefault((*at, joint), []).extend(chosen)
        choice = gather(spec, parts, answers)
        assert violation(spec, choice) is None
        return choice

    def _ask(
        self,
        spec: ServiceSpec,
        level: int,
        at: tuple[str, ...],
        asked: Asked,
        key: str,
        answers: dict[str, AddressingChoice],
    ) -> None:
        part, swaps = asked[key]
        assert widened(spec, part) is None
        answers[key] = self.deliver(part.spec, level + 1, (*at, key), swaps)
        assert violation(part.spec, answers[key]) is None

    def _agree(
        self,
        spec: ServiceSpec,
        level: int,
        at: tuple[str, ...],
        asked: Asked,
        classes: tuple[LabelClass, ...],
        answers: dict[str, AddressingChoice],
    ) -> bool:
        """Pin the others where members of a class chose differently, as an order does; whether there were any. Nobody contends,
        so that is only where a segment was suggested one label at two ends, and its inside has both on one interconnect."""
        again = set[str]()
        for item in classes:
            found = disagreement(item, {(m.segment, m.end): answers[m.segment].labels[m.end] for m in item.members})
            for member in found[1] if found is not None else ():
                assert found is not None
                part, swaps = asked[member.segment]
                pinned = LabelSet.of([found[0]])
                ends = tuple(
                    replace(e, labels=pinned, suggested_label=found[0]) if e.id == member.end else e
                    for e in part.spec.ends
                )
                asked[member.segment] = replace(part, spec=replace(part.spec, ends=ends)), swaps
                again.add(member.segment)
        for key in again:
            self.repaired += 1
            for joint in [j for j in self.joints if j[: len(at) + 1] == (*at, key)]:
                del self.joints[joint]
            self._ask(spec, level, at, asked, key, answers)
        return bool(again)


Asked = dict[str, tuple[HandedDown, set[str]]]


def possible(planned: Plan, swaps: Set[str]) -> Plan:
    """The plan with labels that can be: each LINE passes a segment that swaps where that was announced. Where LINEs go over an
    interconnect more than once, each time takes a label of its own, whatever those of its ends are."""
    crossed = Counter(planned.interconnects)
    lines = {}
    for line, stretches in planned.lines.items():
        apart = any(crossed[s.interconnect] > 1 for s in stretches[1:] if s.interconnect is not None)
        first = line in swaps and not any(s.swaps_labels for s in stretches)
        lines[line] = tuple(
            replace(s, swaps_labels=s.swaps_labels or apart or (first and n == 0)) for n, s in enumerate(stretches)
        )
    return replace(planned, lines=lines)


def swapping(mesh: Mesh, planned: Plan, segment: int) -> set[str]:
    """The links of a segment for which it was announced that they swap labels."""
    return {
        section.link
        for line, sections in Cut(mesh, planned).sections.items()
        for section, stretch in zip(sections, planned.lines[line], strict=True)
        if section.segment == segment and stretch.swaps_labels
    }


def drawn(seed: int) -> tuple[ServiceSpec, Delivery]:
    """A service that is one, and what delivers it."""
    names = chain([f"depths/{seed}"], (f"depths/{seed}/{n}" for n in count(1)))
    rng, spec = next(
        (rng, spec)
        for rng in map(random.Random, names)
        for spec in [random_service(rng)]
        if isinstance(read_mesh(spec), Mesh)
    )
    pool, pooled = MacSet(((0x02_00_00_00_00_00, 0x02_00_00_00_FF_FF),)), random.Random(f"pooled/{seed}")
    links = tuple(
        replace(link, addressing=replace(link.addressing, macs=pool)) if pooled.random() < 0.3 else link
        for link in spec.links
    )
    versions = STACKS[rng.choice((0, 1)) + seed % 2]
    allowed = tuple(block for block in BLOCKS if block.version in versions)
    said = families_of(versions) if len(versions) > 1 or seed % 3 else ()
    return replace(spec, links=links, blocks=Blocks(allowed=allowed), families=said), Delivery(rng)


@pytest.mark.parametrize("first", range(0, SERVICES, 20))
def test_at_every_depth_choices_are_within_what_was_asked_and_nothing_overlaps(first: int) -> None:
    repaired, segments = 0, 0
    for seed in range(first, min(first + 20, SERVICES)):
        spec, delivery = drawn(seed)
        choice = delivery.deliver(spec, 0, ())
        repaired, segments = repaired + delivery.repaired, segments + delivery.segments
        above = constraint_of(spec)
        prefixes: list[Prefix] = []
        for link in spec.links:
            found = choice.link(link.id)
            assert found is not None
            if not link.ports:
                continue
            assert [p.version for p in found.prefixes] == sorted({p.version for p in spec.blocks.allowed})
            prefixes += found.prefixes
            for stack in found.stacks:
                assert stack.prefix is not None
                assert stack.prefix in above.links[link_key(link.id, stack.prefix.version)].allowed
                assert len(set(stack.addresses.values())) == len(stack.addresses)
                assert all(stack.addresses[p] in stack.prefix for p in link.ports)
            if link.addressing.macs is not None:
                macs = [found.macs[p].number for p in link.ports]
                assert len(set(macs)) == len(macs)
                assert all(mac in link.addressing.macs for mac in macs)
        assert not any(overlap(a, b) for a, b in combinations(prefixes, 2)), seed
        for joint, labels in delivery.joints.items():
            assert len(labels) == len(set(labels)), (seed, joint)
    assert repaired <= segments / 50, "nobody contends, so what is suggested is nearly always taken"


def test_the_drawn_trees_are_deep_and_wide() -> None:
    """So that the test above has something to find."""
    deepest, segments = 0, 0
    for seed in range(20):
        spec, delivery = drawn(seed)
        delivery.deliver(spec, 0, ())
        deepest, segments = max(deepest, delivery.deepest), max(segments, delivery.segments)
    assert deepest == DEPTH
    assert segments > 20


def stacked(told: LinkAddressing) -> LinkAddressing:
    """The same with a prefix of the other family, where it has one alone."""
    if len(told.prefixes) != 1:
        return told
    other = ip_network("2001:db8::/127" if told.prefixes[0].version == 4 else "192.0.2.0/31")
    return replace(told, second_prefix=other)


WIDENINGS = {
    "blocks": lambda spec: replace(spec, blocks=Blocks(allowed=(ip_network("0.0.0.0/0"), ip_network("::/0")))),
    "family": lambda spec: replace(
        spec,
        links=tuple(replace(link, addressing=stacked(link.addressing)) for link in spec.links),
    ),
    "mtu": lambda spec: replace(spec, min_mtu=600),
    "hosts": lambda spec: replace(
        spec,
        links=tuple(replace(link, addressing=replace(link.addressing, hosts=(), reserved=())) for link in spec.links),
    ),
    "macs": lambda spec: replace(
        spec, links=tuple(replace(link, addressing=replace(link.addressing, macs=None)) for link in spec.links)
    ),
    "labels": lambda spec: replace(spec, ends=tuple(replace(end, labels=None) for end in spec.ends)),
    "path header": lambda spec: replace(
        spec, ends=tuple(replace(end, path_header=PathHeader(id=2, index=1, back_index=1)) for end in spec.ends)
    ),
}


@pytest.mark.parametrize("kind", WIDENINGS)
def test_a_widened_constraint_is_found(kind: str) -> None:
    found = 0
    for seed in range(60):
        spec, delivery = drawn(seed)
        mesh = read_mesh(spec)
        assert isinstance(mesh, Mesh)
        ground = Ground(
            joints={(x, y): f"to-{y}" for x in NAMES for y in NAMES if x != y},
            unis={end.id: f"uni-{end.id}" for end in spec.ends},
        )
        parts = split(mesh, random_plan(delivery.rng, mesh, ground), ground.snapshot(), spec.blocks.allowed, "k")
        for part in parts.segments:
            inner = read_mesh(part.spec)
            assert isinstance(inner, Mesh)
            below = Ground(
                joints={(x, y): f"to-{y}" for x in NAMES for y in NAMES if x != y},
                unis={end.id: f"uni-{end.id}" for end in part.spec.ends},
            )
            lower = split(
                inner, random_plan(delivery.rng, inner, below), below.snapshot(), part.spec.blocks.allowed, "l"
            )
            for down in lower.segments:
                assert widened(part.spec, down) is None
                wider: HandedDown = replace(down, spec=WIDENINGS[kind](down.spec))
                found += widened(part.spec, wider) is not None
    assert found > 10


def test_each_section_of_a_line_that_comes_by_twice_is_compared() -> None:
    found = 0
    elsewhere = LinkAddressing(prefix=ip_network("192.0.2.0/31"))
    for seed in range(240):
        spec, delivery = drawn(seed)
        mesh = read_mesh(spec)
        assert isinstance(mesh, Mesh)
        ground = Ground(
            joints={(x, y): f"to-{y}" for x in NAMES for y in NAMES if x != y},
            unis={end.id: f"uni-{end.id}" for end in spec.ends},
        )
        parts = split(mesh, random_plan(delivery.rng, mesh, ground), ground.snapshot(), spec.blocks.allowed, "k")
        for part in parts.segments:
            for section in {*part.lines, *part.lines.values()}:
                if any(split_point(p)[1] for link in part.spec.links if link.id == section for p in link.points):
                    links = (replace(x, addressing=elsewhere) if x.id == section else x for x in part.spec.links)
                    assert widened(spec, replace(part, spec=replace(part.spec, links=tuple(links)))) is not None
                    found += 1
    assert found > 2
