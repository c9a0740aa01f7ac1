"""Port identifiers: one text, and names at each level that are that level's own."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.port_ids import PortId, PortIdError
from service_model.outcomes import AddressingChoice, LinkChoice
from service_model.port_names import misnamed, named
from tests.support.sites import chain

parts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=9)


@given(parts, parts, parts, parts)
def test_the_text_reads_back_whatever_a_ref_has(sp: str, service: str, link: str, cp: str) -> None:
    name = PortId(sp, service, link, cp)
    assert PortId.parse(str(name)) == name
    assert str(name).count("/") == 3
    assert str(name) == "/".join(quote(part, safe=":") for part in (sp, service, link, cp))


@pytest.mark.parametrize("text", ["", "a/b/c", "a/b/c/d/e", "a//c/d"])
def test_what_is_no_port_identifier_is_refused(text: str) -> None:
    with pytest.raises(PortIdError):
        PortId.parse(text)


def test_names_are_those_of_who_answers_and_are_checked_by_who_asked() -> None:
    spec = chain("s1.uni", "s2.uni", "firewall")
    bare = AddressingChoice(links=tuple(LinkChoice(link=link.id) for link in spec.links))
    assert misnamed(bare, "r") is None, "a supplier of the release before gives no names"
    choice = named(bare, spec, "north", "PO 17/b")
    first = choice.links[0]
    assert {point: str(name) for point, name in first.ports.items()} == {
        "f0:in": f"north/PO%2017%2Fb/{first.link}/f0:in"
    }
    assert misnamed(choice, "PO 17/b") is None
    wrong = misnamed(choice, "another")
    assert wrong is not None
    assert wrong[0] == first.link
