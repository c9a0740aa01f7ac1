"""Federations that run in a circle, by mistake or on purpose: nobody buys from itself, and what is announced comes to rest.

Each SP here is what a node is wired from: catalogue, feeds, publication, with keys and secrets of its own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from broker.bootstrap.deriving import Deriving
from broker.bootstrap.feeds import Feeds
from broker.bootstrap.publication import Publication, Standing
from broker.decompose.plan import Infeasible
from broker.decompose.search import plan
from broker.orders.catalogue import Catalogue, Listing
from broker.orders.records import Terms
from capability_registry import origin, signing
from capability_registry.decoys import MOST
from capability_registry.feed import Acceptance, FeedState, NoteNotAccepted, Refusal
from capability_registry.hysteresis import Pacing
from capability_registry.keys import SigningKey
from capability_registry.note import Bin
from lower_sp_clients import wire
from service_model.constraints import Group, GroupKind, GroupScope
from tests.support.clock import SimulatedClock
from tests.support.editions import EditionsInMemory
from tests.support.planning import NOW, chain_spec, entry, offer, point, sap, view

LETTERS = "abcde"


class Numbers:
    def __init__(self) -> None:
        self.last: dict[str, tuple[int, str]] = {}

    async def latest(self, audience: str) -> int:
        return self.last.get(audience, (0, ""))[0]

    async def next(self, audience: str, digest: str) -> int:
        edition, known = self.last.get(audience, (0, ""))
        if digest != known:
            self.last[audience] = edition + 1, digest
        return self.last[audience][0]


class Provider:
    """An SP with one domain, `uni-X` at place X, that has an interconnect with each of `peers`."""

    def __init__(self, name: str, peers: str, clock: SimulatedClock, suppliers: str) -> None:
        self.name, self.clock, seed = name, clock, name.encode()
        self.key = SigningKey.generate(lambda n: seed * n)
        self.secret = seed * 32
        self.catalogue = Catalogue(name)
        listings = [Listing(alias="own", sp_id=name, local=True, expose={f"uni-{name}": f"uni-{name}"})]
        listings += [Listing(alias=f"{s}", sp_id=s, local=False) for s in suppliers]
        self.catalogue.list(tuple(listings))
        self.feeds = Feeds(self.catalogue, clock, EditionsInMemory())
        numbers, salts = Numbers(), iter(range(1, 10**6))
        self.deriving = Deriving()
        self.publication = Publication(
            sp_id=name, catalogue=self.catalogue, editions=numbers, key=lambda: self.key, origin_secret=self.secret,
            terms=lambda account: Terms(), clock=clock, random=lambda n: next(salts).to_bytes(n, "big"),
            pacing=Pacing(), standing=lambda account: Standing(), sp_of=lambda account: account,
            deriving=self.deriving,
        )  # fmt: skip
        place = name.upper()
        joints = [sap(f"to-{p}", place, to="-".join(sorted((name, p))), peer=p, decides_labels=name < p) for p in peers]
        ways = [entry(f"uni-{name}", f"to-{p}", point(1, 1)) for p in peers]
        ways += [entry(f"to-{p}", f"to-{q}", point(1, 1)) for i, p in enumerate(peers) for q in peers[i + 1 :]]
        ways += [entry(s, place, point(1, 1)) for s in (f"uni-{name}", *(f"to-{p}" for p in peers))]
        own = view("own", [sap(f"uni-{name}", place), *joints], ways, [offer(name, place)], local=True, sp_id=name)
        self.domain = own.note

    def renew(self) -> None:
        now = self.clock.now()
        self.catalogue.put("own", replace(self.domain, not_before=now, expires=now.replace(year=now.year + 1)))

    async def hear(self, seller: Provider) -> Refusal | None:
        """Take the seller's present note; why it was refused, if it was."""
        by = Acceptance(
            sp_id=seller.name, audience=self.name, keys={seller.key.kid: seller.key.public}, verify=signing.verify,
            is_ours=partial(origin.is_ours, self.secret), tolerant=wire.parse_note,
        )  # fmt: skip
        signed = await seller.publication.current(self.name)
        try:
            self.catalogue.put(seller.name, self.feeds.judge(seller.name, by, signed.jws))
        except NoteNotAccepted as refused:
            return refused.reason
        return None

    def saps(self) -> set[str]:
        """Every SAP that it knows of its suppliers, by the name at the bottom."""
        return {s.id.rpartition(".")[2] for v in self.catalogue.snapshot.suppliers if not v.local for s in v.note.saps}

    def lapse(self) -> None:
        for name, feed in self.feeds.states().items():
            if feed.note(self.clock.now()) is None:
                self.catalogue.put(name, None)


