"""What a supplier refused goes before what it holds of the same order, where the plan counted on both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from address_planner.labels import LabelSet
from benchmarks.hierarchies.drawn import PORTS
from benchmarks.hierarchies.sellers import NOW, Leaf, Middle
from broker.decompose.search import alone, best
from capability_registry.note import Encapsulation, Place, SapRole
from lower_sp_clients.vim.domain import CatalogueFunction, Domain, Sap, Way
from service_model.flavours import Flavour
from service_model.money import Price
from service_model.outcomes import Refused, Reserved
from service_model.spec import ServiceSpec
from tests.support.planning import chain_spec, kind

MBPS = 1_000_000


def test_of_two_segments_at_one_supplier_the_one_that_it_refused_goes_first() -> None:
    """The first has two ways, the second the cheaper of these alone. The supplier gives that to the first: nobody told it to
    spare it."""
    top = Middle("top", {"left": crossed_twice(), "right": aside()})
    spec = chain_spec("left.a", "left.b", ["x"], bandwidth_bps=MBPS)
    assert best(spec, alone(top.note()), NOW) is not None
    held = top.reserve("r", 1, spec)
    assert isinstance(held, Reserved)
    assert held.price.once == Decimal(2 + 1 + 5), "both ways, and the function"
    assert top.crankbacks["r"] == 0


def test_who_has_nothing_for_a_segment_even_when_it_goes_first_is_refused() -> None:
    left = crossed_twice()
    top = Middle("top", {"left": left, "right": aside()})
    spec = chain_spec("left.a", "left.b", ["x"], bandwidth_bps=MBPS)
    assert isinstance(left.reserve("other", 1, transit()), Reserved)
    assert isinstance(top.reserve("r", 1, spec), Refused)
    left.release("other")
    assert isinstance(top.reserve("r", 2, spec), Reserved), "of what was refused nothing is left held"


def transit() -> ServiceSpec:
    return chain_spec("b", "y", bandwidth_bps=MBPS)


def crossed_twice() -> Leaf:
    """A way from P to Q with room for one service, and one that is dearer and faster from `a` alone. `a` and `b` are
    at P, `x` and `y` at Q."""
    return Leaf(domain("left", ("a", "P"), ("b", "P"), ("x", "Q", "j"), ("y", "Q", "k")))


def aside() -> Leaf:
    """What has the function, between `x` and `y` of the other."""
    made = domain("right", ("x", "R", "j"), ("y", "R", "k"))
    price = Price(once=Decimal(5))
    function = CatalogueFunction(
        type=kind("x"), implementation="test", ports=PORTS, flavours=(Flavour(name="default", units=1, price=price),),
        places=frozenset({"R"}), delay_us=0,
    )  # fmt: skip
    return Leaf(replace(made, functions=(function,)))


def domain(name: str, *saps: tuple[str, ...]) -> Domain:
    places = sorted({at for _, at, *_ in saps})
    other = {"left": "right", "right": "left"}[name]
    return Domain(
        name=name,
        sp_id=name,
        places=tuple(Place(id=p, country="DE", latitude=50, longitude=10) for p in places),
        hosts=dict.fromkeys(places, (4,)),
        lan=frozenset(places),
        saps=tuple(
            Sap(
                id=id,
                role=SapRole.NNI if joint else SapRole.UNI,
                place=at,
                encapsulation=Encapsulation.VLAN,
                mtu=9000,
                labels=LabelSet(((100, 199),)),
                bandwidth_bps=10 * MBPS,
                interconnect="".join(joint),
                peer=other if joint else "",
                decides_labels=name == "left",
            )
            for id, at, *joint in saps
        ),
        ways=tuple(ways([(id, at) for id, at, *_ in saps], places)),
        functions=(),
        swaps_labels=True,
    )


def ways(saps: list[tuple[str, str]], places: list[str]) -> Iterator[Way]:
    for id, at in saps:
        yield way(f"{id}-{at}", id, at, 0, 1, 10 * MBPS)
    if places == ["P", "Q"]:
        yield way("cheap", "P", "Q", 1, 10, MBPS)
        yield way("fast", "a", "Q", 2, 5, MBPS)


def way(id: str, a: str, b: str, cost: int, delay: int, bps: int) -> Way:
    price = Price(once=Decimal(cost))
    return Way(id=id, a=a, b=b, price=price, delay_us=delay, bandwidth_bps=bps, availability=1.0, isolation=())
