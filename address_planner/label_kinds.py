"""What a label is: the numbers that each kind of label has, and label sets that say their kind.

Rules kept here
- VLAN ids are 1-4094 (IEEE 802.1Q-2022, 9.6), VNIs 1-16777215 (RFC 7348, 5), NSH service path ids 1-16777215 (RFC 8300, 2.3),
  MPLS labels 16-1048575 (RFC 3032, 2.1: 0-15 are reserved). What is untagged has the one label 0.
- A set of one kind is never mixed with one of another: VLAN 100 and VNI 100 have nothing in common.
- Equal sets have one canonical text: `vlan:100-199,300`; the untagged port is `untagged`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from address_planner.labels import LABEL_MAX, UNTAGGED, VLAN_MAX, LabelSet, LabelSetError

MPLS_FIRST, MPLS_MAX = 16, (1 << 20) - 1


class LabelKind(Enum):
    """Its value is the word in front of a set's text."""

    PORT = "untagged"
    VLAN = "vlan"
    VNI = "vni"
    SPI = "spi"
    MPLS = "mpls"

    @property
    def labels(self) -> LabelSet:
        """Every label of the kind."""
        return LabelSet(_RANGES[self.value])


_RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "untagged": ((UNTAGGED, UNTAGGED),),
    "vlan": ((1, VLAN_MAX),),
    "vni": ((1, LABEL_MAX),),
    "spi": ((1, LABEL_MAX),),
    "mpls": ((MPLS_FIRST, MPLS_MAX),),
}


class OtherKind(TypeError):
    """Two label sets of different kinds, which have no operators between them."""


@dataclass(frozen=True, slots=True)
class KindedLabels:
    """Labels of one kind. Raises LabelSetError where the kind has not all of them."""

    kind: LabelKind
    labels: LabelSet

    def __post_init__(self) -> None:
        if not self.labels <= self.kind.labels:
            alien = self.labels - self.kind.labels
            raise LabelSetError(f"{alien} is no {self.kind.value} label: those are {self.kind.labels}")

    @classmethod
    def all(cls, kind: LabelKind) -> KindedLabels:
        return cls(kind, kind.labels)

    @classmethod
    def parse(cls, text: str) -> KindedLabels:
        """Read the canonical text. Raises LabelSetError."""
        word, colon, labels = text.strip().partition(":")
        kind = next((k for k in LabelKind if k.value == word), None)
        if kind is None or not (colon or kind is LabelKind.PORT):
            kinds = ", ".join(k.value for k in LabelKind)
            raise LabelSetError(f"{text!r} is not a kind of label ({kinds}) and a set of them, like vlan:100-199")
        return cls(kind, LabelSet.parse(labels) if colon else kind.labels)

    def __str__(self) -> str:
        if self.kind is LabelKind.PORT and self.labels:
            return str(self.kind.value)
        return f"{self.kind.value}:{self.labels}"

    def __contains__(self, label: object) -> bool:
        return label in self.labels

    def __bool__(self) -> bool:
        return bool(self.labels)

    def __and__(self, other: KindedLabels) -> KindedLabels:
        return self._with(other, LabelSet.__and__)

    def __or__(self, other: KindedLabels) -> KindedLabels:
        return self._with(other, LabelSet.__or__)

    def __sub__(self, other: KindedLabels) -> KindedLabels:
        return self._with(other, LabelSet.__sub__)

    def __le__(self, other: KindedLabels) -> bool:
        return self._with(other, LabelSet.__and__) == self

    def _with(self, other: KindedLabels, operator: Callable[[LabelSet, LabelSet], LabelSet]) -> KindedLabels:
        if self.kind is not other.kind:
            raise OtherKind(f"{self} and {other} are labels of different kinds")
        return KindedLabels(self.kind, operator(self.labels, other.labels))
