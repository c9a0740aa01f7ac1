"""SONATA descriptors are imported whole, or refused with every reason and its line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.decompose.mesh import Mesh, read_mesh
from service_model.sonata import FunctionDescription, import_nsd, import_vnfd, path_ends
from service_model.sonata_form import ImportRefused
from service_model.sonata_vnfd import DescribedPort
from service_model.spec import FunctionType, LinkKind, ServiceSpec

DEMO = Path(__file__).parents[2] / "config/demo/orders/guarded-web.nsd.yml"
NSD = DEMO.read_text()
PORTS = ("input", "mgmt", "output")
CATALOGUE = {FunctionType("eu.spbroker", name, "1.0"): PORTS for name in ("firewall", "meter", "shaper")}


def descriptor(name: str) -> tuple[str, str]:
    folder = os.environ.get("SPBROKER_DESCRIPTORS")
    if not folder:
        pytest.skip("SPBROKER_DESCRIPTORS names no folder of SONATA descriptors")
    return (Path(folder) / name).read_text(), name.rpartition("/")[2]


def lines(refused: pytest.ExceptionInfo[ImportRefused]) -> list[tuple[int, str]]:
    return [(error.line, error.reason) for error in refused.value.errors]


def line_of(text: str, nth: int = 1) -> int:
    return [number for number, line in enumerate(NSD.splitlines(), 1) if text in line][nth - 1]


def order(text: str = NSD, attach: dict[str, str] | None = None) -> ServiceSpec:
    return import_nsd(text, "g.yml", catalogue=CATALOGUE, attach=attach, from_sap="site-a", to_sap="site-b")


# --- the descriptors of public projects


def catalogue_of(*names: str) -> dict[FunctionType, tuple[str, ...]]:
    described = [import_vnfd(*descriptor(name)) for name in names]
    return {function.type: function.port_names for function in described}


def test_the_chain_of_three_empty_functions_is_imported() -> None:
    catalogue = catalogue_of(*(f"sonata-empty-service/empty-vnf{i}-vnfd.yml" for i in (1, 2, 3)))
    spec = import_nsd(*descriptor("sonata-empty-service/nsd.yml"), catalogue=catalogue, from_sap="x", to_sap="y")
    assert spec.name == "sonata-empty-service"
    assert [(end.id, end.sap) for end in spec.ends] == [("input", "x"), ("output", "y")]
    assert [str(f.type) for f in spec.functions] == [f"eu.sonata-nfv/empty-vnf{i}/0.1" for i in (1, 2, 3)]
    assert spec.link("mgmt").kind is LinkKind.LAN
    assert spec.link("mgmt").points == ("empty_vnf1:mgmt", "empty_vnf2:mgmt", "empty_vnf3:mgmt")
    assert spec.paths[0].hops[::7] == ("input", "output")


def test_the_demo_with_its_manager_and_a_lan_of_one_function_is_imported() -> None:
    catalogue = catalogue_of("sonata-demo/vtc-vnfd.yml")
    spec = import_nsd(*descriptor("sonata-demo/sonata-demo.yml"), catalogue=catalogue, from_sap="x", to_sap="y")
    assert spec.managers == ("ssmdumb",)
    assert spec.link("mgmt").points == ("vnf_vtc:mgmt",)
    assert spec.paths[0].id == "fg01.fp01"


TREE = """\
descriptor_version: "1.0"
vendor: v
name: tree
version: "1.0"
network_functions:
  - {vnf_id: fw, vnf_vendor: v, vnf_name: fw, vnf_version: "1.0"}
connection_points:
  - {id: hub, type: external}
  - {id: east, type: external}
  - {id: west, type: external}
virtual_links:
  - {id: up, connectivity_type: E-Line, connection_points_reference: [hub, "fw:in"]}
  - {id: to-east, connectivity_type: E-Line, connection_points_reference: ["fw:one", east]}
  - {id: to-west, connectivity_type: E-Line, connection_points_reference: ["fw:two", west]}
