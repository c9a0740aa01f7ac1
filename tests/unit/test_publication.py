"""When a changed note becomes a new edition: loss at once, what came back when it has lasted, and nothing flaps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from address_planner.labels import LabelSet
from broker.bootstrap.deriving import Deriving
from broker.bootstrap.publication import VALIDITY, Edition, Publication, Standing
from broker.decompose.lexicon import lexicon
from broker.orders.catalogue import Catalogue, Listing
from broker.orders.records import Terms
from capability_registry.abstraction import Abstraction, Disclosure
from capability_registry.hysteresis import Change, Pace, Pacing, change
from capability_registry.keys import SigningKey
from capability_registry.note import Bin, CapabilityNote, Lifecycle, Outage, PlaceCapacity, SharedLimit
from lower_sp_clients.supplier import OutcomeUnknown
from service_model.outcomes import Reason, ReasonCode
from tests.support.clock import SimulatedClock
from tests.support.planning import GBIT, NOW, entry, offer, point, sap, view

REST = timedelta(seconds=10)
BY = Pacing(rest=REST, gains=3, losses=5)

LEFT = view(
    "left",
    [sap("uni", "BER"), sap("n", "BER", to="j", peer="sp-right", decides_labels=True)],
    [entry("uni", "n", point(2, 10), point(5, 3)), entry("uni", "BER", point(1, 1))],
    [offer("x", "BER", units=4)],
    capacities=(PlaceCapacity(place="BER", bins=(Bin(size=40, count=1), Bin(size=2, count=30))),),
    shared=(SharedLimit(id="l", limit_bps=10 * GBIT, coefficients={"uni|n": 1.0}),),
).note
RIGHT = view(
    "right",
    [sap("uni", "MUC"), sap("n", "MUC", to="j", peer="sp-left")],
    [entry("uni", "n", point(1, 1))],
).note


LASTING = NOW + timedelta(days=9)


def with_labels(note: CapabilityNote, id: str, labels: str) -> CapabilityNote:
    saps = tuple(replace(s, labels=LabelSet.parse(labels)) if s.id == id else s for s in note.saps)
    return replace(note, saps=saps)


def with_bandwidth(note: CapabilityNote, gbit: int) -> CapabilityNote:
    saps = tuple(replace(s, bandwidth_bps=gbit * GBIT) for s in note.saps)
    return replace(note, saps=saps)


def with_bins(*bins: tuple[int, int]) -> CapabilityNote:
    capacity = PlaceCapacity(place="BER", bins=tuple(Bin(size=s, count=n) for s, n in bins))
    return replace(LEFT, capacities=(capacity,))


def with_points(cost: int, delay: int, **more: object) -> CapabilityNote:
    return replace(LEFT, matrix=(entry("uni", "n", point(2, 10), point(cost, delay, **more)), LEFT.matrix[1]))


def told_at_uni(labels: str) -> CapabilityNote:
    return with_points(5, 3, labels_a=LabelSet.parse(labels))


def with_limit(gbit: int, *keys: str) -> CapabilityNote:
    limit = SharedLimit(id="l", limit_bps=gbit * GBIT, coefficients=dict.fromkeys(keys, 1.0))
    return replace(LEFT, shared=(limit,))


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (replace(LEFT, edition=9, expires=NOW, origin_tokens=("t",)), Change.SAME),
        (with_labels(LEFT, "uni", "100-191"), Change.SLIGHT),
        (with_labels(LEFT, "uni", "100-288"), Change.SLIGHT),
        (with_labels(LEFT, "uni", "112-199"), Change.LESS),
        (with_labels(LEFT, "uni", "150-399"), Change.LESS),
        (with_bandwidth(LEFT, 11), Change.SLIGHT),
        (with_bandwidth(LEFT, 9), Change.SLIGHT),
        (with_bandwidth(LEFT, 8), Change.LESS),
        (with_bins((36, 1), (2, 30)), Change.SLIGHT),
        (with_bins((40, 2), (2, 30)), Change.SLIGHT),
        (with_bins((40, 1), (2, 20)), Change.LESS),
        (with_bins((3, 1), (2, 60)), Change.LESS),
        (with_points(4, 3), Change.SLIGHT),
        (with_points(5, 3, bandwidth_bps=9 * GBIT), Change.SLIGHT),
        (with_points(6, 3), Change.LESS),
        (with_points(5, 4), Change.LESS),
        (with_points(5, 3, lan=False), Change.LESS),
        (told_at_uni("100-190"), Change.SLIGHT),
        (told_at_uni("100-150"), Change.LESS),
        (replace(LEFT, matrix=LEFT.matrix[:1]), Change.LESS),
        (replace(LEFT, matrix=LEFT.matrix[:1], guarded=LEFT.matrix[1:]), Change.SLIGHT),  # to who cannot read it, later
        (replace(LEFT, matrix=(*LEFT.matrix, entry("n", "BER", point(1, 1)))), Change.SLIGHT),
        (with_limit(9, "uni|n"), Change.SLIGHT),
        (with_limit(8, "uni|n"), Change.LESS),
        (with_limit(20, "uni|n", "uni|BER"), Change.LESS),  # 30 Gbit/s were to be had till now
        (with_limit(28, "uni|n", "uni|BER"), Change.SLIGHT),
        (replace(LEFT, saps=(*LEFT.saps, sap("new", "BER"))), Change.MORE),
        (replace(LEFT, saps=LEFT.saps[:1]), Change.LESS),
        (replace(LEFT, functions=(*LEFT.functions, offer("y", "BER"))), Change.MORE),
        (replace(LEFT, functions=(offer("x", "BER", cost=2, units=4),)), Change.LESS),
        (replace(LEFT, outages=(Outage(subject="uni", start=NOW, end=NOW),)), Change.LESS),
        (replace(LEFT, max_hold_s=10), Change.LESS),
    ],
)  # fmt: skip
def test_a_change_is_told_from_a_move(after: CapabilityNote, what: Change) -> None:
    assert change(LEFT, after, 0.1) is what


def test_labels_that_are_told_apart_are_free_all_the_same() -> None:
    uni = LEFT.saps[0]
    few = LabelSet.parse("100-120")
    apart = replace(LEFT, saps=(replace(uni, labels=few, more_labels=uni.labels - few), *LEFT.saps[1:]))
    assert change(LEFT, apart, 0.1) is Change.SLIGHT
    assert change(LEFT, replace(LEFT, saps=(replace(uni, labels=few), *LEFT.saps[1:])), 0.1) is Change.LESS


def test_a_pool_over_fewer_ways_is_no_loss_where_one_over_more_had_no_more_labels() -> None:
    def pools(*told: tuple[int, str]) -> CapabilityNote:
        return replace(
            LEFT,
            shared=tuple(
                SharedLimit(id=f"p{n}", limit_bps=10**14, labels=labels, coefficients=dict.fromkeys(keys.split(), 1.0))
                for n, (labels, keys) in enumerate(told)
            ),
        )

    before = pools((5, "uni|n#0 uni|BER#0"))
    assert change(before, pools((5, "uni|n#0 uni|BER#0"), (5, "uni|n#0")), 0.1) is Change.SLIGHT
    assert change(before, pools((5, "uni|n#0 uni|BER#0"), (3, "uni|n#0")), 0.1) is Change.LESS


def test_the_last_label_is_never_a_small_part() -> None:
    before, after = with_labels(LEFT, "uni", "0"), with_labels(LEFT, "uni", "")
    assert change(before, after, 0.9) is Change.LESS
    assert change(after, before, 0.1) is Change.SLIGHT


def test_within_a_rest_only_so_many_editions_are_issued_before_their_time() -> None:
    pace = Pace()
    for what, limit in ((Change.MORE, BY.gains), (Change.LESS, BY.losses)):
        pace = Pace()
        for _ in range(limit):
            assert pace.seeing(what, NOW).due(what, NOW, BY)
            pace = pace.seeing(what, NOW).issued(NOW, BY)
        assert not pace.due(what, NOW, BY)
    pace = pace.seeing(Change.SLIGHT, NOW)
    assert not pace.due(Change.LESS, NOW + REST - timedelta(seconds=1), BY)
    assert pace.due(Change.SLIGHT, NOW + REST, BY)
    assert pace.issued(NOW + REST, BY) == Pace()


@dataclass
class Numbers:
    """Editions in memory; an edition is new where the content is."""

    last: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def latest(self, audience: str) -> int:
        return self.last.get(audience, (0, ""))[0]

    async def next(self, audience: str, digest: str) -> int:
        edition, known = self.last.get(audience, (0, ""))
        if digest != known:
            edition += 1
            self.last[audience] = edition, digest
        return edition


class Node:
    """A publication over two suppliers' notes."""

    def __init__(self, deriving: Deriving | None = None) -> None:
        self.clock = SimulatedClock(NOW)
        self.terms: Terms | Reason = Terms()
        self.standing = Standing()
        self.catalogue = Catalogue("middle")
        self.catalogue.list(tuple(Listing(alias=a, sp_id=f"sp-{a}", local=False) for a in ("left", "right")))
        self.catalogue.put("left", replace(LEFT, expires=LASTING))
        self.catalogue.put("right", replace(RIGHT, expires=LASTING))
        key = SigningKey.generate(lambda n: b"k" * n)
        self.publication = Publication(
            sp_id="middle", catalogue=self.catalogue, editions=Numbers(), key=lambda: key, origin_secret=b"s" * 32,
            terms=lambda account: self.terms, clock=self.clock, random=lambda n: b"r" * n, pacing=BY,
            standing=lambda account: self.standing, sp_of=lambda account: "", deriving=deriving or Deriving(),
        )  # fmt: skip

    async def told(self, change: Callable[[CapabilityNote], CapabilityNote] | None = None) -> CapabilityNote:
        """The note that is given out after left's changed."""
        if change is not None:
            note = self.catalogue.note("left")
            assert note is not None
            self.catalogue.put("left", change(note))
        self.publication.tick()
        return (await self.publication.current("above")).note

    async def later(self, seconds: float) -> CapabilityNote:
        self.clock.advance(seconds)
        return await self.told()


