"""A supplier's words and ours: its notes are read in ours, and it is asked in its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Infeasible
from broker.decompose.search import plan
from broker.orders.catalogue import Catalogue, Listing
from broker.orders.split import split
from capability_registry.glossary import SAME_WORDS, Glossary
from capability_registry.note import CapabilityNote
from service_model.outcomes import ReasonCode
from tests.support.planning import NOW, chain_spec, entry, point, sap, view

SWAPPED = Glossary(isolation={"vrf": "vxlan", "vxlan": "vrf"})


def note(*mechanisms: str, name: str = "left", peer: str = "right") -> CapabilityNote:
    saps = [sap("uni", "BER"), sap("n", "BER", to="j", peer=f"sp-{peer}", decides_labels=name < peer)]
    return view(name, saps, [entry("uni", "n", point(1, 1, isolation=mechanisms))]).note


def offered(note: CapabilityNote) -> tuple[str, ...]:
    return note.matrix[0].points[0].isolation


@pytest.mark.parametrize(
    ("words", "theirs", "ours"),
    [
        ({}, ("macsec", "vrf"), ("macsec", "vrf")),
        ({"vxlan": "vrf"}, ("vxlan",), ("vrf",)),
        ({"vxlan": "vrf"}, ("macsec",), ("macsec",)),
        ({"vxlan": "vrf"}, ("vrf",), ()),  # another mechanism, that we have no word for
        ({"vxlan": "vrf", "vrf": "l3vpn"}, ("vrf", "vxlan"), ("l3vpn", "vrf")),
        ({"vrf": "vxlan", "vxlan": "vrf"}, ("vrf",), ("vxlan",)),
    ],
)
def test_a_note_is_read_in_our_words(words: dict[str, str], theirs: tuple[str, ...], ours: tuple[str, ...]) -> None:
    glossary = Glossary(isolation=words)
    assert offered(glossary.ours(note(*theirs))) == ours
    assert set(glossary.theirs(ours)) <= set(theirs), "what is read can be asked for"


def test_what_means_something_else_there_is_never_asked_for() -> None:
    with pytest.raises(KeyError):
        Glossary(isolation={"vrf": "l3vpn"}).theirs(("vrf",))


def catalogue(**glossaries: Glossary) -> Catalogue:
    made = Catalogue("top")
    made.list(tuple(Listing(alias=a, sp_id=f"sp-{a}", local=False, glossary=g) for a, g in glossaries.items()))
    return made


def test_two_suppliers_with_other_words_carry_one_service_and_each_is_asked_in_its_own() -> None:
    known = catalogue(left=SAME_WORDS, right=Glossary(isolation={"vxlan": "vrf"}))
    known.put("left", note("vrf"))
    known.put("right", note("vxlan", name="right", peer="left"))
    spec = chain_spec("left.uni", "right.uni", isolation=("vrf",))
    found, chain = plan(spec, known.snapshot, NOW), read_mesh(spec)
    assert not isinstance(found, Infeasible), found
    assert isinstance(chain, Mesh)
    told = split(chain, found[0], known.snapshot, (), "k").segments
    assert [part.spec.isolation for part in told] == [("vrf",), ("vxlan",)]
    without = plan(replace(spec, isolation=("vxlan",)), known.snapshot, NOW)
    assert isinstance(without, Infeasible)
    assert without.reasons[0].code is ReasonCode.ISOLATION


def test_a_note_is_read_once_and_anew_only_when_it_or_the_glossary_changes() -> None:
    known = catalogue(left=SWAPPED)
    known.put("left", note("vrf"))
    first = known.snapshot.suppliers[0].note
    known.keeps("left", 0.5)
    known.list(known.listings())
    assert known.snapshot.suppliers[0].note is first
    known.list((Listing(alias="left", sp_id="sp-left", local=False),))
    assert offered(known.snapshot.suppliers[0].note) == ("vrf",)