forwarding_graphs:
  - fg_id: g
    network_forwarding_paths:
      - fp_id: e
        connection_points:
          - {connection_point_ref: hub, position: 1}
          - {connection_point_ref: "fw:in", position: 2}
          - {connection_point_ref: "fw:one", position: 3}
          - {connection_point_ref: east, position: 4}
      - fp_id: w
        connection_points:
          - {connection_point_ref: hub, position: 1}
          - {connection_point_ref: "fw:in", position: 2}
          - {connection_point_ref: "fw:two", position: 3}
          - {connection_point_ref: west, position: 4}
"""


def test_two_forwarding_paths_are_two_paths_of_one_tree() -> None:
    spec = import_nsd(TREE, "t.yml", attach={"west": "z"}, from_sap="x", to_sap="y")
    assert {end.id: end.sap for end in spec.ends} == {"hub": "x", "east": "y", "west": "z"}
    assert [path.hops for path in spec.paths] == [
        ("hub", "fw:in", "fw:one", "east"),
        ("hub", "fw:in", "fw:two", "west"),
    ]
    assert isinstance(read_mesh(spec), Mesh)


def test_the_demo_says_what_it_needs_when_no_sap_is_given() -> None:
    with pytest.raises(ImportRefused) as refused:
        import_nsd(*descriptor("sonata-demo/sonata-demo.yml"))
    assert lines(refused) == [
        (61, "'input' has no SAP: order with --from SAP"),
        (64, "'output' has no SAP: order with --to SAP"),
    ]
    assert path_ends(*descriptor("sonata-demo/sonata-demo.yml")) == ("input", "output")


def test_the_ping_forwarder_refers_to_what_it_does_not_declare() -> None:
    with pytest.raises(ImportRefused) as refused:
        import_nsd(*descriptor("ping-forwarder/nsd.yml"), from_sap="x", to_sap="y")
    hint = "({!r} is the vnf_id of the function with that name)"
    assert lines(refused) == [
        (22, "no network function has the vnf_id 'forwarder-vm-vnf'"),
        (23, "no network function has the vnf_id 'forwarder-cn-vnf'"),
        (28, "the connection point 'input' is not declared in connection_points"),
        (
            30,
            "'forwarder-vm-vnf:eth0': no network function has the vnf_id 'forwarder-vm-vnf' "
            + hint.format("vm-forwarder"),
        ),
        (
            32,
            "'forwarder-cn-vnf:eth0': no network function has the vnf_id 'forwarder-cn-vnf' "
            + hint.format("cn-forwarder"),
        ),
        (34, "the connection point 'output' is not declared in connection_points"),
    ]


def test_a_function_is_described_by_its_ports_and_what_it_needs() -> None:
    assert import_vnfd(*descriptor("sonata-demo/vtc-vnfd.yml")) == FunctionDescription(
        type=FunctionType("eu.sonata-nfv", "vtc-vnf", "0.1"),
        ports=(DescribedPort("mgmt", management=True), DescribedPort("input"), DescribedPort("output")),
        vcpus=1.0,
        memory_mib=1908,
        images=("sonata-vtc",),
    )


def test_the_ports_of_a_deployment_unit_stand_in_for_missing_ones_of_the_function() -> None:
    assert import_vnfd(*descriptor("ping-forwarder/vm-vnfd.yml")).port_names == ("eth0",)


def test_a_function_without_a_connection_point_is_refused() -> None:
    with pytest.raises(ImportRefused) as refused:
        import_vnfd(*descriptor("ping-forwarder/cn-vnfd.yml"))
    assert lines(refused) == [
        (10, "the function has no connection point of its own, so it cannot be joined to anything")
    ]


# --- the demo order, and errors planted in it


def test_the_demo_order_is_imported_without_the_management_hand_off() -> None:
    spec = order()
    assert [end.id for end in spec.ends] == ["client", "web"]
    assert spec.link("mgmt").points == ("firewall:mgmt", "meter:mgmt", "shaper:mgmt")


def test_a_management_point_that_is_attached_is_an_end_on_the_lan() -> None:
    spec = order(attach={"mgmt": "noc"})
    assert spec.end("mgmt").sap == "noc"
    assert spec.link("mgmt").points == ("firewall:mgmt", "meter:mgmt", "shaper:mgmt", "mgmt")


def test_attaching_both_external_points_is_the_same_as_from_and_to() -> None:
    attach = {"client": "site-a", "web": "site-b"}
    assert import_nsd(NSD, "g.yml", catalogue=CATALOGUE, attach=attach) == order()


def test_without_a_catalogue_no_type_is_questioned() -> None:
    text = NSD.replace('vnf_name: "meter"', 'vnf_name: "magic"')
    assert import_nsd(text, "g", from_sap="a", to_sap="b").function("meter").type.name == "magic"


def test_points_are_ordered_by_position_not_by_where_they_stand() -> None:
    first = '          - connection_point_ref: "client"\n            position: 1\n'
    moved = NSD.replace(first, "") + first
    assert moved != NSD
    assert order(moved) == order()


def test_names_with_the_prefix_ns_and_the_type_interface_are_read() -> None:
    old = NSD.replace('id: "client"', 'id: "ns:client"').replace('- "client"', '- "ns:client"')
    old = old.replace('ref: "client"', 'ref: "ns:client"').replace('"management"', '"interface"')
    assert order(old) == order()


def test_an_unquoted_version_is_taken_as_it_is_written() -> None:
    text = NSD.replace('vnf_version: "1.0"', "vnf_version: 1.10")
    spec = import_nsd(text, "g", from_sap="a", to_sap="b")
    assert spec.functions[0].type.version == "1.10"


PLANTED = [
    ('vendor: "eu.spbroker"\n', 'vendor: "eu.spbroker"\ncolour: red\n', "descriptor_version", 2, "unknown field"),
    ('descriptor_version: "1.0"', 'descriptor_version: "3.0"', "descriptor_version", 0, "version '3.0'; 1.0 is read"),
    ('vnf_name: "meter"', 'vnf_name: "magic"', 'vnf_name: "meter"', 0, "type eu.spbroker/magic/1.0 is not in the"),
    ('vnf_id: "meter"', 'vnf_id: "firewall"', 'vnf_id: "meter"', 0, "the vnf_id 'firewall' is declared twice"),
    ('"E-LAN"', '"E-Tree"', "E-LAN", 0, "an E-Tree is not offered"),
    ('"E-LAN"', '"E-Mesh"', "E-LAN", 0, "'E-Mesh' is not one of E-Line, E-LAN"),
    ('"meter:mgmt"', '"meter:serial"', '"meter:mgmt"', 0, "has no port 'serial' (it has input, mgmt, output)"),
    ('- "meter:mgmt"', '- "motor:mgmt"', '"meter:mgmt"', 0, "no network function has the vnf_id 'motor'"),
    ('- "mgmt"\n  - id: "cl', '- "oob"\n  - id: "cl', '- "mgmt"', 0, "the connection point 'oob' is not declared"),
    ('- "web"\n', '- "client"\n', "shaper-web", 4, "'client' is already on the link 'client-firewall'"),
    ('      - "shaper:output"\n      - "web"', '      - "web"', "shaper-web", 2, "joins two connection points, not 1"),
    ("position: 4", "position: 3", "position: 4", 0, "position 3 is taken by 'firewall:output'"),
    ("position: 8", "position: 9", "position: 8", 0, "position 9 follows 7: a gap"),
    ("position: 4", "position: four", "position: 4", 0, "a whole number belongs here"),
    ('policy: "none"', 'policy: "cheapest"', "policy", 0, "the policy 'cheapest' is not carried out"),
    ('      - "meter"\n', "", "constituent_vnfs", 0, "a path visits 'meter', which is not listed"),
    ('      - "meter"\n', '      - "motor"\n', '- "meter"', 0, "no network function has the vnf_id 'motor'"),
    ('      - "shaper-web"\n', "", "constituent_virtual_links", 0, "a path runs over 'shaper-web', which is not"),
    ('      - "shaper-web"\n', '      - "x"\n', '- "shaper-web"', 0, "the virtual link 'x' is not declared"),
    ('type: "management"', 'type: "carrier"', 'type: "management"', 0, "'carrier' is not one of external, management"),
    ('name: "guarded-web"', 'name: "guarded web"', "name: ", 0, "'guarded web' is not a name"),
    ('    vnf_vendor: "eu.spbroker"\n    vnf_name: "m', '    vnf_name: "m', 'vnf_id: "meter"', 0, "field is missing"),
    ('author: "spbroker"', "auto_scale_policy: [x]", "author", 0, "scaling rules are not carried out"),
    ('author: "spbroker"', "network_services: [x]", "author", 0, "services made of services are not read"),
    ('author: "spbroker"', 'vendor: "again"', "author", 0, "duplicate key 'vendor'"),
    ('  - fg_id: "guarded"', "  - 7\n  -", "fg_id", 0, "a mapping of fields belongs here"),
]


@pytest.mark.parametrize(("old", "new", "near", "after", "reason"), PLANTED, ids=[p[4][:50] for p in PLANTED])
def test_a_planted_error_is_refused_at_its_line(old: str, new: str, near: str, after: int, reason: str) -> None:
    assert old in NSD
    with pytest.raises(ImportRefused) as refused:
        order(NSD.replace(old, new, 1))
    found = lines(refused)
    assert any(line == line_of(near) + after and reason in text for line, text in found), found
    assert all(error.file == "g.yml" for error in refused.value.errors)


def test_a_path_over_points_that_are_not_joined_is_refused_where_it_is_written() -> None:
    with pytest.raises(ImportRefused) as refused:
        order(NSD.replace('ref: "meter:input"', 'ref: "meter:mgmt"'))
    wanted = "the path 'guarded.web': no LINE joins 'firewall:output' and 'meter:mgmt'; the LAN 'mgmt' carries no path"
    assert lines(refused) == [(line_of('ref: "meter:input"'), wanted)]


def test_a_function_off_every_path_is_refused() -> None:
    head, _, _ = NSD.partition("forwarding_graphs")
    with pytest.raises(ImportRefused) as refused:
        import_nsd(head, "g", attach={"client": "a", "web": "b"})
    assert (line_of('vnf_id: "meter"'), "no path visits the function 'meter'") in lines(refused)


def test_saps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ImportRefused, match="no connection point 'nowhere' to attach to 's'"):
        order(attach={"nowhere": "s"})
    with pytest.raises(ImportRefused, match="'client' is given two SAPs: 's' and 'site-a'"):
        order(attach={"client": "s"})
    with pytest.raises(ImportRefused, match="--from needs a forwarding path"):
        import_nsd(NSD.partition("forwarding_graphs")[0], "g", from_sap="a")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("vnfd:\n  id: x\n", "this is an ETSI SOL006 descriptor; only SONATA descriptors"),
        ("nsd:nsd-catalog:\n  nsd: []\n", "this is an ETSI SOL006 descriptor; only SONATA descriptors"),
        ("tosca_definitions_version: tosca_simple_yaml_1_2\n", "this is an ETSI SOL001 (TOSCA) descriptor"),
        ("descriptor_version: vnfd-schema-01\n", "this is a SONATA function descriptor (VNFD); only a SONATA network"),
        ("- 1\n", "this is no descriptor of a kind known here"),
        ("just text", "this is no descriptor of a kind known here"),
        ("{}", "this is no descriptor of a kind known here"),
    ],
)
def test_other_kinds_of_document_are_named_and_refused(text: str, reason: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        import_nsd("# x\n" + text, "g.yml")
    assert [error.line for error in refused.value.errors] == [2]
    assert refused.value.errors[0].reason.startswith(reason)


VNFD = """\
descriptor_version: vnfd-schema-01
vendor: v
name: n
version: 1.0
virtual_deployment_units:
  - id: u1
    resource_requirements: {cpu: {vcpus: 0.5}, memory: {size: 100, size_unit: MiB}}
  - id: u2
    resource_requirements: {cpu: {vcpus: 2}, memory: {size: 1, size_unit: GiB}}
