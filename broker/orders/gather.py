"""From the suppliers' choices to the service's own, and from its bindings to each segment's. Pure.

Rules kept here
- Every choice is checked against the constraint that was handed down; one that violates it is not used.
- What a supplier says about ends and links of its own making never goes up: only points of the service's own spec do.
- Each family of a link is judged, gathered and bound by itself.
- A segment learns of its neighbours what it needs: the address of the far port of a link, and what lies beyond each end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from address_planner.macs import INDIVIDUAL, Mac
from address_planner.prefixes import inside, is_usable, overlap
from broker.orders.narrowing import adjacencies_of
from broker.orders.split import HandedDown, Split
from service_model.families import BOTH
from service_model.outcomes import AddressingChoice, Bindings, LinkChoice, Reason, ReasonCode, Stack
from service_model.replacing import replace
from service_model.spec import AddressRole, LinkKind, ServiceSpec, VirtualLink
from service_model.words import Address, Prefix


def violation(spec: ServiceSpec, choice: AddressingChoice) -> Reason | None:
    """How `choice` breaks the constraint in `spec` (CONSTRAINT_VIOLATED, its subject an end or link), or None."""

    def broken(subject: str, message: str) -> Reason:
        return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=f"{subject!r}: {message}", subject=subject)

    for end in spec.ends:
        label = choice.labels.get(end.id)
        if label is None:
            return broken(end.id, "no label was chosen")
        if end.labels is not None and label not in end.labels:
            return broken(end.id, f"label {label} is not in {end.labels}")
        if choice.path_headers.get(end.id) != end.path_header:
            return broken(end.id, f"path header {choice.path_headers.get(end.id)} instead of {end.path_header}")
        twin = next(
            (e for e in spec.ends if e.id < end.id and e.sap == end.sap and choice.labels.get(e.id) == label), None
        )
        if twin is not None:
            return broken(end.id, f"label {label} is also that of {twin.id!r} at the same SAP")
        behind = {*end.networks, *(p for x in choice.links if _joins(spec, x.link, end.id) for p in x.prefixes)}
        for prefix in choice.reach.get(end.id, ()):
            if prefix not in behind:
                return broken(end.id, f"{prefix} is said to lie behind it")
    chosen: list[Prefix] = []
    versions = spec.link_versions()
    for link in spec.links:
        answer = choice.link(link.id)
        if answer is None:
            return broken(link.id, "nothing was chosen for this link")
        if answer.mtu < spec.min_mtu:
            return broken(link.id, f"MTU {answer.mtu} is below {spec.min_mtu}")
        if not link.ports:
            continue
        wrong = _families_wrong(versions[link.id], answer)
        for stack in answer.stacks:
            wrong = wrong or _prefix_wrong(spec, link, stack, chosen) or _addresses_wrong(link, stack)
        wrong = wrong or _macs_wrong(link, answer)
        if wrong:
            return broken(link.id, wrong)
        chosen += answer.prefixes
    clash = _clash(spec, choice)
    return broken(*clash) if clash is not None else None


def _clash(spec: ServiceSpec, choice: AddressingChoice) -> tuple[str, str] | None:
    """Two links that share what only parts of one adjacency may: which, and why."""
    links = [(link, answer) for link in spec.links if (answer := choice.link(link.id)) is not None]
    adjacencies = adjacencies_of(spec)
    for version in BOTH:
        stacks = {link.id: answer.of(version) for link, answer in links}
        prefixes = {id: (stack.prefix,) for id, stack in stacks.items() if stack.prefix is not None}
        own = {
            link.id: {p: a for p in link.ports if (a := stacks[link.id].addresses.get(p)) is not None}
            for link, _ in links
        }
        if (found := adjacencies.clash(prefixes, own)) is not None:
            return found
    return None


def _joins(spec: ServiceSpec, link: str, point: str) -> bool:
    return any(x.id == link and point in x.points for x in spec.links)


def _families_wrong(wanted: tuple[int, ...], answer: LinkChoice) -> str:
    had = [prefix.version for prefix in answer.prefixes]
    missing = [version for version in wanted if version not in had]
    if missing or not had:
        return f"no {f'IPv{missing[0]} ' if missing and had else ''}prefix was chosen"
    return f"prefix {answer.prefixes[-1]} is one too many" if len(had) > len(wanted or had[:1]) else ""


def _prefix_wrong(spec: ServiceSpec, link: VirtualLink, stack: Stack, others: Iterable[Prefix]) -> str:
    prefix = stack.prefix
    assert prefix is not None
    required = link.addressing.of(prefix.version).prefix
    if required is not None:
        return "" if prefix == required else f"prefix {prefix} instead of {required}"
    if spec.blocks.allowed and not any(inside(prefix, block) for block in spec.blocks.allowed):
        return f"prefix {prefix} is outside the allowed blocks"
    for cut in (*spec.blocks.excluded, *others):
        if overlap(prefix, cut):
            return f"prefix {prefix} overlaps {cut}"
    return ""


def _addresses_wrong(link: VirtualLink, stack: Stack) -> str:
    assert stack.prefix is not None
    told = link.addressing.of(stack.prefix.version)
    given = {r.address for r in told.reserved}
    fixed = {r.point: r.address for r in told.reserved if r.point in link.ports}
    own: set[Address] = set()
    for port in link.ports:
        address = stack.addresses.get(port)
        if address is None:
            return f"no IPv{stack.prefix.version} address was chosen for {port}"
        if not is_usable(address, stack.prefix):
            return f"{address} of {port} is no host of {stack.prefix}"
        if port in fixed and address != fixed[port]:
            return f"{address} of {port} instead of {fixed[port]}"
        if told.hosts and not any(address in hosts for hosts in told.hosts):
            return f"{address} of {port} is outside the hosts given"
        gateway = any(r.address == address and r.role is AddressRole.GATEWAY for r in told.reserved)
        if address in own or (address in given and not gateway and port not in fixed):
            return f"{address} of {port} is taken"
        own.add(address)
    return ""


def _macs_wrong(link: VirtualLink, answer: LinkChoice) -> str:
    pool, own = link.addressing.macs, set[Mac]()
    for port in link.ports if pool is not None else ():
        mac = answer.macs.get(port)
        if mac is None:
            return f"no hardware address was chosen for {port}"
        if pool is not None and mac.number not in pool & INDIVIDUAL:
            return f"hardware address {mac} of {port} is not in {pool}"
        if mac in own:
            return f"hardware address {mac} of {port} is taken"
        own.add(mac)
    return ""


def gather(spec: ServiceSpec, parts: Split, answers: Mapping[str, AddressingChoice]) -> AddressingChoice:
    """The service's own choice from its segments' (`answers` by segment key)."""
    own_ends = {end.id: end for end in spec.ends}
    labels: dict[str, int] = {}
    reach: dict[str, tuple[Prefix, ...]] = {}
    borne = {end: header for a in answers.values() for end, header in a.path_headers.items() if end in own_ends}
    for answer in answers.values():
        labels |= {end: label for end, label in answer.labels.items() if end in own_ends}
        reach |= {end: prefixes for end, prefixes in answer.reach.items() if end in own_ends}
    links = tuple(_gather_link(link, parts, answers) for link in spec.links)
    for link in spec.links:
        crossing = parts.links.get(link.id)
        if crossing is not None and link.kind is LinkKind.LINE:
            for end in (p for p in link.points if p in own_ends):
                reach.setdefault(end, (*crossing.prefixes, *own_ends[end].networks))
    return AddressingChoice(labels=labels, links=links, reach=reach, path_headers=borne)


def _gather_link(link: VirtualLink, parts: Split, answers: Mapping[str, AddressingChoice]) -> LinkChoice:
    crossing = parts.links.get(link.id)
    known = LinkChoice.stacked(
        link.id, crossing.stacks if crossing else (Stack(prefix) for prefix in link.addressing.prefixes)
    )
    names = {p.key: [link.id, *(own for own, line in p.lines.items() if line == link.id)] for p in parts.segments}
    told = [part for key, answer in answers.items() for part in filter(None, map(answer.link, names[key]))]
    for part in told:
        mine = (Stack(s.prefix, {p: a for p, a in s.addresses.items() if p in link.points}) for s in part.stacks)
        known = _together(known, LinkChoice.stacked(link.id, mine))
    macs = {point: mac for part in told for point, mac in part.macs.items() if point in link.points}
    return replace(known, mtu=min((part.mtu for part in told), default=0), macs=macs)


def _together(first: LinkChoice, more: LinkChoice) -> LinkChoice:
    """What both tell of a link; prefixes are the first's where it has them, addresses those of `more`."""
    return LinkChoice.stacked(
        first.link,
        (
            Stack(first.of(v).prefix or more.of(v).prefix, {**first.of(v).addresses, **more.of(v).addresses})
            for v in BOTH
        ),
    )


