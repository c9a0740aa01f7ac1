"""Path headers over brokers stacked on brokers: between two segments packets bear what the broker that joined them has planned,
and nothing of what is below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from itertools import pairwise
from pathlib import Path

import pytest

from address_planner.labels import UNTAGGED, LabelSet
from lower_sp_clients.vim.driver import Attachment, Blueprint, Function, Network, Port, Route, SapPort
from lower_sp_clients.vim.holds import AllocationState
from lower_sp_clients.vim.simulated import SimulatedDriver
from lower_sp_clients.vim.simulated_domain import Lost, Station, echo
from service_model.outcomes import Committed, Reason, ReasonCode, Refused, Reserved, ServiceState
from service_model.path_headers import Mark, PathHeader
from service_model.spec import Blocks, ServiceSpec
from tests.support.faults import alters
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

TAGGED = LabelSet(((10, 99),))
DEEP = Sp(
    "a",
    (
        Site("s0", ("meter",)),
        Sp(
            "b",
            (
                Site("s1", ("meter",)),
                Sp("c", (Site("s2", ("meter",)), Sp("d", (Site("s3", ("meter",)), Site("s4", ("meter",)))))),
                Site("s5", ("meter",)),
            ),
        ),
        Site("s6", ("meter",)),
    ),
    (POOL,),
)
"""Four brokers, each in the middle of the one above."""
JOINS = {"b": "aa", "c": "bb", "d": "cb"}
"""Who joined each with what is before it and what is behind: d is the last of c, so what c joins there is joined by b."""


def through_all(sites: int = 7) -> ServiceSpec:
    """From the first site to the last through a function at each."""
    spec = chain("s0.uni", f"s{sites - 1}.uni", *["meter"] * sites)
    return replace(spec, functions=tuple(replace(f, places=(f.id.replace("f", "S"),)) for f in spec.functions))


class Wired:
    """The domains of a stack, joined as its interconnects say, and a customer at each end."""

    def __init__(self, stack: Stack, sites: int = 7) -> None:
        self.drivers = {name: driver for node in stack.nodes.values() for name, driver in node.drivers.items()}
        for near, far in pairwise(f"s{n}" for n in range(sites)):
            self.drivers[near].join(f"to-{far}", self.drivers[far], f"to-{near}")
        self.last = f"s{sites - 1}"

    async def customer(self, site: str, address: str, gateway: str) -> Station:
        host = SimulatedDriver([SapPort(id="wire", encapsulation="ETHERNET", mtu=1500)])
        host.join("wire", self.drivers[site], "uni")
        way = Route(ingress="eth0", destination=POOL.prefix, egress="eth0", next_hop=ip_address(gateway))
        port = Port(name="eth0", network="lan", interfaces=(ip_interface(address),))
        await host.apply(
            Blueprint(
                segment="customer",
                networks=(Network(id="lan", mtu=1500),),
                functions=(Function(id="host", implementation="forwarder", ports=(port,), routes=(way,)),),
                attachments=(Attachment(network="lan", sap="wire", label=UNTAGGED),),
            )
        )
        return host.station("customer", "host")

    async def echo(self, answer: Reserved) -> None:
        """From the one customer to the other and back. Raises Lost."""
        first, *_, last = answer.choice.links
        port = f"f{len(answer.choice.links) - 2}:out"
        ends = []
        for end, link, gateway, site in (("a", first, "f0:in", "s0"), ("b", last, port, self.last)):
            assert link.prefix is not None
            own = f"{link.addresses[end]}/{link.prefix.prefixlen}"
            ends.append(await self.customer(site, own, str(link.addresses[gateway])))
        echo(ends[0], ends[0].port("eth0"), last.addresses["b"], 1000)

    def outside(self, near: str, far: str) -> list[Mark | None]:
        """What packets bore that left a site towards another."""
        return [s.mark for s in self.drivers[near].seen if s.outside and s.where.startswith(f"to-{far}:")]

    def inside(self) -> Iterator[tuple[str, Mark | None]]:
        """What packets bore within each site."""
        for name, driver in self.drivers.items():
            yield from ((name, s.mark) for s in driver.seen if not s.outside)


def ids(stack: Stack, name: str) -> set[int]:
    """Those of a broker's paths."""
    return {id for order in stack.broker(name).orders() for id in order.path_ids.values()}


