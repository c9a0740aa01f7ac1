"""The label of each end of a segment, within its constraint. Pure.

Rules kept here
- The suggested label is taken if it is free, else another of the label set, picked by hash; a SAP has each label once. Ends that
  share a SAP choose so that all have one.
- Ends that the domain ties (a LINE from SAP to SAP where it does not swap) have one label, which is within the sets of all of
  them and free at each. Two of them at one SAP have none. A LAN is bridged, and may have another label at each of its ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_

from address_planner.classes import LabelClass, LabelsExhausted, suggest
from address_planner.labels import ANY_LABEL, NO_LABEL, LabelSet
from lower_sp_clients.vim.domain import Domain, Sap, Usage
from lower_sp_clients.vim.placing import Impossible, no
from service_model.outcomes import Nogood, ReasonCode
from service_model.spec import End, LinkKind, ServiceSpec


def choose_labels(domain: Domain, usage: Usage, spec: ServiceSpec, saps: Mapping[str, Sap], key: str) -> dict[str, int]:
    """By end; `saps`: the SAP of each end. Raises Impossible naming an end."""
    times = Counter(sap.id for sap in saps.values())
    out: dict[str, int] = {}
    several: list[_Tied] = []
    for ends in tied(domain, spec, saps):
        group = _Tied(ends, tuple(saps[end.id] for end in ends), usage)
        if any(times[sap.id] > 1 for sap in group.at):
            several.append(group)
        else:
            out |= dict.fromkeys((end.id for end in ends), group.value(key))
    out |= _together(several, key)
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


class _Tied:
    """Ends that have one label, and where they are."""

    def __init__(self, ends: tuple[End, ...], at: tuple[Sap, ...], usage: Usage) -> None:
        """Raises Impossible where two of them are at one SAP."""
        self.ends, self.at, self.usage = ends, at, usage
        if len({sap.id for sap in at}) < len(at):
            ids = " and ".join(repr(end.id) for end in ends)
            message = f"ends {ids} would have one label, and are at one SAP {at[0].id!r}"
            nogood = Nogood(end=ends[0].id, acceptable_labels=NO_LABEL)
            raise no(ReasonCode.LABELS_EXHAUSTED, message, ends[0].id, nogood)
        self.wanted = reduce(
            and_,
            (sap.labels if e.labels is None else sap.labels & e.labels for e, sap in zip(ends, at, strict=True)),
            ANY_LABEL,
        )

    def free(self, value: int | None) -> bool:
        return value in self.wanted and not any(value in self.usage.labels.get(sap.id, ()) for sap in self.at)

    @property
    def suggested(self) -> int | None:
        """The first of what is suggested that is free."""
        return next((e.suggested_label for e in self.ends if self.free(e.suggested_label)), None)

    @property
    def left(self) -> LabelSet:
        return reduce(and_, (self.usage.free_labels(sap) for sap in self.at), self.wanted)

    def value(self, key: str) -> int:
        """Where nobody else is. What is left is looked at last: it is long."""
        suggested, name = self.suggested, f"{key}/{self.ends[0].id}"
        if suggested is not None:
            return suggested
        value = self.wanted.suggest(name)
        found = value if self.free(value) else self.left.suggest(name)
        if found is None:
            raise self.none(key)
        return found

    def none(self, key: str) -> Impossible:
        """Why none of the labels wanted is to be had. At the side that does not decide, one that is only held comes free when
        the order that holds it finds another there: it is worth to wait for. How many there are is judged at the side that
        decides."""
        usage, wanted = self.usage, self.wanted
        acceptable = reduce(and_, (usage.free_labels(sap) for sap in self.at))
        waits = any(
            any(label in wanted for label in usage.held_labels.get(sap.id, ()))
            and bool(sap.interconnect)
            and not sap.decides_labels
            for sap in self.at
        )
        end, sap = self._short()
        code = ReasonCode.LABEL_TAKEN if acceptable else ReasonCode.LABELS_EXHAUSTED
        return no(
            ReasonCode.LABEL_CONTENDED if waits else code,
            f"end {end.id!r}: none of the labels {wanted or end.labels or sap.labels} is free at SAP {sap.id!r}",
            end.id,
            Nogood(
                end=end.id,
                interconnect=sap.interconnect,
                refused_labels=wanted or end.labels,
                acceptable_labels=acceptable,
                proposed_label=acceptable.suggest(f"{key}/{end.id}"),
            ),
            retryable=waits,
        )

    def _short(self) -> tuple[End, Sap]:
        """The first of the ends at which none of the labels is free; where only together they have none, the first."""
        pairs = list(zip(self.ends, self.at, strict=True))
        return next(((e, sap) for e, sap in pairs if not self.usage.free_labels(sap) & self.wanted), pairs[0])


def _together(several: Sequence[_Tied], key: str) -> dict[str, int]:
    """Labels for ends that share SAPs, chosen so that all have one."""
    classes = [
        LabelClass(
            id=group.ends[0].id,
            members=(),
            interconnects=(),
            saps=tuple(sap.id for sap in group.at),
            labels=group.left,
            suggested=group.suggested,
        )
        for group in several
    ]
    try:
        found = {item.id: item.suggested for item in suggest(classes, key)}
    except LabelsExhausted as error:
        raise next(group for group in several if group.ends[0].id == error.label_class.id).none(key) from None
    return {end.id: value for group in several for end in group.ends if (value := found[group.ends[0].id]) is not None}