class Federation:
    def __init__(self, sales: list[tuple[str, str]], peers: dict[str, str]) -> None:
        """`sales`: (buyer, seller)."""
        self.clock, self.sales = SimulatedClock(NOW), sales
        self.by_name = {
            name: Provider(name, near, self.clock, "".join(seller for buyer, seller in sales if buyer == name))
            for name, near in peers.items()
        }
        for provider in self.by_name.values():
            provider.renew()

    async def __aenter__(self) -> Federation:
        return self

    async def __aexit__(self, *_: object) -> None:
        for provider in self.by_name.values():
            await provider.deriving.close()

    async def run(self, rounds: int, step: float) -> list[Refusal]:
        found = []
        for _ in range(rounds):
            for buyer, seller in self.sales:
                refused = await self.by_name[buyer].hear(self.by_name[seller])
                found += [refused] if refused is not None else []
            self.clock.advance(step)
            for provider in self.by_name.values():
                provider.lapse()
        return found

    def saps(self) -> dict[str, set[str]]:
        return {name: provider.saps() for name, provider in self.by_name.items()}


async def test_a_mistaken_mutual_federation_sells_each_the_other_and_nobody_itself() -> None:
    async with Federation([("a", "b"), ("b", "a")], {"a": "b", "b": "a"}) as federation:
        assert await federation.run(30, 600) == []  # five hours: notes are renewed many times over
        assert federation.saps() == {"a": {"uni-b", "to-a"}, "b": {"uni-a", "to-b"}}
        for name in "ab":
            feeds = federation.by_name[name].feeds.states()
            assert [feed.state for feed in feeds.values()] == [FeedState.LIVE]


async def test_a_ring_of_five_sells_each_the_four_others_and_nobody_itself() -> None:
    """Each buys from the next. What would be our own, and whatever passes through us, is left out; the rest is good."""
    sales = [(a, LETTERS[(i + 1) % 5]) for i, a in enumerate(LETTERS)]
    near = {a: LETTERS[(i + 1) % 5] + LETTERS[i - 1] for i, a in enumerate(LETTERS)}
    async with Federation(sales, near) as federation:
        assert await federation.run(120, 1.0) == []
        for i, name in enumerate(LETTERS):
            provider = federation.by_name[name]
            assert {s for s in provider.saps() if s.startswith("uni-")} == {f"uni-{o}" for o in LETTERS if o != name}
            (bought,) = (v for v in provider.catalogue.snapshot.suppliers if not v.local)
            assert len(bought.note.origin_tokens) <= 4 * (1 + MOST)  # and no more with every turn of the ring
            assert not any(origin.is_ours(provider.secret, token) for token in bought.note.origin_tokens)
            following, last = LETTERS[(i + 1) % 5], LETTERS[(i + 4) % 5]
            ways = {(e.a, e.b) for e in bought.note.matrix}
            assert any(f"uni-{following}" in f"{a} {b}" and f"uni-{last}" in f"{a} {b}" for a, b in ways)
        editions = [p.publication for p in federation.by_name.values()]
        before = [(await p.current(LETTERS[i - 1])).note.edition for i, p in enumerate(editions)]
        await federation.run(60, 1.0)
        assert [(await p.current(LETTERS[i - 1])).note.edition for i, p in enumerate(editions)] == before


