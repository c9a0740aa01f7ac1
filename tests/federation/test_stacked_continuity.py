"""Labels over brokers stacked on brokers: what nobody swaps is one label from end to end, planned with the path and held in one
round."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import and_
from pathlib import Path

import pytest

from address_planner.labels import UNTAGGED, LabelSet
from lower_sp_clients.vim.holds import Hold
from service_model.outcomes import ReasonCode, Refused, Reserved
from service_model.spec import LinkKind, ServiceSpec
from tests.support.faults import alters
from tests.support.orders import CTX, active, reserved
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

PLAIN = LabelSet.of([UNTAGGED])


def labels(stack: Stack) -> dict[str, list[int]]:
    """By `site/sap`: the labels of all that is held there, in the order of the ends."""
    out: dict[str, list[int]] = {}
    for vim in stack.vims():
        for hold in vim.holds():
            for sap, label in _at(hold):
                out.setdefault(f"{vim.domain.name}/{sap}", []).append(label)
    return out


def _at(hold: Hold) -> list[tuple[str, int]]:
    assert hold.spec is not None
    assert hold.choice is not None
    return [(end.sap, hold.choice.labels[end.id]) for end in hold.spec.ends]


def transits(stack: Stack, site: str) -> list[tuple[int, int]]:
    """The labels at both sides of what goes straight through a site."""
    out = []
    for hold in stack.vim(site).holds():
        assert hold.spec is not None
        assert hold.choice is not None
        chosen = hold.choice.labels
        lines = (link.points for link in hold.spec.links if link.kind is LinkKind.LINE)
        out += [(chosen[a], chosen[b]) for a, b in lines if a in chosen and b in chosen]
    return out


def rounds(stack: Stack) -> int:
    """How often a segment was asked for, the most."""
    lines = (line for node in stack.nodes.values() for line in node.lines.values())
    refs = [(id(line), ref) for line in lines for method, ref, _ in line.calls if method == "reserve"]
    return max(map(refs.count, refs))


def pinned(spec: ServiceSpec, *sites: str) -> ServiceSpec:
    """Each function at a site."""
    return replace(
        spec,
        functions=tuple(replace(f, places=(site.upper(),)) for f, site in zip(spec.functions, sites, strict=True)),
    )


# runs of those that do not swap -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A random line of sites under a random tree of brokers: some swap, each has labels of its own; functions at some."""

    top: Sp
    sites: tuple[Site, ...]
    at: tuple[str, ...]

    @classmethod
    def of(cls, seed: int) -> Drawn:
        rng = random.Random(f"continuity/{seed}")
        sites = tuple(cls._site(rng, n) for n in range(rng.randint(3, 7)))
        at = tuple(s.name for s in sites if rng.random() < 0.3)
        top = Sp("top", cls._nested(rng, sites, [f"b{n}" for n in range(9)], 3), (POOL,))
        return cls(top, sites, at)

    @staticmethod
    def _site(rng: random.Random, n: int) -> Site:
        first = 1000 + rng.randint(0, 6)
        own = LabelSet(((first, first + rng.randint(2, 8)),))
        uni = rng.choice((PLAIN, own))
        return Site(f"s{n}", ("meter",), labels=own, uni=uni, swaps=rng.random() < 0.4)

    @classmethod
    def _nested(
        cls, rng: random.Random, sites: tuple[Site, ...], names: list[str], depth: int
    ) -> tuple[Sp | Site, ...]:
        """Cut into runs, some of which are bought."""
        out: list[Sp | Site] = []
        left = list(sites)
        while left:
            run = tuple(left[: rng.randint(1, len(left))])
            del left[: len(run)]
            if depth and len(run) < len(sites) and rng.random() < 0.6:
                out.append(Sp(names.pop(), cls._nested(rng, run, names, depth - 1)))
            else:
                out += run
        return tuple(out)

    def sap(self, site: Site) -> str:
        def found(part: Sp | Site) -> str | None:
            if isinstance(part, Site):
                return part.name if part is site else None
            inner = next((f for p in part.parts if isinstance(p, Sp | Site) and (f := found(p))), None)
            return inner and f"{part.name}.{inner}"

        return f"{found(self.top)}.uni".removeprefix("top.")

    @property
    def spec(self) -> ServiceSpec:
        spec = chain(self.sap(self.sites[0]), self.sap(self.sites[-1]), *("meter" for _ in self.at))
        return pinned(spec, *self.at)

    def runs(self) -> list[tuple[tuple[str, ...], LabelSet]]:
        """The SAPs that have one label, and which it may be: from who swaps, converts or has a function to the next."""
        saps = [("uni", self.sites[0].uni, self.sites[0])]
        classes: list[list[tuple[str, LabelSet]]] = [[(f"{self.sites[0].name}/uni", self.sites[0].uni)]]
        for here, there in pairwise(self.sites):
            before = saps[-1][1]
            out, into = f"{here.name}/to-{there.name}", f"{there.name}/to-{here.name}"
            if here.swaps or here.name in self.at or before == PLAIN:
                classes.append([])
            classes[-1] += [(out, here.labels), (into, there.labels)]
            saps.append((into, there.labels, there))
        last = self.sites[-1]
        if last.swaps or last.name in self.at or last.uni == PLAIN:
            classes.append([])
        classes[-1].append((f"{last.name}/uni", last.uni))
        return [(tuple(name for name, _ in c), reduce(and_, (free for _, free in c))) for c in classes]


