"""How a spec is read as a mesh: its lines, directed; its paths; where its LANs run; and what is no mesh."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.decompose.mesh import Mesh, read_mesh
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import End, FunctionRequest, ServiceSpec
from tests.support.planning import kind, lan, mesh_spec

ENDS = {"a": "s.1", "b": "s.2", "c": "s.3"}
DIAMOND = mesh_spec({"a": "s.1", "b": "s.2"}, {"f": "x", "g": "y", "h": "y", "j": "x"}, "a f g j b", "a f h j b")


def tree(*lans: tuple[str, ...], **more: object) -> ServiceSpec:
    links = [lan(f"m{n}", *points) for n, points in enumerate(lans)]
    return mesh_spec(ENDS, {"f": "x", "g": "y", "h": "y"}, "a f g b", "a f h c", lans=links, **more)


def mesh(spec: ServiceSpec) -> Mesh:
    read = read_mesh(spec)
    assert isinstance(read, Mesh), read
    return read


def walked(read: Mesh) -> list[list[str]]:
    return [[read.lines[n].link.id for n in path.lines] for path in read.paths]


def test_a_tree_has_the_line_to_its_branching_once() -> None:
    read = mesh(tree())
    assert [e.id for e in read.ends] == ["a", "b", "c"]
    assert [f.id for f in read.functions] == ["f", "g", "h"]
    assert walked(read) == [["a-f", "f-g", "g-b"], ["a-f", "f-h", "h-c"]]
    assert [(line.tail, line.head) for line in read.lines] == [(None, 0), (0, 1), (1, None), (0, 2), (2, None)]
    assert read.ports(0) == ("in", "out", "out2")


def test_a_diamond_joins_again() -> None:
    read = mesh(DIAMOND)
    assert walked(read) == [["a-f", "f-g", "g-j", "j-b"], ["a-f", "f-h", "h-j", "j-b"]]
    assert read.lines[5].head == read.lines[2].head == 2


def test_two_paths_that_share_nothing_are_one_service() -> None:
    spec = mesh_spec({"a": "s.1", "b": "s.2", "c": "s.3", "d": "s.4"}, {"f": "x"}, "a f b", "c d")
    assert walked(mesh(spec)) == [["a-f", "f-b"], ["c-d"]]


@pytest.mark.parametrize(
    ("points", "beside"),
    [
        (("g:mgmt", "h:mgmt"), ["f-g", "f-h"]),
        (("f:mgmt", "h:mgmt"), ["f-h"]),
        (("f:mgmt",), []),
        (("g:mgmt", "c.mgmt"), ["f-g", "f-h", "h-c"]),
    ],
)
def test_a_lan_runs_beside_the_lines_between_its_members(points: tuple[str, ...], beside: list[str]) -> None:
    spec = tree(points)
    if "c.mgmt" in points:
        spec = replace(spec, ends=(*spec.ends, End(id="c.mgmt", sap="s.3")))
    read = mesh(spec)
    assert [read.lines[n].link.id for n in read.lans[0].lines] == beside
    assert [(o.end.id, o.beside.id) for o in read.lans[0].outer] == ([("c.mgmt", "c")] if "c.mgmt" in points else [])


def test_a_lan_in_a_diamond_takes_the_first_lines_and_closes_no_ring() -> None:
    spec = replace(DIAMOND, links=(*DIAMOND.links, lan("m", "h:mgmt", "j:mgmt")))
    read = mesh(spec)
    assert [read.lines[n].link.id for n in read.lans[0].lines] == ["f-g", "g-j", "f-h"]


def test_an_end_where_no_path_ends_is_a_site_of_its_lan() -> None:
    spec = tree(("g:mgmt", "c.m", "noc", "c.more"))
    ends = (End(id="c.m", sap="s.3"), End(id="noc", sap="s.9"), End(id="c.more", sap="s.3"))
    (found,) = mesh(replace(spec, ends=(*spec.ends, *ends))).lans
    assert [o.end.id for o in found.outer] == ["c.m"]
    assert [end.id for end in found.sites] == ["noc", "c.more"], "one stands beside the path's end, not two"
    assert not found.whole


def test_a_lan_may_join_what_no_lines_do() -> None:
    apart = mesh_spec({**ENDS, "d": "s.4"}, {"f": "x", "g": "y"}, "a f b", "c g d", lans=[lan("m", "f:mgmt", "g:mgmt")])
    (found,) = mesh(apart).lans
    assert (found.lines, found.sites, found.whole) == ((), (), False)


def test_a_service_may_be_a_lan_alone() -> None:
    spec = replace(tree(), functions=(), paths=(), links=(lan("m", "a", "b", "c"),))
    read = mesh(spec)
    assert (read.ends, read.lines, read.spreads) == ((), (), True)
    assert [end.id for end in read.lans[0].sites] == ["a", "b", "c"]


def no_meshes() -> list[tuple[str, ServiceSpec]]:
    spec = tree()
    one, two = spec.paths
    lone = replace(spec, functions=(), paths=(), links=(lan("m", "a", "b", "c"),))
    backwards = replace(two, hops=tuple(reversed(two.hops)))
    return [
        ("svc", replace(spec, paths=())),
        ("p0", replace(spec, paths=(one, replace(two, id="p0")))),
        ("h", replace(spec, paths=(one,))),
        ("a-f", replace(spec, paths=(one, backwards))),
        ("k", replace(spec, functions=(*spec.functions, FunctionRequest(id="k", type=kind("x"))))),
        ("d", replace(spec, ends=(*spec.ends, End(id="d", sap="s.4")))),
        ("f:in", replace(spec, paths=(one, two, replace(two, id="p2", hops=("a", "f:in", "f:in", "c"))))),
        ("f:in", mesh_spec(ENDS, {"f": "x"}, "a f b", lans=[lan("m", "f:in", "c")])),
        ("svc", replace(lone, max_delay_us=1000)),
        ("m", replace(lone, links=(lan("m", "a"),), ends=spec.ends[:1])),
        ("b", replace(lone, links=(lan("m", "a", "c"),))),
    ]


@pytest.mark.parametrize(("culprit", "spec"), no_meshes())
def test_what_is_no_mesh_is_refused_and_the_culprit_named(culprit: str, spec: ServiceSpec) -> None:
    read = read_mesh(spec)
    assert isinstance(read, Reason), read
    assert (read.code, read.subject) == (ReasonCode.SHAPE_NOT_OFFERED, culprit)