def uni(note: CapabilityNote) -> str:
    found = note.sap("left.uni")
    assert found is not None
    return str(found.labels)


async def test_a_changed_disclosure_is_a_new_edition_under_other_words() -> None:
    node = Node()
    open_note = await node.told()
    node.terms = Terms(disclosure=Disclosure(abstraction=Abstraction.GREY))
    grey = await node.told()
    words = lexicon(node.catalogue.snapshot, b"s" * 32, "above", node.terms.disclosure).words
    assert words is not None
    assert (grey.edition, [f.place for f in grey.functions]) == (open_note.edition + 1, [words["BER"]])


async def test_a_small_loss_waits_for_the_rest_and_no_longer() -> None:
    node = Node()
    first = await node.told()
    assert await node.told(lambda note: with_labels(note, "uni", "101-199")) is first
    assert await node.later(9) is first
    assert await node.told(lambda note: with_labels(note, "uni", "102-199")) is first
    second = await node.later(1)
    assert (second.edition, uni(second)) == (first.edition + 1, "102-199")


async def test_small_losses_that_add_up_to_a_large_one_are_told_at_once() -> None:
    node = Node()
    first = await node.told()
    for n in range(101, 111):
        assert await node.told(lambda note, n=n: with_labels(note, "uni", f"{n}-199")) is first  # type: ignore[misc]
    assert uni(await node.told(lambda note: with_labels(note, "uni", "111-199"))) == "111-199"