@pytest.mark.parametrize("seed", range(60))
async def test_every_run_has_one_label_that_is_free_all_along_it_and_where_there_is_none_nothing_is_held(
    seed: int, tmp_path: Path
) -> None:
    drawn = Drawn.of(seed)
    async with Stack(drawn.top, tmp_path, draw=str(seed)) as stack:
        answer = await stack.customer().reserve("r", 1, drawn.spec, CTX)
        if not all(common for _, common in drawn.runs()):
            assert isinstance(answer, Refused)
            why = {reason.code for reason in answer.reasons}
            assert why <= {ReasonCode.LABELS_EXHAUSTED, ReasonCode.NO_PATH}, (
                "what is bought and has none is not announced"
            )
            assert labels(stack) == {}
            return
        assert isinstance(answer, Reserved), answer
        held = labels(stack)
        for saps, common in drawn.runs():
            assert {label for sap in saps for label in held[sap]} <= set(common), (saps, held)
            assert len({label for sap in saps for label in held[sap]}) == 1, (saps, held)
        assert rounds(stack) == 1


def test_what_was_drawn_has_services_of_both_kinds() -> None:
    drawn = [Drawn.of(seed) for seed in range(60)]
    served = [all(common for _, common in d.runs()) for d in drawn]
    assert 15 < sum(served) < 55
    longest = [max(len(saps) for saps, _ in d.runs()) for d, s in zip(drawn, served, strict=True) if s]
    assert max(longest) >= 5, "a run over three sites and more"


async def test_a_run_takes_what_is_left_in_all_of_it_and_is_exhausted_where_the_rests_have_nothing_in_common(
    tmp_path: Path,
) -> None:
    """Three joints carried through by two brokers, which others use too: between the first two sites, and the last two."""
    few = LabelSet.parse("1000-1003")
    site = Site("s", ("meter",), labels=few, uni=LabelSet.parse("10-19"), swaps=False)
    s0, s1, s2, s3 = (replace(site, name=f"s{n}") for n in range(4))
    top = Sp("a", (s0, Sp("b", (s1,)), Sp("c", (s2,)), s3), (POOL,))
    whole = pinned(chain("s0.uni", "s3.uni", "meter", "meter"), "s0", "s3")
    first = pinned(chain("s0.uni", "b.s1.uni", "meter", "meter"), "s0", "s1")
    last = pinned(chain("c.s2.uni", "s3.uni", "meter", "meter"), "s2", "s3")
    async with Stack(top, tmp_path) as stack:
        await active(stack, first, "first")
        await active(stack, last, "last")
        taken = {*labels(stack)["s0/to-s1"], *labels(stack)["s3/to-s2"]}
        assert len(taken) == 2, "another draw: where both take the same, no joint has any left, and it is not announced"
        stack.announce_all()
        left = 0
        while isinstance(await stack.customer().reserve(f"r{left}", 1, whole, CTX), Reserved):
            stack.announce_all()
            left += 1
        assert left == 4 - len(taken)
        held = labels(stack)
        assert all(one == other for site in ("s1", "s2") for one, other in transits(stack, site))
        assert sorted(held["s1/to-s2"]) == sorted(held["s2/to-s1"]) == sorted(set(few) - taken)
        refused = await stack.customer().reserve("one more", 1, whole, CTX)
        assert isinstance(refused, Refused)
        assert [r.code for r in refused.reasons] == [ReasonCode.LABELS_EXHAUSTED]


