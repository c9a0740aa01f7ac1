"""The label of each end of a segment, within its constraint. Pure.

Rules kept here
- The suggested label is taken if it is free, else another of the label set, picked by hash; a SAP has each label once.
- Ends that the domain ties (a LINE from SAP to SAP where it does not swap) have one label, which is within the sets of all of
  them and free at each. Two of them at one SAP have none. A LAN is bridged, and may have another label at each of its ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import and_

from address_planner.labels import ANY_LABEL, NO_LABEL, LabelSet
from lower_sp_clients.vim.domain import Domain, Sap, Usage
from lower_sp_clients.vim.placing import Impossible, no
from service_model.outcomes import Nogood, ReasonCode
from service_model.spec import End, LinkKind, ServiceSpec


def choose_labels(domain: Domain, usage: Usage, spec: ServiceSpec, saps: Mapping[str, Sap], key: str) -> dict[str, int]:
    """By end; `saps`: the SAP of each end. Raises Impossible naming an end."""
    out: dict[str, int] = {}
    mine: dict[str, set[int]] = {}
    for ends in tied(domain, spec, saps):
        at = [saps[end.id] for end in ends]
        value = _value(usage, ends, at, mine, key)
        for end, sap in zip(ends, at, strict=True):
            out[end.id] = value
            mine.setdefault(sap.id, set()).add(value)
    return {end.id: out[end.id] for end in spec.ends}


def tied(domain: Domain, spec: ServiceSpec, saps: Mapping[str, Sap]) -> list[tuple[End, ...]]:
    """The ends in groups that have one label each, in the order of the spec."""
    group = {end.id: end.id for end in spec.ends}
    if not domain.swaps_labels:
        for a, b in (link.points for link in spec.links if link.kind is LinkKind.LINE):
            if a in saps and b in saps and domain.ties(saps[a], saps[b]):
                kept, gone = group[a], group[b]
                group = {id: kept if of == gone else of for id, of in group.items()}
    out: dict[str, list[End]] = {}
    for end in spec.ends:
        out.setdefault(group[end.id], []).append(end)
    return [tuple(ends) for ends in out.values()]


def _value(usage: Usage, ends: Sequence[End], at: Sequence[Sap], mine: Mapping[str, set[int]], key: str) -> int:
    wanted = reduce(
        and_,
        (sap.labels if e.labels is None else sap.labels & e.labels for e, sap in zip(ends, at, strict=True)),
        ANY_LABEL,
    )

    def free(value: int | None) -> bool:
        return value in wanted and not any(
            value in usage.labels.get(sap.id, ()) or value in mine.get(sap.id, ()) for sap in at
        )

    if len({sap.id for sap in at}) < len(at):
        ids = " and ".join(repr(end.id) for end in ends)
        message = f"ends {ids} would have one label, and are at one SAP {at[0].id!r}"
        raise no(ReasonCode.LABELS_EXHAUSTED, message, ends[0].id, Nogood(end=ends[0].id, acceptable_labels=NO_LABEL))
    name = f"{key}/{ends[0].id}"
    for value in (e.suggested_label for e in ends):
        if value is not None and free(value):
            return value
    value = wanted.suggest(name)
    if value is not None and free(value):
        return value
    left = reduce(and_, (usage.free_labels(sap) for sap in at), wanted)
    found = next((v for v in _by_hash(left, name) if free(v)), None)
    if found is None:
        raise _none(usage, ends, at, wanted)
    return found


def _none(usage: Usage, ends: Sequence[End], at: Sequence[Sap], wanted: LabelSet) -> Impossible:
    """Why none of the labels `wanted` is to be had. At the side that does not decide, one that is only held comes free when the
    order that holds it finds another there: it is worth to wait for. How many there are is judged at the side that decides."""
    acceptable = reduce(and_, (usage.free_labels(sap) for sap in at))
    waits = any(
        any(label in wanted for label in usage.held_labels.get(sap.id, ()))
        and bool(sap.interconnect)
        and not sap.decides_labels
        for sap in at
    )
    end, sap = _short(usage, ends, at, wanted)
    code = ReasonCode.LABEL_TAKEN if acceptable else ReasonCode.LABELS_EXHAUSTED
    return no(
        ReasonCode.LABEL_CONTENDED if waits else code,
        f"end {end.id!r}: none of the labels {wanted or end.labels or sap.labels} is free at SAP {sap.id!r}",
        end.id,
        Nogood(end=end.id, acceptable_labels=acceptable),
        retryable=waits,
    )


def _short(usage: Usage, ends: Sequence[End], at: Sequence[Sap], wanted: LabelSet) -> tuple[End, Sap]:
    """The first of the ends at which none of the labels is free; where only together they have none, the first."""
    pairs = list(zip(ends, at, strict=True))
    return next(((e, sap) for e, sap in pairs if not usage.free_labels(sap) & wanted), pairs[0])


def _by_hash(left: LabelSet, key: str) -> Iterator[int]:
    while (value := left.suggest(key)) is not None:
        yield value
        left -= LabelSet.of([value])
