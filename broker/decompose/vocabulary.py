"""The words of a spec that no note knows: SAPs, function types, flavours, places, ports, labels at the ends.

Rules kept here
- A message names what was asked and what there is; its subject is the spec's own word. The same question gets the same
  words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from address_planner.labels import LabelSet
from broker.decompose.graph import Graph, default_flavour
from broker.decompose.layered import ports_fit
from broker.decompose.mesh import Mesh
from capability_registry.note import PortRole
from service_model.outcomes import Nogood, Reason, ReasonCode
from service_model.spec import End, FunctionRequest

_LISTED = 8


def listed(names: Iterable[str]) -> str:
    """Names for a message: sorted, the first few."""
    ordered = sorted(set(names))
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return (", ".join(ordered[:_LISTED]) or "none") + more


def vocabulary(mesh: Mesh, graph: Graph) -> tuple[Reason, ...]:
    """Everything in the spec that no note knows; empty when all words are known."""
    reasons = [r for end in mesh.ends for r in _known_sap(end, graph)]
    for index, request in enumerate(mesh.functions):
        reasons.extend(_known_function(mesh, index, request, graph))
    return tuple(reasons)


def _known_sap(end: End, graph: Graph) -> list[Reason]:
    if end.sap in graph.announced:
        return []
    message = f"unknown SAP {end.sap!r}; known: {listed(graph.announced)}"
    return [Reason(code=ReasonCode.UNKNOWN_SAP, message=message, subject=end.id)]


def _known_function(mesh: Mesh, index: int, request: FunctionRequest, graph: Graph) -> list[Reason]:
    if _fits_somewhere(mesh, index, request, graph):
        return []
    offering = [(p, p.offers[request.type]) for p in graph.places if request.type in p.offers]
    if not offering:
        types = {str(t) for p in graph.places for t in p.offers}
        near = get_close_matches(str(request.type), sorted(types), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"offered: {listed(types)}"
        message = f"function {request.id!r}: nobody offers type {request.type}; {hint}"
        return [Reason(code=ReasonCode.UNKNOWN_FUNCTION_TYPE, message=message, subject=request.id)]
    reasons = []
    if request.flavour is not None and not any(default_flavour(o, request.flavour) for _, o in offering):
        flavours = listed(f.name for _, o in offering for f in o.flavours)
        message = f"function {request.id!r}: {request.type} has no flavour {request.flavour!r}; offered: {flavours}"
        reasons.append(Reason(code=ReasonCode.INVALID_PARAMETER, message=message, subject=request.id))
    places = {graph.here(p.vertex - 2 * graph.sap_count).site for p, _ in offering}
    if request.places and not places & set(request.places):
        message = (
            f"function {request.id!r}: {request.type} is not offered at {listed(request.places)}; at: {listed(places)}"
        )
        reasons.append(Reason(code=ReasonCode.UNKNOWN_PLACE, message=message, subject=request.id))
    wanted = [(port, PortRole.DATA) for port in mesh.ports(index)]
    for lan in mesh.lans:
        wanted += [(p, PortRole.MANAGEMENT) for m, p in lan.members if m == index]
    for port, role in wanted:
        if not any(q.name == port and q.role is role for _, o in offering for q in o.ports):
            known = listed(f"{q.name} ({q.role.short})" for _, o in offering for q in o.ports)
            need = "the path needs a DATA port" if role is PortRole.DATA else "a LAN needs a MANAGEMENT port"
            message = (
                f"function {request.id!r}: {request.type} has no {role.short} port {port!r}, {need}; known: {known}"
            )
            reasons.append(Reason(code=ReasonCode.UNKNOWN_PORT, message=message, subject=request.id))
    return reasons


def _fits_somewhere(mesh: Mesh, index: int, request: FunctionRequest, graph: Graph) -> bool:
    """Whether type, flavour and ports are offered, and the type at one of the places asked for: the usual case."""
    offering = graph.offering(request.type, request.flavour)
    if offering is None or not any(ports_fit(mesh, index, ports) for ports in offering.kinds_of_ports):
        return False
    named = {p for id in request.places for p in graph.named(id)}
    return not request.places or bool(named.intersection(offering.at.tolist()))


def ends_without_label(mesh: Mesh, graph: Graph) -> tuple[Reason, ...]:
    """The ends that cannot all have a free label of their own at their SAPs (a maximum matching, end by end)."""
    ends = [*mesh.ends, *(outer.end for lan in mesh.lans for outer in lan.outer)]
    reasons = []
    for sap in sorted({e.sap for e in ends}):
        here = [e for e in ends if e.sap == sap]
        free = graph.sap_offer(graph.announced[sap]).free
        sets = [free if e.labels is None else free & e.labels for e in here]
        holder: dict[int, int] = {}
        for i, end in enumerate(here):
            if not _give(i, sets, holder, set()):
                message = f"no free label at SAP {sap!r} for end {end.id!r}"
                nogood = Nogood(end=end.id, acceptable_labels=free)
                code = ReasonCode.LABELS_EXHAUSTED
                reasons.append(Reason(code=code, message=message, subject=end.id, retryable=True, nogood=nogood))
    return tuple(reasons)


def _give(i: int, sets: Sequence[LabelSet], holder: dict[int, int], tried: set[int]) -> bool:
    """Kuhn's augmenting path: as many labels as there are ends are enough to look at."""
    for n, label in enumerate(sets[i]):
        if n >= len(sets):
            break
        if label not in tried:
            tried.add(label)
            if label not in holder or _give(holder[label], sets, holder, tried):
                holder[label] = i
                return True
    return False