async def test_in_a_ring_of_five_nobody_ever_buys_from_itself_however_long_it_runs() -> None:
    sales = [(a, LETTERS[(i + 1) % 5]) for i, a in enumerate(LETTERS)]
    near = {a: LETTERS[(i + 1) % 5] + LETTERS[i - 1] for i, a in enumerate(LETTERS)}
    async with Federation(sales, near) as federation:
        heard: set[str] = set()
        for _ in range(60):
            await federation.run(1, 600)
            for name, saps in federation.saps().items():
                assert f"uni-{name}" not in saps
                heard |= {f"{name} {sap}" for sap in saps if sap.startswith("uni-")}
        assert len(heard) == 20


async def test_a_ring_does_not_lapse_while_its_notes_are_renewed() -> None:
    sales = [(a, LETTERS[(i + 1) % 5]) for i, a in enumerate(LETTERS)]
    near = {a: LETTERS[(i + 1) % 5] + LETTERS[i - 1] for i, a in enumerate(LETTERS)}
    async with Federation(sales, near) as federation:
        await federation.run(5, 60)
        for _ in range(5 * 6):  # five hours
            await federation.run(1, 600)
            for name, saps in federation.saps().items():
                assert {f"uni-{o}" for o in LETTERS if o != name} <= saps


async def test_what_a_supplier_announced_leaves_the_notes_above_when_it_lapses() -> None:
    async with Federation([("m", "w"), ("t", "m")], {"t": "", "m": "w", "w": "m"}) as federation:
        await federation.run(2, 600)
        assert "uni-w" in federation.by_name["t"].saps()
        federation.sales.remove(("m", "w"))  # from now on nothing of w comes through
        await federation.run(6, 600)
        assert {s for s in federation.by_name["t"].saps() if s.startswith("uni-")} == {"uni-m"}


async def test_two_middles_that_buy_from_one_wholesaler_are_both_served() -> None:
    """top buys from m and n, both of which buy from w: that is no loop, and the way through w can be ordered at both."""
    sales = [("m", "w"), ("n", "w"), ("t", "m"), ("t", "n")]
    async with Federation(sales, {"t": "", "m": "w", "n": "w", "w": "mn"}) as federation:
        assert await federation.run(10, 600) == []
        top = federation.by_name["t"].catalogue.snapshot
        for middle in "mn":
            spec = chain_spec(f"{middle}.uni-{middle}", f"{middle}.w.uni-w", ["w"])
            assert not isinstance(plan(spec, top, federation.clock.now()), Infeasible)


@pytest.mark.parametrize(("hosts", "served"), [(Bin(size=8, count=1), True), (Bin(size=1, count=8), False)])
async def test_one_order_that_comes_by_one_wholesaler_twice_is_served_where_there_is_room_for_both(
    hosts: Bin, served: bool
) -> None:
    """One function of w at each of two middles: on hosts of one unit each what one takes may be what the other counts on."""
    sales = [("m", "w"), ("n", "w"), ("t", "m"), ("t", "n")]
    async with Federation(sales, {"t": "", "m": "wn", "n": "wm", "w": "mn"}) as federation:
        wholesaler = federation.by_name["w"]
        capacities = tuple(replace(c, bins=(hosts,)) for c in wholesaler.domain.capacities)
        wholesaler.domain = replace(wholesaler.domain, capacities=capacities)
        wholesaler.renew()
        assert await federation.run(10, 600) == []
        top = federation.by_name["t"].catalogue.snapshot
        spec = chain_spec("m.uni-m", "n.uni-n", ["w", "w"])
        one_each = Group(id="g", kind=GroupKind.ANTI_AFFINITY, scope=GroupScope.SUPPLIER, functions=("f0", "f1"))
        assert not isinstance(plan(spec, top, federation.clock.now()), Infeasible)
        both = plan(replace(spec, groups=(one_each,)), top, federation.clock.now())
        assert isinstance(both, Infeasible) != served
        if not isinstance(both, Infeasible):
            assert [s.alias for s in both[0].segments] == ["m", "n"]
