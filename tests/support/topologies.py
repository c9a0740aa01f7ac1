"""Federations of real nodes: three levels above each other, and the demo's four operators from their folders.

top                     sells to ann and ben, owns nothing
 └─ middle (wholesale)  place MID: the SAP `client`, the firewall
     └─ leaf (lower)    place LOW: the SAP `server`, the meter
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from address_planner.labels import LabelSet
from broker.settings.folder import read_folder
from service_model.spec import End, FunctionRequest, FunctionType, ServiceFunctionPath, ServiceSpec, VirtualLink
from tests.support.customer import PASSWORD, Customer
from tests.support.nodes import OPERATOR, SETTLED_S, Nodes, RealNode

LEVELS = ("top", "middle", "leaf")
FROM, TO = "wholesale.client", "wholesale.lower.server"
LABELS = "5000-5999"
POOL = "10.96.0.0/16"

DEMO = Path(__file__).resolve().parents[2] / "config" / "demo"
DEMO_OPERATORS = ("abyss", "boreas", "notos", "aurora")
"""In the order in which they can be opened: whom they buy from first."""
DEMO_FROM, DEMO_TO = "north.client-1", "south.server-1"


def agreement(name: str, margin: int = 10, **more: Any) -> dict[str, Any]:
    return {"kind": "agreement", "name": name, "margin_percent": margin, **more}


def person(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "account", "name": name, "agreement": "retail", **more}


def partner(name: str, node: RealNode, **more: Any) -> dict[str, Any]:
    """The account of a service whose SP is `node`."""
    return {
        "kind": "account",
        "name": name,
        "type": "service",
        "agreement": "resale",
        "anchor": node.anchor,
        **more,
    }


def supplier(name: str, node: RealNode, account: str, **more: Any) -> dict[str, Any]:
    sp_id = node.settings.sp_id
    return {
        "kind": "supplier",
        "name": name,
        "sp_id": sp_id,
        "endpoint": node.endpoint,
        "anchor": node.anchor,
        "account": account,
        **more,
    }


def uni(id: str, place: str) -> dict[str, Any]:
    bandwidth = 10_000_000_000
    return {
        "id": id, "role": "UNI", "place": place, "encapsulation": "VXLAN", "mtu": 1450, "bandwidth_bps": bandwidth
    }  # fmt: skip


def nni(id: str, place: str) -> dict[str, Any]:
    return {**uni(id, place), "role": "NNI", "interconnect": "ic"}


def own_domain(name: str, place: str, *saps: dict[str, Any], price: str = "0.10", **more: Any) -> dict[str, Any]:
    """A domain with one place, to which each SAP has one way."""
    way = {"name": "fibre", "delay_us": 500, "price": {"per_hour": price}, "bandwidth_bps": 10_000_000_000}
    return {
        "kind": "domain",
        "name": name,
        "driver": "simulated",
        "label_quarantine_s": 0,
        "places": [{"place": place, "bins": [{"size": 64, "count": 4}]}],
        "saps": list(saps),
        "links": [{"a": sap["id"], "b": place, "ways": [way]} for sap in saps],
        **more,
    }


def function(name: str) -> dict[str, Any]:
    ports = [{"name": "input"}, {"name": "output"}, {"name": "mgmt", "role": "MANAGEMENT"}]
    return {
        "kind": "function",
        "name": name,
        "type": f"eu.spbroker/{name}/1.0",
        "implementation": name,
        "ports": ports,
        "flavours": [{"name": "small", "units": 1, "price": {"per_hour": "0.05"}}],
    }


def interconnect(peer: str, decides: bool, labels: str = "") -> dict[str, Any]:
    return {"kind": "interconnect", "name": "ic", "peer": peer, "labels": labels or LABELS, "decides_labels": decides}


def pool(prefix: str = POOL, **more: Any) -> dict[str, Any]:
    return {"kind": "pool", "name": "services", "prefix": prefix, "block": 27, "quarantine_s": 0, **more}


def leaf_documents(customer: RealNode) -> list[dict[str, Any]]:
    return [
        {"kind": "place", "name": "LOW", "country": "GR"},
        interconnect("middle", decides=True),
        own_domain("field", "LOW", uni("server", "LOW"), nni("to-middle", "LOW")),
        function("meter"),
        agreement("resale"),
        partner("middle", customer),
    ]


def middle_documents(customer: RealNode, below: RealNode, **more: Any) -> list[dict[str, Any]]:
    return [
        {"kind": "place", "name": "MID", "country": "CH"},
        interconnect("leaf", decides=False),
        own_domain("metro", "MID", uni("client", "MID"), nni("to-leaf", "MID")),
        function("firewall"),
        supplier("lower", below, "middle", **more),
        agreement("resale"),
        partner("top", customer),
    ]


def top_documents(below: RealNode, **more: Any) -> list[dict[str, Any]]:
    return [supplier("wholesale", below, "top", **more), pool(), agreement("retail"), person("ann"), person("ben")]


Through = Callable[[RealNode, RealNode], Awaitable[str]]
"""Gives the endpoint at which a customer (first) reaches a supplier."""


async def directly(customer: RealNode, supplier: RealNode) -> str:
    return supplier.endpoint


async def three_levels(nodes: Nodes, through: Through = directly) -> Nodes:
    """top, middle and leaf, administered, with top announcing the way from end to end to ann."""
    for sp_id in LEVELS:
        await nodes.add(sp_id)
    top, middle, leaf = (nodes[sp_id] for sp_id in LEVELS)
    await leaf.administer(leaf_documents(middle))
    await middle.administer(middle_documents(top, leaf, endpoint=await through(middle, leaf)))
    await top.administer(top_documents(middle, endpoint=await through(top, middle)))
    for account in ("ann", "ben"):
        await top.node.admin.set_password(account, PASSWORD, actor=OPERATOR)
    await top.announced("ann", FROM, TO)
    return nodes


async def demo_federation(nodes: Nodes) -> Nodes:
    """The four operators of config/demo with simulated domains, each from its own folder; alice may log in at aurora."""
    for name in DEMO_OPERATORS:
        await nodes.add(name)
    ports = {
        str(port): str(mine)
        for name in DEMO_OPERATORS
        for port, mine in zip(_listeners(DEMO / name / "node.yml"), _ports(nodes[name]), strict=True)
    }
    for name in DEMO_OPERATORS:
        folder = nodes.folder / name / "config"
        shutil.copytree(DEMO / name, folder)
        (folder / "node.yml").unlink()
        for file in folder.glob("*.yml"):
            text = re.sub(r"127\.0\.0\.1:(\d+)", lambda m: f"127.0.0.1:{ports[m[1]]}", file.read_text())
            file.write_text(text.replace("driver: linux", "driver: simulated"))
        await nodes[name].administer(read_folder(folder).documents)
    await nodes["aurora"].node.admin.set_password("alice", PASSWORD, actor=OPERATOR)
    await nodes["aurora"].announced("alice", DEMO_FROM, DEMO_TO)
    return nodes


def _listeners(file: Path) -> list[str]:
    return re.findall(r"127\.0\.0\.1:(\d+)", file.read_text())


def _ports(node: RealNode) -> tuple[int, int]:
    return node.people, node.partners


async def customer_of(node: RealNode, account: str) -> Customer:
    return await Customer(node, account).log_in()


def chain(
    name: str = "web",
    *,
    ends: tuple[str, str] = (FROM, TO),
    functions: tuple[str, ...] = ("firewall", "meter"),
    parameters: Mapping[str, Any] | None = None,
    labels: str | None = None,
) -> ServiceSpec:
    """client - the functions in order - server, with any label at both ends or one of `labels`."""
    points = ["client", *(f"{f}:{port}" for f in functions for port in ("input", "output")), "server"]
    allowed = LabelSet.parse(labels) if labels is not None else None
    return ServiceSpec(
        name=name,
        ends=tuple(End(id=id, sap=sap, labels=allowed) for id, sap in zip(("client", "server"), ends, strict=True)),
        functions=tuple(
            FunctionRequest(id=f, type=FunctionType("eu.spbroker", f, "1.0"), parameters=parameters or {})
            for f in functions
        ),
        links=tuple(
            VirtualLink(id=f"hop{number}", points=(a, b))
            for number, (a, b) in enumerate(zip(points[::2], points[1::2], strict=True), 1)
        ),
        paths=(ServiceFunctionPath(id="path", hops=tuple(points)),),
    )


async def left(nodes: Nodes) -> list[str]:
    """What any level still has allocated, held or built, in words; nothing after everything has ended."""
    found = []
    for sp_id, node in nodes.by_id.items():
        inventory = await node.inventory()
        found += [f"{sp_id}: {a.pool} {a.value} {a.state.short}" for a in inventory.allocations]
        found += [f"{sp_id}: hold {h.account}/{h.ref}" for h in inventory.holds]
        found += [f"{sp_id}: {i.kind} {i.name}" for i in inventory.items]
        found += [f"{sp_id}: {d.message}" for d in inventory.discrepancies]
    return found


async def nothing_left(nodes: Nodes) -> None:
    """Until nothing is left. What calls give back is given back at once; what is retried takes its time."""
    try:
        async with asyncio.timeout(SETTLED_S):
            while await left(nodes):  # noqa: ASYNC110  many nodes: none has an event for it
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"left after {SETTLED_S:g} s: {await left(nodes)}") from None