def whole(choice: AddressingChoice, told: Bindings) -> Bindings:
    """The bindings of the service: its own choice, completed by what the caller tells at commit."""
    links = []
    for link in choice.links:
        above = told.link(link.link) or link
        known = (
            Stack(link.of(v).prefix or above.of(v).prefix, {**above.of(v).addresses, **link.of(v).addresses})
            for v in BOTH
        )
        made = LinkChoice.stacked(link.link, known, min(link.mtu, above.mtu or link.mtu))
        links.append(replace(made, macs=link.macs, ports=link.ports))
    return AddressingChoice(
        labels={**told.labels, **choice.labels},
        links=tuple(links),
        reach={**choice.reach, **told.reach},
        path_headers={**told.path_headers, **choice.path_headers},
    )


def unconfirmed(choice: AddressingChoice, told: Bindings) -> Reason | None:
    """What `told` contradicts of the choice that is held: a commit confirms, it does not change."""
    for end, label in told.labels.items():
        if choice.labels.get(end) != label:
            return Reason(
                code=ReasonCode.CONSTRAINT_VIOLATED,
                message=f"end {end!r}: bound to label {label}, held is {choice.labels.get(end)}",
                subject=end,
            )
    for end, header in told.path_headers.items():
        if choice.path_headers.get(end) != header:
            return Reason(
                code=ReasonCode.CONSTRAINT_VIOLATED,
                message=f"end {end!r}: bound to path header {header}, held is {choice.path_headers.get(end)}",
                subject=end,
            )
    for link in told.links:
        held = choice.link(link.link)
        other = [p for p in link.prefixes if held is None or (held.prefixes and p not in held.prefixes)]
        if other or held is None:
            bound, known = ", ".join(map(str, other)), ", ".join(map(str, held.prefixes)) if held else "nothing"
            return Reason(
                code=ReasonCode.CONSTRAINT_VIOLATED,
                message=f"link {link.link!r}: bound to {bound or None}, held is {known}",
                subject=link.link,
            )
    return None


