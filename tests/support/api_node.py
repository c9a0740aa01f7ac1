"""A node's northbound side over real sockets, with certificates of its own and fakes behind it."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import grpc
import trustme

from broker.accounts.admin_port import (
    AbandonedService,
    AcceptedRestore,
    AccountNotFound,
    Allocation,
    AllocationState,
    Applied,
    CannotAbandon,
    CannotAccept,
    Change,
    ChangeAction,
    Discrepancy,
    Documents,
    FeedState,
    FieldDiff,
    Inventory,
    PoolEntry,
    PoolKind,
    PoolUse,
    ResourceLevel,
    ResourceUse,
    SegmentDetail,
    ServiceDetail,
    StuckSegment,
    SupplierStatus,
)
from broker.accounts.planned import PlacedFunction, PlannedPart, PlannedService, Preview, RejectedService
from broker.accounts.secrets import MIN_PASSWORD
from broker.northbound.admission import Bounds
from broker.northbound.auth import Credentials, Password, Principal
from broker.northbound.server import Identity, NorthboundServer, Serving, serve
from broker.northbound.wrong_calls import AuthError, AuthReason, Throttled
from lower_sp_clients.remote_sp import ClientTls
from service_model.money import Price
from service_model.outcomes import Reason, ReasonCode, ServiceState, ServiceStatus
from service_model.spec import ServiceSpec
from tests.support.clock import Sleeper
from tests.support.fake_supplier import FakeSupplier

START = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)


class SetClock(Sleeper):
    """Stands still until it is moved. A sleep moves it, and is remembered."""

    def __init__(self) -> None:
        self._now = START
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.move(seconds)
        await asyncio.sleep(0)


class FakeAuthenticator:
    """Tokens are JSON; their signature is that this object remembers them."""

    def __init__(self, clock: SetClock, lifetime_s: float = 900.0) -> None:
        self._clock, self.lifetime_s = clock, lifetime_s
        self.passwords: dict[str, str] = {}
        self.roles: dict[str, frozenset[str]] = {}
        self.certificates: dict[str, str] = {}
        """Account of a service -> thumbprint of its certificate."""
        self.issued: set[str] = set()
        self.issues = 0
        self.throttle_s: float | None = None

    async def issue(self, credentials: Credentials) -> tuple[str, datetime]:
        known = (
            self.passwords.get(credentials.account) == credentials.secret
            if isinstance(credentials, Password)
            else self.certificates.get(credentials.account) == credentials.thumbprint
        )
        if not known:
            raise AuthError(AuthReason.CREDENTIALS_REFUSED, "account or credentials are wrong")
        self.issues += 1
        expires = self._clock.now() + timedelta(seconds=self.lifetime_s)
        bound = None if isinstance(credentials, Password) else credentials.thumbprint
        token = json.dumps([credentials.account, expires.isoformat(), bound, self.issues])
        self.issued.add(token)
        return token, expires

    def authenticate(self, token: str, peer_cert_thumbprint: str | None) -> Principal:
        if self.throttle_s is not None:
            raise Throttled(self.throttle_s)
        if token not in self.issued:
            raise AuthError(AuthReason.TOKEN_INVALID, "not a token of ours")
        account, expires, bound, _ = json.loads(token)
        if bound is not None and bound != peer_cert_thumbprint:
            raise AuthError(AuthReason.TOKEN_INVALID, "bound to another certificate")
        until = datetime.fromisoformat(expires)
        if until <= self._clock.now():
            raise AuthError(AuthReason.TOKEN_EXPIRED, "expired")
        return Principal(account, self.roles.get(account, frozenset({"customer"})), until)


class FakeAdmin:
    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Any] = {}
        self.passwords: dict[str, str] = {}
        self.log: list[tuple[str, str]] = []
        self.problems: dict[tuple[str, str], tuple[str, ...]] = {}
        self.abandoned: dict[str, tuple[str, str]] = {}
        self.accepted: list[tuple[tuple[str, ...], str, str]] = []

    async def apply(self, documents: Documents, *, dry_run: bool, prune: bool, reason: str, actor: str) -> Applied:
        self.log.append((actor, reason))
        changes = []
        for document in documents:
            key = (document["kind"], document["name"])
            before = self.documents.get(key)
            action = ChangeAction.CREATED if before is None else ChangeAction.CHANGED
            diffs = (FieldDiff(field="prefix", after=json.dumps(document["prefix"])),)
            problems = self.problems.get(key, ())
            changes.append(Change(kind=key[0], name=key[1], action=action, diffs=diffs, problems=problems))
            if not dry_run and not self.problems:
                self.documents[key] = document
        return Applied(changes=tuple(changes), applied=not dry_run and not self.problems)

    async def export(self, kinds: tuple[str, ...]) -> Documents:
        return tuple(d for (kind, _), d in sorted(self.documents.items()) if not kinds or kind in kinds)

    async def inventory(self) -> Inventory:
        held = Allocation(pool="p", value="10.0.0.0/24", owner="r-1", state=AllocationState.HELD)
        return Inventory(allocations=(held,))

    async def pools(self) -> tuple[PoolUse, ...]:
        held = PoolEntry(value="10.0.0.0/24", state=AllocationState.HELD, account="ann", ref="r-1")
        resting = PoolEntry(value="7", state=AllocationState.QUARANTINED, until=START + timedelta(minutes=1))
        return (
            PoolUse(
                name="p", kind=PoolKind.PREFIXES, extent="10.0.0.0/16", size="65536", free="65280", largest_free="/17",
                fragmentation=0.498, entries=(held,),
            ),
            PoolUse(name="v6", kind=PoolKind.PREFIXES, extent="fd00::/40", size=str(1 << 88), free=str(1 << 88),
                largest_free="/40"),
            PoolUse(name="dc/to-east", kind=PoolKind.LABELS, extent="7", size="1", free="0", entries=(resting,)),
        )  # fmt: skip

    async def resources(self) -> tuple[ResourceUse, ...]:
        host = (ResourceLevel(since=START, taken=2), ResourceLevel(since=START + timedelta(days=1), taken=8))
        return (
            ResourceUse(name="dc/AMS host 1", size=8, host=True, levels=host),
            ResourceUse(name="dc/to-east", size=10**9, levels=(ResourceLevel(since=START, taken=4 * 10**8),)),
        )

    async def suppliers(self) -> tuple[SupplierStatus, ...]:
        live = SupplierStatus(
            alias="east", sp_id="sp-c", usable=True, feed=FeedState.REJECTED, since=START, edition=7, taken=START,
            expires=START + timedelta(hours=1), refusal="WRONG_AUDIENCE: audience is 'them'", kept=9, broken=1, rate=0.95,
        )  # fmt: skip
        return live, SupplierStatus(alias="west", sp_id="sp-d", usable=False, feed=FeedState.CONNECTING, since=START)

    async def set_password(self, account: str, password: str, *, actor: str) -> None:
        if account != "ann":
            raise AccountNotFound(account)
        if len(password) < MIN_PASSWORD:
            raise ValueError("has too few characters")
        self.passwords[account] = password

    async def plan(self, spec: ServiceSpec, account: str, alternatives: int, explain: bool) -> Preview:
        if spec.max_delay_us == 1:
            binds = Reason(code=ReasonCode.DELAY, message="delay: best 9 ms > 1 ms", subject="p")
            return Preview(
                reasons=(binds,), nearest=(RejectedService(breaks=(ReasonCode.DELAY,), plan=planned("0.30")),)
            )
        lost = (RejectedService(breaks=(ReasonCode.COUNTRY,), plan=planned("0.20")),) if explain else ()
        return Preview(plans=(planned("0.30"), planned("0.45"))[:alternatives], rejected=lost)

    async def stuck(self, account: str) -> tuple[StuckSegment, ...]:
        found = (
            StuckSegment(
                service="s-1", account="ann", ref="r-1", segment="east.1", alias="east", supplier="sp-c", supplier_ref="x",
                since=START, last_error="the connection broke", next_attempt=START + timedelta(hours=1),
                labels={"b": 100}, block="10.0.0.0/24", advice="have sp-c answer",
            ),
            StuckSegment(
                service="s-2", account="ben", ref="r-2", segment="dc.1", alias="dc", supplier="sp-top", supplier_ref="y",
                since=START, own=True, advice="repair domain dc",
            ),
        )  # fmt: skip
        return tuple(s for s in found if account in ("", s.account) and s.segment not in self.abandoned)

    async def abandon(self, service: str, account: str, segment: str, reason: str, *, actor: str) -> AbandonedService:
        if service not in ("s-1", "r-1"):
            raise CannotAbandon("service", f"there is no service {service!r}")
        self.abandoned["east.1"] = (actor, reason)
        return AbandonedService(service="s-1", state=ServiceState.TERMINATED, segments=("east.1",))

    async def accept(self, without: tuple[str, ...], reason: str, *, actor: str) -> AcceptedRestore:
        if "east" not in without:
            raise CannotAccept("without", "supplier 'east' cannot be asked what it has")
        self.accepted.append((without, reason, actor))
        found = Discrepancy(where="west", subject="x", message="is ACTIVE there, and unknown here")
        return AcceptedRestore(discrepancies=(found,), kept_off=2)

    async def orders(self, account: str, ref: str) -> AsyncIterator[ServiceDetail]:
        for number in range(3):
            status = ServiceStatus(ref=f"r-{number}", version=1, state=ServiceState.ACTIVE, create_time=START)
            part = SegmentDetail(alias="east", supplier="sp-c", ref="x", version=1, state=ServiceState.ACTIVE)
            if ref in ("", status.ref):
                yield ServiceDetail(account=account or "acme", status=status, segments=(part,))


def planned(per_hour: str) -> PlannedService:
    """Two parts, a function in the first, at this cost and a tenth more."""
    cost = Price(per_hour=Decimal(per_hour))
    web = PlacedFunction(function="firewall", place="AMS")
    parts = (
        PlannedPart(alias="east", supplier="sp-c", saps=("a", "to-west"), functions=(web,), cost=cost, delay_us=2000),
        PlannedPart(alias="west", supplier="sp-dd", saps=("to-east", "b"), delay_us=7000),
    )
    return PlannedService(
        parts=parts, interconnects=("ic-1",), price=cost.scaled(Decimal("1.1")), cost=cost, delay_us=9000
    )


@dataclass
class ApiNode:
    """What `start` made; `close` ends it."""

    clock: SetClock = field(default_factory=SetClock)
    authority: trustme.CA = field(default_factory=trustme.CA)
    partners: trustme.CA = field(default_factory=trustme.CA)
    trusted_partners: bytes | None = None
    """CA of partners, if it is not `partners`; b"": nobody's."""
    admin: FakeAdmin = field(default_factory=FakeAdmin)
    server: NorthboundServer | None = None
    bounds: Bounds = Bounds()

    def __post_init__(self) -> None:
        self.suppliers: defaultdict[str, FakeSupplier] = defaultdict(lambda: FakeSupplier(self.clock))
        self.authenticator = FakeAuthenticator(self.clock)
        self._open: list[Any] = []

    @cached_property
    def identity(self) -> Identity:
        return identity_of(self.authority)

    def _begun(self, account: str, ref: str, version: int) -> bool:
        supplier: object = self.suppliers[account]  # a test may have put another in the fake's place
        return isinstance(supplier, FakeSupplier) and supplier.knows(ref)

    async def start(self, port: int = 0, people_port: int = 0) -> ApiNode:
        serving = Serving(
            supplier_for=lambda account: self.suppliers[account],
            notes_for=lambda account: self.suppliers[account].notes(),
            authenticator=self.authenticator,
            clock=self.clock,
            admin=self.admin,
            begun=self._begun,
            bounds=self.bounds,
        )
        self.server = await serve(
            serving,
            identity=lambda: self.identity,
            partner_roots=lambda: (
                self.partners.cert_pem.bytes() if self.trusted_partners is None else self.trusted_partners
            ),
            listen=f"127.0.0.1:{people_port}",
            listen_partners=f"127.0.0.1:{port}",
        )
        return self

    async def close(self) -> None:
        for channel in self._open:
            await channel.close()
        if self.server is not None:
            await self.server.stop(1.0)

    @property
    def partner_endpoint(self) -> str:
        assert self.server is not None
        return f"127.0.0.1:{self.server.ports['partners']}"

    def partner_tls(self, ca: trustme.CA | None = None) -> ClientTls:
        """A new certificate under `ca` (default: the partners')."""
        own = identity_of(ca or self.partners)
        return ClientTls(roots=self.authority.cert_pem.bytes(), certificate=own.certificate, key=own.key)

    def people_channel(self) -> Any:
        """A channel to the people's listener, closed with the node."""
        assert self.server is not None
        credentials = grpc.ssl_channel_credentials(self.authority.cert_pem.bytes())
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{self.server.ports['people']}", credentials, (("grpc.use_local_subchannel_pool", 1),)
        )
        self._open.append(channel)
        return channel


def identity_of(ca: trustme.CA) -> Identity:
    issued = ca.issue_cert("127.0.0.1")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    return Identity(certificate=chain, key=issued.private_key_pem.bytes())