async def test_where_the_authority_in_the_middle_of_a_run_takes_another_label_all_of_the_run_follows(
    tmp_path: Path,
) -> None:
    through = [Site(f"s{n}", ("meter",), swaps=False) for n in range(5)]
    top = Sp("a", (through[0], Sp("b", (through[1], through[2])), through[3], through[4]), (POOL,))
    async with Stack(top, tmp_path) as stack:

        def another(answer: Reserved) -> Reserved:
            return replace(answer, choice=replace(answer.choice, labels=dict.fromkeys(answer.choice.labels, 1777)))

        stack.line("a", "b").next("reserve", alters(another))
        await reserved(stack, pinned(chain("s0.uni", "s4.uni", "meter", "meter"), "s0", "s4"))
        held = labels(stack)
        joints = {label for sap, found in held.items() if "to-" in sap for label in found}
        assert len(joints) == 1, held
        assert rounds(stack) == 2


@pytest.mark.parametrize("nested", [False, True], ids=["of its own", "bought"])
async def test_a_lan_beside_a_path_is_carried_through_under_a_label_of_its_own(nested: bool, tmp_path: Path) -> None:
    ends = [Site(f"s{n}", ("meter",), swaps=False) for n in (0, 3)]
    through = tuple(Site(f"s{n}", swaps=False) for n in (1, 2))
    middle: tuple[Sp | Site, ...] = (Sp("b", through),) if nested else through
    async with Stack(Sp("a", (ends[0], *middle, ends[1]), (POOL,)), tmp_path) as stack:
        await active(stack, pinned(chain("s0.uni", "s3.uni", "meter", "meter", lan=True), "s0", "s3"))
        both = {site: [sorted({label for _, label in lane}) for lane in _lanes(stack, site)] for site in ("s1", "s2")}
        assert both["s1"] == both["s2"]
        assert [len(lane) for lane in both["s1"]] == [1, 1], "each of one label"
        assert both["s1"][0] != both["s1"][1]
        assert rounds(stack) == 1


def _lanes(stack: Stack, site: str) -> list[list[tuple[str, int]]]:
    """The ends of the path and of the LAN at a site, with their labels."""
    [hold] = stack.vim(site).holds()
    assert hold.spec is not None
    assert hold.choice is not None
    chosen = hold.choice.labels
    return [[(point, chosen[point]) for point in link.points] for link in hold.spec.links]


# who comes by twice -----------------------------------------------------------------------------------------------------

TWICE = Sp(
    "top",
    (
        Site("s0", ("meter",), uni=PLAIN),
        Sp("b", (Site("s1", ("firewall",)), Site("s3", ("shaper",), swaps=False))),
        Sp("c", (Site("s2", ("meter",), swaps=False),)),
        Site("s4", ("meter",), uni=PLAIN),
    ),
    (POOL,),
)
ROW = ("s0", "s1", "s2", "s3", "s4")
"""So b comes by twice, with c between; what c and the second of b carry through is one label from s1 to s4."""


@pytest.mark.parametrize("swaps", [True, False], ids=["swapping", "carried through"])
async def test_a_supplier_that_comes_by_twice_has_labels_that_fit_together_at_both_times(
    swaps: bool, tmp_path: Path
) -> None:
    parts = tuple(
        replace(p, parts=tuple(replace(s, swaps=swaps) for s in p.parts if isinstance(s, Site)))
        if isinstance(p, Sp)
        else p
        for p in TWICE.parts
        if isinstance(p, Sp | Site)
    )
    async with Stack(replace(TWICE, parts=parts), tmp_path, line=ROW) as stack:
        await active(stack, pinned(chain("s0.uni", "s4.uni", "firewall", "meter"), "s1", "s4"))
        [order] = stack.broker("top").orders()
        assert {s.alias for s in order.segments} == {"s0", "b", "c", "s4"}
        held = labels(stack)
        for near, far in pairwise(ROW):
            assert held[f"{near}/to-{far}"] == held[f"{far}/to-{near}"]
        if not swaps:
            assert held["s1/to-s2"] == held["s2/to-s3"] == held["s3/to-s4"]
        assert rounds(stack) == 1
        assert all(len(stack.vim(site).holds()) == 1 for site in ROW)