async def test_packets_bear_the_path_of_who_joined_the_two_sides_and_nothing_of_a_lower_chain(tmp_path: Path) -> None:
    async with Stack(DEEP, tmp_path) as stack:
        answer = await active(stack, through_all())
        wired = Wired(stack)
        await wired.echo(answer)
        own = {name: ids(stack, name) for name in "abcd"}
        assert all(len(found) == 1 for found in own.values()), "one path in each"
        assert len(set.union(*own.values())) == 4
        forth = {n: wired.outside(f"s{n}", f"s{n + 1}") for n in range(6)}
        back = {n: wired.outside(f"s{n + 1}", f"s{n}") for n in range(6)}
        a, b, c, d = (next(iter(own[name])) for name in "abcd")
        assert forth == {
            0: [Mark(a, 254)],
            1: [Mark(b, 254)],
            2: [Mark(c, 254)],
            3: [Mark(d, 254)],
            4: [Mark(b, 253)],
            5: [Mark(a, 253)],
        }
        assert back == {
            5: [Mark(a + 1, 254)],
            4: [Mark(b + 1, 254)],
            3: [Mark(d + 1, 254)],
            2: [Mark(c + 1, 254)],
            1: [Mark(b + 1, 253)],
            0: [Mark(a + 1, 253)],
        }


async def test_inside_a_domain_packets_bear_its_own_path_which_is_seen_nowhere_else(tmp_path: Path) -> None:
    async with Stack(DEEP, tmp_path) as stack:
        answer = await active(stack, through_all())
        wired = Wired(stack)
        await wired.echo(answer)
        inside = [mark for _, mark in wired.inside()]
        assert {site for site, _ in wired.inside()} == set(wired.drivers)
        known = {id + n for name in "abcd" for id in ids(stack, name) for n in (0, 1)}
        assert all(mark is not None and mark.id not in known for mark in inside)
        assert all(s.mark is None for s in wired.drivers["s0"].seen if s.outside and s.where.startswith("uni"))


async def test_a_header_of_another_path_is_lost_at_the_interconnect(tmp_path: Path) -> None:
    """So the headers that are checked above can be wrong."""
    async with Stack(DEEP, tmp_path) as stack:
        answer = await active(stack, through_all())
        wired = Wired(stack)
        hold = stack.vim("s3").holds()[0]
        built = wired.drivers["s3"].blueprint(hold.ref)
        planted = tuple(
            replace(x, leaving=Mark(x.leaving.id, x.leaving.index - 1)) if x.sap == "to-s4" and x.leaving else x
            for x in built.attachments
        )
        await wired.drivers["s3"].apply(replace(built, attachments=planted))
        with pytest.raises(Lost, match=r"to-s3: a packet bears \d+/253, \d+/254 is expected"):
            await wired.echo(answer)
        await wired.drivers["s3"].apply(built)
        await wired.echo(answer)


async def test_what_was_planned_is_confirmed_at_every_level_and_shown(tmp_path: Path) -> None:
    async with Stack(DEEP, tmp_path) as stack:
        await active(stack, through_all())
        steps = {}
        for name in "bcd":
            [order] = stack.broker(name).orders()
            assert order.spec is not None
            asked = {end.id: end.path_header for end in order.spec.ends}
            assert all(isinstance(header, PathHeader) for header in asked.values())
            first, last = (order.spec.paths[0].hops[i] for i in (0, -1))
            into, out = asked[first], asked[last]
            assert into is not None
            assert out is not None
            steps[name] = (into.index - out.index, out.back_index - into.back_index)
            assert (into.id in ids(stack, JOINS[name][0]), out.id in ids(stack, JOINS[name][1])) == (True, True)
            told = stack.broker(name).status(order.account, order.ref)
            assert told.choice is not None
            assert told.binding is not None
            assert told.choice.path_headers == told.binding.path_headers == asked
        assert steps == {"b": (1, 1), "c": (1, 1), "d": (1, 0)}, "of d the two ends are of two paths"
        top = stack.broker("a").status("alice", "r")
        assert top.choice is not None
        assert top.choice.path_headers == {}, "a customer's packets bear none"