virtual_links:
  - {id: m, connectivity_type: E-LAN, connection_points_reference: ["u1:eth0", "vnf:mgmt"]}
connection_points:
  - {id: "vnf:mgmt", type: interface}
  - {id: "vnf:in", type: interface}
"""


def test_needs_are_summed_and_older_names_and_types_are_read() -> None:
    function = import_vnfd(VNFD, "f")
    assert (function.vcpus, function.memory_mib) == (2.5, 1124)
    assert function.ports == (DescribedPort("mgmt", management=True), DescribedPort("in"))
    assert str(function.type) == "v/n/1.0"


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("vcpus: 2", "vcpus: many", 9, "a number from 0 to"),
        ("vcpus: 2", "vcpus: -2", 9, "a number from 0 to"),
        ("size_unit: MiB", "size_unit: acres", 7, "'acres' is not one of B, kB"),
        ('"vnf:in"', '"mgmt"', 14, "the port 'mgmt' is declared twice"),
        ("name: n", "nom: n", 3, "unknown field"),
        ("cpu: {vcpus: 2}", "cpu: 2", 9, "a mapping of fields belongs here"),
    ],
)
def test_an_error_planted_in_a_function_is_refused_at_its_line(old: str, new: str, line: int, reason: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        import_vnfd(VNFD.replace(old, new), "f")
    assert any(at == line and reason in text for at, text in lines(refused)), lines(refused)


# --- whatever stands in it

WORDS = st.sampled_from(["client", "firewall:input", "mgmt", "E-LAN", "external", "1.0", "x y", "ns:a", "a:b:c", ""])
LEAVES = WORDS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
KEYS = st.sampled_from([w.split(":")[0].strip(" -") for w in NSD.splitlines() if ":" in w and "#" not in w])
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)


def faults_of_order(text: str) -> list[tuple[int, str]]:
    """What an order is refused for; empty when it is imported. Anything else that is raised fails the test."""
    try:
        order(text)
    except ImportRefused as refused:
        return [(error.line, error.reason) for error in refused.errors]
    return []


def faults_of_function(tree: dict[str, object]) -> list[tuple[int, str]]:
    try:
        import_vnfd(json.dumps(tree), "f")
    except ImportRefused as refused:
        return [(error.line, error.reason) for error in refused.errors]
    return []


@given(st.dictionaries(KEYS, TREES, max_size=8))
@settings(max_examples=300, deadline=None)
def test_a_tree_of_a_descriptors_own_fields_never_raises_anything_but_a_refusal(tree: dict[str, object]) -> None:
    text = json.dumps({"descriptor_type": "service", **tree})
    with pytest.raises(ImportRefused) as refused:
        import_nsd(text, "f", catalogue=CATALOGUE, from_sap="a", to_sap="b")
    assert all(error.line == 1 and error.reason for error in refused.value.errors)
    assert all(line == 1 for line, _ in faults_of_function({"descriptor_type": "function", **tree}))


@given(st.integers(0, len(NSD.splitlines()) - 1), TREES)
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_line_of_a_good_descriptor_is_imported_or_refused(number: int, value: object) -> None:
    rows = NSD.splitlines()
    rows[number] = rows[number].partition(": ")[0] + ": " + json.dumps(value)
    assert all(1 <= line <= len(rows) + 1 for line, _ in faults_of_order("\n".join(rows)))