async def test_a_supplier_that_comes_by_twice_with_nothing_in_common_is_refused_before_it_is_asked(
    tmp_path: Path,
) -> None:
    apart = {"s1": "1000-1009", "s2": "1000-1019", "s3": "1010-1019", "s4": "1010-1019"}
    parts = tuple(
        replace(p, parts=tuple(_labelled(s, apart) for s in p.parts)) if isinstance(p, Sp) else _labelled(p, apart)
        for p in TWICE.parts
    )
    async with Stack(replace(TWICE, parts=parts), tmp_path, line=ROW) as stack:
        spec = pinned(chain("s0.uni", "s4.uni", "firewall", "meter"), "s1", "s4")
        answer = await stack.customer().reserve("r", 1, spec, CTX)
        assert isinstance(answer, Refused)
        assert [r.code for r in answer.reasons] == [ReasonCode.LABELS_EXHAUSTED]
        assert stack.line("top", "b").calls == []


def _labelled(part: object, own: dict[str, str]) -> Site:
    assert isinstance(part, Site)
    return replace(part, labels=LabelSet.parse(own[part.name])) if part.name in own else part


# there and back ---------------------------------------------------------------------------------------------------------


def hairpin(*between: Site, nested: bool) -> Sp:
    """Both ends and the first and last function at s0; what is between is passed there and back; the turning point is last."""
    outer = Site("s0", ("firewall",), uni=LabelSet.parse("10-19"), swaps=True)
    parts: tuple[Sp | Site, ...] = (outer, Sp("b", between)) if nested else (outer, *between)
    return Sp("a", parts, (POOL,))


def there_and_back(turn: str) -> ServiceSpec:
    """From s0 to a function at the turning point and back to s0."""
    return pinned(chain("s0.uni", "s0.uni", "firewall", "meter", "firewall"), "s0", turn, "s0")


@pytest.mark.parametrize("nested", [False, True], ids=["of its own", "bought"])
async def test_a_hairpin_over_one_interconnect_has_a_label_there_and_another_back(nested: bool, tmp_path: Path) -> None:
    turn = Site("s1", ("meter",), swaps=False)
    async with Stack(hairpin(turn, nested=nested), tmp_path) as stack:
        await active(stack, there_and_back("s1"))
        held = labels(stack)
        assert sorted(held["s0/to-s1"]) == sorted(held["s1/to-s0"])
        assert len(set(held["s0/to-s1"])) == 2
        assert rounds(stack) == 1


@pytest.mark.parametrize("nested", [False, True], ids=["of its own", "bought"])
@pytest.mark.parametrize("between", [1, 2, 3])
async def test_a_hairpin_through_who_does_not_swap_carries_one_label_there_and_another_back(
    between: int, nested: bool, tmp_path: Path
) -> None:
    through = [Site(f"s{n}", swaps=False) for n in range(1, between + 1)]
    turn = Site(f"s{between + 1}", ("meter",), swaps=False)
    async with Stack(hairpin(*through, turn, nested=nested), tmp_path) as stack:
        await active(stack, there_and_back(turn.name))
        held = labels(stack)
        ways = {tuple(sorted(found)) for sap, found in held.items() if "to-" in sap}
        assert len(ways) == 1, held
        [(there, back)] = ways
        assert there != back
        for site in through:
            assert sorted(transits(stack, site.name)) == [(there, there), (back, back)]
        assert rounds(stack) == 1


async def test_a_hairpin_that_has_one_label_left_is_refused_and_holds_nothing(tmp_path: Path) -> None:
    one = LabelSet.of([1000])
    turn = Site("s2", ("meter",), labels=one, swaps=False)
    async with Stack(hairpin(Site("s1", labels=one, swaps=False), turn, nested=True), tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, there_and_back("s2"), CTX)
        assert isinstance(answer, Refused)
        assert {r.code for r in answer.reasons} == {ReasonCode.LABELS_EXHAUSTED}
        await stack.ends_empty()