async def test_a_supplier_that_confirms_another_header_is_not_believed(tmp_path: Path) -> None:
    def another(answer: Reserved) -> Reserved:
        headers = {end: replace(h, index=h.index - 1) for end, h in answer.choice.path_headers.items()}
        return replace(answer, choice=replace(answer.choice, path_headers=headers))

    async with Stack(DEEP, tmp_path) as stack:
        stack.line("a", "b").always["reserve"] = alters(another)
        answer = await stack.customer().reserve("r", 1, through_all(), CTX)
        assert isinstance(answer, Refused)
        codes = [cause.code for reason in answer.reasons for cause in (reason, *reason.causes)]
        assert ReasonCode.CONSTRAINT_VIOLATED in codes
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


def plain(stack: Stack, *sites: str) -> None:
    """These domains carry no path headers."""
    for node in stack.nodes.values():
        for site in sites:
            if site in node.domains:
                domain = node.domains[site]
                saps = tuple(replace(sap, path_headers=False) for sap in domain.saps)
                node.domains[site] = replace(domain, saps=saps)


async def test_who_carries_no_headers_is_told_none_and_its_neighbours_bear_none_there(tmp_path: Path) -> None:
    stack = Stack(DEEP, tmp_path)
    plain(stack, "s2")
    async with stack:
        answer = await active(stack, through_all())
        wired = Wired(stack)
        await wired.echo(answer)
        forth = [[m and m.index for m in wired.outside(f"s{n}", f"s{n + 1}")] for n in range(6)]
        assert forth == [[254], [None], [None], [254], [253], [253]]


async def test_a_header_where_packets_bear_none_is_refused_by_name(tmp_path: Path) -> None:
    stack = Stack(DEEP, tmp_path)
    plain(stack, "s0")
    async with stack:
        spec = chain("uni", "to-s1", "meter", blocks=Blocks(allowed=(POOL.prefix,)))
        header = PathHeader(id=2, index=3, back_index=4)
        told = replace(spec, ends=(spec.ends[0], replace(spec.ends[1], path_header=header)))
        answer = await stack.vim("s0").reserve("x", 1, told, CTX)
        assert isinstance(answer, Refused)
        assert [(r.code, r.subject) for r in answer.reasons] == [(ReasonCode.FEATURE_NOT_OFFERED, "b")]


WIDE = Site("s", ("meter",), uni=TAGGED, hosts=(32,))
LINE = Sp("a", (replace(WIDE, name="s0"), Sp("b", (replace(WIDE, name="s1"),))), (POOL,))


def two() -> ServiceSpec:
    spec = chain("s0.uni", "b.s1.uni", "meter", "meter")
    return replace(spec, functions=tuple(replace(f, places=(f.id.replace("f", "S"),)) for f in spec.functions))


async def test_ids_are_unique_recorded_before_anybody_is_asked_and_free_when_nothing_is_left(tmp_path: Path) -> None:
    async with Stack(LINE, tmp_path) as stack:
        for n in range(20):
            await reserved(stack, two(), f"r{n}")
        taken = stack.broker("a").path_ids.allocations()
        assert len({a.value for a in taken}) == 20
        assert {a.state for a in taken} == {AllocationState.HELD}
        assert isinstance(await stack.customer().commit("r0", 1, CONFIRM, CTX), Committed)
        await stack.until(lambda: stack.state("r0") is ServiceState.ACTIVE)
        before = set(stack.broker("a").path_ids.allocations())
        assert {a.state for a in before} == {AllocationState.HELD, AllocationState.LIVE}
        await stack.restart("a")
        assert set(stack.broker("a").path_ids.allocations()) == before, "as they were recorded"
        for n in range(20):
            await stack.customer().terminate(f"r{n}", CTX)
        await stack.ends_empty()
        assert stack.broker("a").path_ids.allocations() == ()
        await stack.restart("a")
        assert stack.broker("a").path_ids.allocations() == ()


async def test_a_service_that_is_planned_again_keeps_its_id(tmp_path: Path) -> None:
    def taken(answer: Reserved) -> Refused:
        reason = Reason(code=ReasonCode.LABEL_TAKEN, message="taken", subject="x1")
        return Refused(ref=answer.ref, version=answer.version, reasons=(reason,))

    async with Stack(LINE, tmp_path) as stack:
        stack.line("a", "b").next("reserve", alters(taken))
        await reserved(stack, two())
        assert stack.line("a", "b").count("reserve") == 2
        [order] = stack.broker("a").orders()
        told = {s.spec.end("x1").path_header for s in order.segments}
        assert told == {PathHeader(id=order.path_ids["p"], index=254, back_index=254)}
        assert len(stack.broker("a").path_ids.allocations()) == 1
