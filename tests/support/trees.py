"""Trees of real nodes in which orders live while anything may happen to them: one above the other; and one with two sellers of
the same, so that what is lost for good at the one is bought of the other; and the first with a manager of ann's.

    top - middle -- client [west] ==(left: meter)== [east] server
                             \\==(right: meter)==//

middle has west and east, and buys the meter of left or of right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from service_model.spec import ServiceSpec
from spbroker.v1 import manager_service_pb2 as pb
from tests.support.customer import PASSWORD
from tests.support.nodes import OPERATOR, Nodes, RealNode
from tests.support.served_manager import NAME, ServedManager
from tests.support.topologies import (
    LABELS,
    LEVELS,
    Through,
    agreement,
    chain,
    function,
    own_domain,
    partner,
    person,
    pool,
    supplier,
    three_levels,
    uni,
)

SIDES = ("left", "right")
MANAGER, LARGE = "mine", "large"


@dataclass(frozen=True)
class Tree:
    """`made`: all of its nodes, administered, of which the first is ann's. `sellers`: the node by the name that its customer has
    for it. `spec`: what ann orders. `built`: what may have a live part of it then, each as node/domain. `managed`: what is
    administered besides where ann has a manager."""

    nodes: tuple[str, ...]
    made: Callable[[Nodes, Through], Awaitable[Nodes]]
    sellers: Mapping[str, str]
    spec: ServiceSpec
    built: tuple[tuple[str, ...], ...]
    managed: Callable[[Nodes, ServedManager], Awaitable[None]] | None = None


def joint(name: str, peer: str, decides: bool) -> dict[str, Any]:
    return {"kind": "interconnect", "name": name, "peer": peer, "labels": LABELS, "decides_labels": decides}


def nni(id: str, place: str, interconnect: str) -> dict[str, Any]:
    return {**uni(id, place), "role": "NNI", "interconnect": interconnect}


def meter_seller(side: str, customer: RealNode, **domain: Any) -> list[dict[str, Any]]:
    """One of SIDES, with a domain of its own name."""
    place, buyer = side.upper(), customer.settings.sp_id
    return [
        {"kind": "place", "name": place, "country": "CH"},
        *(joint(f"ic-{end}-{side}", buyer, decides=False) for end in ("west", "east")),
        own_domain(side, place, *(nni(f"to-{end}", place, f"ic-{end}-{side}") for end in ("west", "east")), **domain),
        function("meter"),
        agreement("resale"),
        partner(buyer, customer),
    ]


def meter_buyer(sellers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """West and east, joined to both sides, and the documents of these as suppliers."""
    documents = [function("firewall"), *sellers]
    for end, sap in (("west", "client"), ("east", "server")):
        place = end.upper()
        saps = [uni(sap, place), *(nni(f"{end}-{side}", place, f"ic-{end}-{side}") for side in SIDES)]
        documents += [{"kind": "place", "name": place, "country": "CH"}, own_domain(end, place, *saps)]
        documents += [joint(f"ic-{end}-{side}", side, decides=True) for side in SIDES]
    return documents


async def two_sellers(nodes: Nodes, through: Through) -> Nodes:
    """What is lost is noticed within a second, and bought elsewhere soon after."""
    for sp_id in TWO_SELLERS.nodes:
        await nodes.add(sp_id)
    top, middle = nodes["top"], nodes["middle"]
    sellers = []
    for side in SIDES:
        await nodes[side].administer(meter_seller(side, middle, look_every_s=1, heal_after_s=1))
        seller = supplier(side, nodes[side], "middle", heal_after_s=3)
        sellers.append({**seller, "endpoint": await through(middle, nodes[side])})
    await middle.administer([*meter_buyer(sellers), agreement("resale"), partner("top", top)])
    wholesale = {**supplier("wholesale", middle, "top"), "endpoint": await through(top, middle)}
    await top.administer([wholesale, pool(), agreement("retail"), person("ann")])
    await top.node.admin.set_password("ann", PASSWORD, actor=OPERATOR)
    return nodes


async def meter_is_sized(nodes: Nodes, manager: ServedManager) -> None:
    """By ann's manager, which says that it is large."""
    meter = function("meter")
    large = {"name": LARGE, "units": 2, "price": {"per_hour": "0.20"}}
    await nodes["leaf"].administer([{**meter, "flavours": [*meter["flavours"], large]}])
    document = {
        "kind": "manager", "name": "acme", "endpoint": manager.endpoint, "ca": manager.roots.decode(), "server_name": NAME,
        "decides": ["SCALE"],
    }  # fmt: skip
    await nodes["top"].administer([document, person("ann", managers={MANAGER: "acme"})])
    chosen = pb.FunctionFlavour(function="meter", flavour=LARGE)
    manager.scales = pb.ScaleResponse(chosen=pb.Scaling(flavours=[chosen]))


THREE_LEVELS = Tree(
    LEVELS, three_levels, {"wholesale": "middle", "lower": "leaf"}, chain(), (("leaf/field", "middle/metro"),)
)
MANAGED = replace(THREE_LEVELS, spec=replace(chain(), managers=(MANAGER,)), managed=meter_is_sized)
TWO_SELLERS = Tree(
    ("top", "middle", *SIDES),
    two_sellers,
    {"wholesale": "middle", **{side: side for side in SIDES}},
    chain(ends=("wholesale.client", "wholesale.server")),
    tuple(tuple(sorted(("middle/west", "middle/east", f"{side}/{side}"))) for side in SIDES),
)