async def test_what_is_gone_is_told_at_once_and_what_comes_and_goes_is_told_no_more() -> None:
    node = Node()
    first = await node.told()
    gone = await node.told(lambda note: with_labels(note, "uni", ""))
    assert (gone.edition, uni(gone)) == (first.edition + 1, "")
    for _ in range(20):
        assert await node.told(lambda note: with_labels(note, "uni", "100-199")) is gone
        await node.later(3)
        assert await node.told(lambda note: with_labels(note, "uni", "")) is gone
        await node.later(3)
    await node.told(lambda note: with_labels(note, "uni", "100-199"))
    assert uni(await node.later(10)) == "100-199"


async def test_the_last_label_of_an_inner_joint_is_a_loss_although_it_is_one_of_many_at_its_sap() -> None:
    node = Node()
    node.catalogue.put("right", with_labels(RIGHT, "n", "100"))
    ways = {(e.a, e.b) for e in (await node.told()).matrix}
    assert ("left.uni", "right.uni") in ways
    without = await node.told(lambda note: with_labels(note, "n", "101-199"))
    assert ways - {(e.a, e.b) for e in without.matrix} == {("left.uni", "right.uni")}


async def test_a_supplier_that_flaps_costs_a_bounded_number_of_editions() -> None:
    node = Node()
    first = await node.told()
    for _ in range(100):  # 50 s
        await node.told(lambda note: replace(note, saps=(*LEFT.saps, sap("new", "BER"))))
        await node.later(0.25)
        await node.told(lambda note: replace(note, saps=LEFT.saps))
        await node.later(0.25)
    editions = (await node.told()).edition - first.edition
    assert BY.gains <= editions <= 6 * (BY.gains + BY.losses + 1)


