"""The real command line in processes of its own, against a node over TLS whose supplier builds in steps."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from address_planner.labels import LabelSet
from broker.northbound.auth import Password
from capability_registry.keys import SigningKey
from capability_registry.note import (
    Bin,
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    Encapsulation,
    FunctionOffer,
    FunctionPort,
    Place,
    PlaceCapacity,
    PointKind,
    PortRole,
    SapOffer,
    SapRole,
)
from capability_registry.signing import sign
from lower_sp_clients import wire
from lower_sp_clients.supplier import Context, SignedNote
from service_model.clock import Clock
from service_model.flavours import Flavour
from service_model.money import Price
from service_model.outcomes import (
    LinkChoice,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    SegmentStatus,
    ServiceState,
)
from service_model.spec import FunctionType, ServiceSpec
from tests.support.api_node import ApiNode
from tests.support.fake_supplier import FakeSupplier, _Order

ROOT = Path(__file__).resolve().parents[2]
ORDERS = ROOT / "config/demo/orders"
SPEC = ORDERS / "guarded-web.spec.yml"
NSD = ORDERS / "guarded-web.nsd.yml"
POOLS = """\
kind: pool
name: east
prefix: 10.0.0.0/16
block: 24
---
kind: pool
name: west
prefix: 10.1.0.0/16
block: 24
"""
NSD_SAPS = ("--from", "north.client-1", "--to", "south.server-1")
PASSWORD = "correct horse"
PRICE = Price(once=Decimal("12.50"), per_hour=Decimal("0.35"))
MAY_TAKE_S = 60.0
BROKEN = Reason(
    code=ReasonCode.SEGMENT_FAILED,
    message="a part could not be built",
    segment="west",
    causes=(Reason(code=ReasonCode.INFRASTRUCTURE, message="no room on the host", incident_id="4f1d"),),
)


class BuildingSupplier(FakeSupplier):
    """Has a price and two parts. A commit is followed by ACTIVATING, and by `outcome` once `may_build` is set."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.outcome = ServiceState.ACTIVE
        self.silent = False
        """Whether its `west` never confirms that it is gone."""
        self.may_build = asyncio.Event()
        self.may_build.set()
        self.specs: list[ServiceSpec] = []
        self._building: set[asyncio.Task[None]] = set()

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused:
        self.specs.append(spec)
        answer = await super().reserve(ref, version, spec, ctx)
        if isinstance(answer, Refused):
            return answer
        first = spec.links[0]
        hosts = zip(first.points, (ip_address("10.9.0.0"), ip_address("10.9.0.1")), strict=False)
        chosen = LinkChoice(link=first.id, prefix=ip_network("10.9.0.0/31"), addresses=dict(hosts), mtu=1450)
        choice = replace(answer.choice, links=(chosen,))
        order = self._orders[ref]
        if order.status.newer is None:
            order.status = replace(order.status, choice=choice, price=PRICE, delay_us=4200)
        return replace(answer, choice=choice, price=PRICE, delay_us=4200)

    async def _to(self, order: _Order, state: ServiceState) -> None:
        if state is ServiceState.TERMINATED and self.silent:
            await self._step(order, ServiceState.STUCK, ServiceState.TERMINATED, ServiceState.STUCK)
            return
        if state is not ServiceState.ACTIVE:
            await super()._to(order, state)
            return
        await self._step(order, ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.ACTIVATING)
        task = asyncio.create_task(self._built(order))
        self._building.add(task)
        task.add_done_callback(self._building.discard)

    async def _built(self, order: _Order) -> None:
        await self.may_build.wait()
        if self.outcome is ServiceState.FAILED:
            order.status = replace(order.status, reasons=(BROKEN,))
        await self._step(order, self.outcome, ServiceState.ACTIVE, self.outcome)

    async def _step(self, order: _Order, state: ServiceState, east: ServiceState, west: ServiceState) -> None:
        inner = (SegmentStatus(alias="metro", state=west, functions=("shaper",)),)
        parts = (
            SegmentStatus(alias="east", state=east, functions=("firewall", "meter"), place="NLAMS"),
            SegmentStatus(alias="west", state=west, segments=inner),
        )
        order.status = replace(order.status, segments=parts)
        await super()._to(order, state)


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CliBench:
    """A node and a home for logins. `ann` is a customer, `oscar` an operator."""

    home: Path
    node: ApiNode = field(default_factory=ApiNode)
    _started: list[Process] = field(default_factory=list)

    async def open(self) -> CliBench:
        node = self.node
        node.clock.move((datetime.now(UTC) - node.clock.now()).total_seconds())
        node.authenticator.passwords |= {"ann": PASSWORD, "oscar": PASSWORD}
        node.authenticator.roles["oscar"] = frozenset({"operator"})
        node.suppliers["ann"] = BuildingSupplier(node.clock)
        await node.start()
        (self.home / "ca.pem").write_bytes(node.authority.cert_pem.bytes())
        await self.supplier.publish(signed_note(1))
        return self

    async def close(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await self.node.close()

    @property
    def supplier(self) -> BuildingSupplier:
        supplier = self.node.suppliers["ann"]
        assert isinstance(supplier, BuildingSupplier)
        return supplier

    @property
    def endpoint(self) -> str:
        assert self.node.server is not None
        return f"127.0.0.1:{self.node.server.ports['people']}"

    async def start(self, *arguments: str | Path) -> Process:
        """A running command, ended with the bench if it has not by then."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SPBROKER")}
        environment |= {
            "SPBROKER_HOME": str(self.home), "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "COLUMNS": "100", "TZ": "UTC",
            "PYTHONUTF8": "1",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "broker.cli", *map(str, arguments),
            stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, cwd=self.home,
        )  # fmt: skip
        self._started.append(process)
        return process

    async def run(self, *arguments: str | Path, stdin: str = "") -> Ran:
        process = await self.start(*arguments)
        async with asyncio.timeout(MAY_TAKE_S):
            out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    async def log_in(self, account: str = "ann", *more: str | Path, password: str = PASSWORD) -> Ran:
        ca = self.home / "ca.pem"
        arguments = ("login", self.endpoint, "--account", account, "--ca", ca, "--password-stdin", *more)
        return await self.run(*arguments, stdin=f"{password}\n")

    async def be(self, account: str) -> None:
        """`account` is logged in, without a process that does it."""
        token, expires = await self.node.authenticator.issue(Password(account, PASSWORD))
        ca = (self.home / "ca.pem").read_text()
        login = {"endpoint": self.endpoint, "account": account, "ca": ca, "token": token}
        self.profile().parent.mkdir(exist_ok=True)
        self.profile().write_text(json.dumps(login | {"expires": expires.isoformat()}))

    def profile(self, name: str = "default") -> Path:
        return self.home / "profiles" / f"{name}.json"

    def mode(self, name: str = "default") -> int:
        return stat.S_IMODE(self.profile(name).stat().st_mode)


async def line_with(stream: asyncio.StreamReader | None, text: str) -> str:
    """The next line of a running command that has `text` in it."""
    assert stream is not None
    async with asyncio.timeout(MAY_TAKE_S):
        async for line in stream:
            if text in line.decode():
                return line.decode()
    raise AssertionError(f"the command ended without a line that has {text!r}")


def signed_note(edition: int) -> SignedNote:
    note = note_of(edition)
    payload = json_format.MessageToJson(wire.NOTE.encode(note), preserving_proto_field_name=True)
    return SignedNote(jws=sign(payload.encode(), SigningKey.generate(lambda n: bytes(n))), note=note)


def note_of(edition: int) -> CapabilityNote:
    """Sells the functions of the example orders in config/demo/orders, between two sites."""
    now = datetime.now(UTC)
    ports = (
        FunctionPort(name="input"),
        FunctionPort(name="output"),
        FunctionPort(name="mgmt", role=PortRole.MANAGEMENT),
    )
    return CapabilityNote(
        sp_id="sp-top", edition=edition, audience="ann", not_before=now, expires=now + timedelta(hours=1),
        places=(Place(id="NLAMS", country="NL", tags=("metro",)), Place(id="DEFRA", country="DE")),
        functions=tuple(
            FunctionOffer(
                type=FunctionType("eu.spbroker", name, "1.0"), place=place, ports=ports,
                flavours=(
                    Flavour(name="small", price=Price(per_hour=Decimal("0.05"))),
                    Flavour(name="large", units=4, price=Price(once=Decimal(5), per_hour=Decimal("0.2"))),
                ),
            )
            for name in ("firewall", "meter", "shaper")
            for place in ("NLAMS", "DEFRA")
        ),
        capacities=(PlaceCapacity(place="NLAMS", bins=(Bin(size=8, count=3), Bin(size=2, count=1)), lan=True),),
        saps=(
            sap("north.client-1", "NLAMS"), sap("south.server-1", "DEFRA"),
            sap("to-c", "DEFRA", role=SapRole.NNI, interconnect="ix-1", peer="sp-c",
                encapsulation=Encapsulation.VXLAN, labels=LabelSet.parse("5000-5999")),
        ),
        matrix=(
            BorderEntry(a="north.client-1", b="south.server-1", points=(
                way(PointKind.CHEAPEST, "0.10", 9000, 10**9), way(PointKind.FASTEST, "0.90", 3500, 10**10),
            )),
            BorderEntry(a="north.client-1", b="to-c", points=(
                way(PointKind.CHEAPEST, "0.20", 5000, 10**9), way(PointKind.FASTEST, "0.20", 5000, 10**9),
            )),
        ),
    )  # fmt: skip


def sap(id: str, place: str, **more: Any) -> SapOffer:
    figures: dict[str, Any] = {
        "role": SapRole.UNI, "encapsulation": Encapsulation.VLAN, "labels": LabelSet.parse("100-199,300"),
    }  # fmt: skip
    return SapOffer(id=id, place=place, mtu=1500, bandwidth_bps=10**10, **figures | more)


def way(kind: PointKind, per_hour: str, delay_us: int, bandwidth_bps: int) -> BorderPoint:
    price = Price(per_hour=Decimal(per_hour))
    return BorderPoint(kind=kind, price=price, delay_us=delay_us, bandwidth_bps=bandwidth_bps, availability=0.999)
