"""What kind of label each encapsulation has. Pure."""

from __future__ import annotations

from address_planner.label_kinds import LabelKind
from address_planner.labels import LabelSet
from capability_registry.note import Encapsulation

_KINDS = {
    Encapsulation.ETHERNET: LabelKind.PORT,
    Encapsulation.VLAN: LabelKind.VLAN,
    Encapsulation.VXLAN: LabelKind.VNI,
}


def kind_of(encapsulation: Encapsulation) -> LabelKind | None:
    """None for an encapsulation of a newer release."""
    return _KINDS.get(encapsulation)


def labels_of(encapsulation: Encapsulation) -> LabelSet:
    """All that it has."""
    return _KINDS[encapsulation].labels