def binding(spec: ServiceSpec, part: HandedDown, chosen: AddressingChoice, bound: Bindings) -> Bindings:
    """What the supplier of one segment is told at commit: `chosen` is its own answer, `bound` the service's bindings."""
    links = []
    for link in part.spec.links:
        service_link = spec.link(part.lines.get(link.id, link.id))
        known = bound.link(service_link.id) or LinkChoice(link=service_link.id)
        own = chosen.link(link.id) or LinkChoice(link=link.id)
        told = (_bound(link, service_link, own.of(v), known.of(v)) for v in BOTH)
        links.append(replace(LinkChoice.stacked(link.id, told, known.mtu or own.mtu), macs=own.macs, ports=own.ports))
    reach = {end: _reach(bound, beyond) for end, beyond in part.towards.items()}
    return AddressingChoice(
        labels=chosen.labels,
        links=tuple(links),
        reach={end: found for end, found in reach.items() if found},
        path_headers=chosen.path_headers,
    )


def _bound(link: VirtualLink, service_link: VirtualLink, own: Stack, known: Stack) -> Stack:
    """What a segment is told of one family: what it chose itself, and the address at the far point of a LINE."""
    addresses = {p: a for p, a in own.addresses.items() if p in link.points}
    if link.kind is LinkKind.LINE:
        far = [p for p in service_link.points if p not in link.points]
        for point in link.points:
            address = known.addresses.get(point if point in service_link.points else far[0] if far else point)
            if address is not None:
                addresses[point] = address
    return Stack(own.prefix or known.prefix, addresses)


def _reach(bound: Bindings, beyond: Iterable[str]) -> tuple[Prefix, ...]:
    """All that lies at these ends, each as `end@path`."""
    found = (bound.beyond(end, path) for end, _, path in (b.partition("@") for b in beyond))
    return tuple(dict.fromkeys(prefix for prefixes in found for prefix in prefixes))