async def test_notes_that_another_process_makes_are_told_as_those_that_are_made_here() -> None:
    deriving = Deriving(few=0)
    here, there = Node(), Node(deriving)
    try:
        for change in (None, lambda n: with_labels(n, "uni", "101-199"), lambda n: with_labels(n, "uni", ""), None):
            assert await there.told(change) == await here.told(change)
        for seconds in (3, 7, 3600):
            assert await there.later(seconds) == await here.later(seconds)
        last = await there.told()
        assert deriving.process is not None
        deriving.process.kill()
        await deriving.process.wait()
        assert await there.told() == last  # nothing changed
        there.standing = here.standing = Standing(notice="soon")
        assert (await there.told()).edition == (await here.told()).edition == last.edition + 1
        assert await there.told(lambda n: with_labels(n, "uni", "5")) == await here.told(
            lambda n: with_labels(n, "uni", "5")
        )
    finally:
        await deriving.close()


async def test_new_terms_are_told_at_once() -> None:
    node = Node()
    await node.told()
    node.terms = Terms(max_hold_s=7)
    assert (await node.told()).max_hold_s == 7


async def test_a_trial_and_a_notice_are_told_at_once() -> None:
    node = Node()
    assert (await node.told()).lifecycle is Lifecycle.ACTIVE
    node.standing = Standing(lifecycle=Lifecycle.TRIAL, notice="until the end of May")
    note = await node.told()
    assert (note.lifecycle, note.terms) == (Lifecycle.TRIAL, {"notice": "until the end of May"})
    assert note.saps


async def test_to_whom_we_withdraw_nothing_is_offered_and_the_note_says_so() -> None:
    node = Node()
    first = await node.told()
    node.terms = Reason(code=ReasonCode.NOT_IN_SERVICE, message="the agreement is ending")
    node.standing = Standing(lifecycle=Lifecycle.WITHDRAWING, notice="gone in June")
    note = await node.told()
    assert (note.lifecycle, note.edition, note.saps, note.matrix) == (Lifecycle.WITHDRAWING, first.edition + 1, (), ())
    assert await node.later(60) is note
    node.standing = Standing()
    with pytest.raises(OutcomeUnknown, match="ending"):
        await node.told()


async def test_a_note_is_renewed_half_way_even_where_nothing_changed() -> None:
    node = Node()
    first = await node.told()
    assert await node.later(VALIDITY.total_seconds() / 2 - 1) is first
    renewed = await node.later(1)
    assert (renewed.edition, renewed.expires) == (first.edition + 1, node.clock.now() + VALIDITY)


async def test_a_stream_is_given_what_rested_without_another_change() -> None:
    node = Node()
    notes: AsyncIterator[Edition] = node.publication.notes("above")
    first = (await anext(notes)).note
    await node.told(lambda note: with_labels(note, "uni", "101-199"))
    node.clock.advance(10)
    node.publication.tick()
    assert (await anext(notes)).note.edition == first.edition + 1


async def test_fragments_are_not_announced_beyond_the_longest_ranges() -> None:
    node = Node()
    single = ",".join(str(label) for label in range(1000, 2000, 2))
    note = await node.told(lambda note: with_labels(note, "uni", f"{single},5000-5999"))
    found = note.sap("left.uni")
    assert found is not None
    assert (len(found.labels.ranges), 5500 in found.labels, 1000 in found.labels, 1998 in found.labels) == (
        128, True, True, False,
    )  # fmt: skip
