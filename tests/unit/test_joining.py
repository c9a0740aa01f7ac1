"""Which interconnects a broker joins where one domain is sold by several of its suppliers, and which it leaves open."""

from __future__ import annotations

from broker.decompose.graph import graph_of
from broker.decompose.plan import Snapshot, SupplierView
from tests.support.planning import sap, snapshot, view


def side(alias: str, peer: str, *, decides: bool = False, sp_id: str = "") -> SupplierView:
    return view(
        alias, [sap(f"n-{alias}", "BER", to="j", peer=peer, decides_labels=decides)], [], sp_id=sp_id or f"sp-{alias}"
    )


def joined(*sides: SupplierView) -> tuple[list[list[str]], list[str], list[str]]:
    """The joined pairs of SAPs, those that dangle, and why others are not joined."""
    graph = graph_of(snapshot(*sides))
    pairs = [[graph.sap_offer(i).id for i in pair] for pair in graph.joined.values()]
    return pairs, sorted(graph.sap_offer(i).id for i in graph.dangling), [u.why for u in graph.unjoined]


def test_of_three_that_name_an_interconnect_the_two_that_name_each_other_are_joined() -> None:
    sides = [side("left", "sp-right", decides=True), side("right", "sp-left"), side("reseller", "sp-left")]
    for order in (sides, sides[::-1]):
        pairs, dangling, unjoined = joined(*order)
        assert [sorted(pair) for pair in pairs] == [["n-left", "n-right"]]
        assert (dangling, unjoined) == ([], [])


def test_where_two_could_be_the_other_side_none_is_joined() -> None:
    twice = side("again", "sp-left", sp_id="sp-right")
    pairs, dangling, unjoined = joined(side("left", "sp-right", decides=True), side("right", "sp-left"), twice)
    assert (pairs, dangling, unjoined) == ([], [], ["3 SAPs name it"])


def test_what_one_supplier_says_is_with_us_dangles_at_the_other_that_we_sell() -> None:
    own = snapshot().own_sp_id
    assert joined(side("near", "sp-elsewhere", decides=True), side("far", own)) == ([], ["n-near"], [])
    assert joined(side("near", "sp-far", decides=True), side("far", own)) == ([], ["n-near"], [])


def test_sides_that_do_not_name_each_other_dangle_as_if_alone_and_of_one_thing_that_two_sell_one() -> None:
    assert joined(side("left", "sp-east"), side("right", "sp-west", decides=True))[1] == ["n-left", "n-right"]
    assert joined(side("left", "sp-east"), side("right", "sp-east"))[1] == ["n-left"]
    assert joined(side("left", "sp-right"), side("right", "sp-east"))[1] == ["n-right"]


def test_two_that_both_say_it_is_with_us_are_a_mistake() -> None:
    own = snapshot().own_sp_id
    pairs, dangling, unjoined = joined(side("near", own, decides=True), side("far", own))
    assert (pairs, dangling) == ([], [])
    assert unjoined == ["near and far do not name each other as its peers"]


def test_own_domains_and_suppliers_that_name_each_other_are_joined_as_ever() -> None:
    own = snapshot().own_sp_id
    domain = side("domain", "sp-right", decides=True, sp_id=own)
    assert joined(domain, side("right", own)) == ([["n-domain", "n-right"]], [], [])


def test_the_order_of_suppliers_says_nothing() -> None:
    snap = snapshot(side("a", "sp-b", decides=True), side("b", "sp-a"))
    turned = Snapshot(own_sp_id=snap.own_sp_id, number=2, suppliers=snap.suppliers[::-1])
    assert {frozenset(pair) for pair in (graph_of(snap).joined["j"], graph_of(turned).joined["j"])} == {
        frozenset({0, 1})
    }
