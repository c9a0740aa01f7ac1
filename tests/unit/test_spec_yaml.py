"""Our own form of a spec: what is dumped loads equal, and what is wrong is told with file, line and field."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from address_planner.labels import LabelSet
from service_model.families import ANY_FAMILY
from service_model.spec import (
    AddressRole,
    Blocks,
    End,
    FunctionRequest,
    FunctionType,
    LinkAddressing,
    LinkKind,
    ReservedAddress,
    ServiceFunctionPath,
    ServiceSpec,
    VirtualLink,
)
from service_model.spec_yaml import dump_spec, load_order, load_spec, schema
from service_model.yaml_lines import DocumentRefused

CONFIG = Path(__file__).parents[2] / "config"
DEMO = (CONFIG / "demo/orders/guarded-web.spec.yml").read_text()
OWN = (CONFIG / "demo/orders/own-addresses.spec.yml").read_text()
OFFICES = (CONFIG / "demo/orders/offices.spec.yml").read_text()
NSD = (CONFIG / "demo/orders/guarded-web.nsd.yml").read_text()

TRANSIT = """\
spec: spbroker/v1
name: transit
ends:
  - {id: a, sap: s1, labels: "100-199,300", suggested_label: 150}
  - {id: b, sap: s2, labels: 7}
links:
  - {id: l, kind: line, points: [a, b]}
paths:
  - {id: p, hops: [a, b]}
start_time: 2026-01-31T13:00:00+01:00
"""

FULL = ServiceSpec(
    name="full",
    ends=(
        End(id="a", sap="s", labels=LabelSet.parse("1-9"), suggested_label=3, networks=(ip_network("10.0.0.0/8"),)),
        End(id="b", sap="t", networks=(ip_network("2001:db8:1::/48"), ip_network("192.0.2.0/24"))),
    ),
    functions=(
        FunctionRequest(
            id="f",
            type=FunctionType("v", "n", "1.10"),
            flavour="small",
            places=("x",),
            parameters={"deny": [{"port": 23}], "on": "no", "1": 1.5, "<<": None, "same": [True, "true", "12", "a: b"]},
        ),
    ),
    links=(
        VirtualLink(
            id="af",
            points=("a", "f:in"),
            addressing=LinkAddressing(
                prefix=ip_network("172.16.0.0/29"),
                second_prefix=ip_network("2001:db8:2::/64"),
                hosts=(ip_network("172.16.0.2/32"),),
                reserved=(ReservedAddress(role=AddressRole.GATEWAY, address=ip_address("172.16.0.1"), point="a"),),
            ),
        ),
        VirtualLink(id="fb", points=("f:out", "b")),
        VirtualLink(id="m", kind=LinkKind.LAN, points=("f:mgmt",)),
    ),
    paths=(ServiceFunctionPath(id="p", hops=("a", "f:in", "f:out", "b")),),
    blocks=Blocks(allowed=(ip_network("172.16.0.0/16"),), excluded=(ip_network("10.0.0.0/8"),)),
    bandwidth_bps=1_000_000,
    max_delay_us=5000,
    min_mtu=1400,
    max_price=Decimal("12.50"),
    term_hours=24,
    start_time=datetime(2026, 1, 31, 12, tzinfo=UTC),
    end_time=datetime(2026, 2, 28, 12, tzinfo=UTC),
    managers=("ssm",),
    required_features=("x",),
    reference="for: 'you' # and\nme",
    tags=("no", "1.0"),
    families=ANY_FAMILY,
)


def errors(text: str, **order: Any) -> list[str]:
    with pytest.raises(DocumentRefused) as refused:
        load_order(text, "s.yml", **order)
    return [str(error) for error in refused.value.errors]


def test_a_spec_with_every_field_is_the_same_after_dump_and_load() -> None:
    assert load_spec(dump_spec(FULL), "f") == FULL
    assert load_spec(dump_spec(FULL), "f").digest() == FULL.digest()


def test_what_is_dumped_is_what_people_write() -> None:
    text = dump_spec(load_spec(TRANSIT, "f"))
    assert text == (
        "spec: spbroker/v1\nname: transit\nends:\n- id: a\n  sap: s1\n  labels: 100-199,300\n  suggested_label: 150\n"
        "- id: b\n  sap: s2\n  labels: '7'\nlinks:\n- id: l\n  points:\n  - a\n  - b\npaths:\n- id: p\n  hops:\n"
        "  - a\n  - b\nstart_time: '2026-01-31T12:00:00Z'\n"
    )
    assert "kind: LAN" in dump_spec(FULL)
    assert "LINK_KIND" not in dump_spec(FULL)


def test_the_two_demo_orders_are_the_same_service_but_for_parameters() -> None:
    own = load_order(DEMO, "own")
    sonata = load_order(NSD, "sonata", from_sap="north.client-1", to_sap="south.server-1")
    assert (own.name, own.ends, own.links, own.paths) == (sonata.name, sonata.ends, sonata.links, sonata.paths)
    assert [(f.id, f.type) for f in own.functions] == [(f.id, f.type) for f in sonata.functions]
    assert own.function("firewall").parameters == {"deny": [{"protocol": "tcp", "port": 23}]}
    assert own.function("shaper").parameters == {"rate_bps": 50_000_000}


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("name: transit", "name: transit\ncolour: red", "s.yml:3: colour: unknown field"),
        ("sap: s2, ", "", "s.yml:5: ends[1].sap: a required field is missing"),
        ("kind: line", "kind: ring", "s.yml:7: links[0].kind: not one of LINE, LAN"),
        ("points: [a, b]", "points: [a, c]", "s.yml:7: links[0].points[1]: 'c' is not the id of an end"),
        ("labels: 7", "labels: [7]", "s.yml:5: ends[1].labels: a label set is a text like '100-199,300'"),
        ("labels: 7", "labels: [{last: }]", "s.yml:5: ends[1].labels: a label set is a text like '100-199,300'"),
        ("150", "15", "s.yml:4: ends[0].suggested_label: the suggested label 15 is not among the labels 100-199,300"),
        ("+01:00", "", "s.yml:10: start_time: a time needs its offset from UTC, e.g. 2026-01-31T12:00:00Z"),
        ("spbroker/v1", "spbroker/v2", "s.yml:1: spec: 'spbroker/v2' is not a form known here: spbroker/v1"),
        ("name: transit", "name: transit\nname: x", "s.yml:3: duplicate key 'name', first in line 2"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_field(old: str, new: str, error: str) -> None:
    assert old in TRANSIT
    assert error in errors(TRANSIT.replace(old, new, 1))


def test_everything_wrong_is_told_at_once() -> None:
    assert len(errors(TRANSIT.replace("sap: ", "zap: "))) == 4


def test_the_first_key_says_what_it_is() -> None:
    with pytest.raises(DocumentRefused, match="f:1: the first key is 'spec: spbroker/v1'"):
        load_spec("name: x\nspec: spbroker/v1\n", "f")
    assert "whose first key is 'spec: spbroker/v1'" in errors("name: x\nspec: spbroker/v1\n")[0]


def test_saps_beside_a_spec_are_refused() -> None:
    assert errors(TRANSIT, from_sap="x") == [
        "s.yml:3: ends: a spec names the SAPs of its ends itself; --from, --to and --attach are for SONATA descriptors"
    ]


def test_an_etsi_descriptor_is_refused_plainly() -> None:
    assert errors("nsd:\n  nsd: []\n") == [
        "s.yml:1: nsd: this is an ETSI SOL006 descriptor; only SONATA descriptors (and spbroker specs) are read"
    ]


def test_the_committed_schema_is_the_generated_one() -> None:
    committed = (CONFIG / "schema/service-spec.schema.json").read_text()
    assert json.loads(committed) == schema()
    command = [sys.executable, "-m", "service_model.spec_yaml", "--schema"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONFIG.parent).stdout == committed


@pytest.mark.parametrize("text", [DEMO, OFFICES, OWN, dump_spec(FULL)], ids=["demo", "offices", "own", "full"])
def test_the_schema_accepts_what_is_loaded(text: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(yaml.safe_load(text), schema())


@pytest.mark.parametrize(
    "change",
    [{"spec": "v2"}, {"colour": "red"}, {"min_mtu": 5}, {"links": []}, {"functions": [{"id": "f", "type": "a/b"}]}],
)
def test_the_schema_refuses_what_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**yaml.safe_load(DEMO), **change}, schema())


FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text() | FINITE
PARAMETERS = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(st.text(), PARAMETERS, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_parameters_survive_dump_and_load(parameters: dict[str, Any]) -> None:
    spec = load_spec(DEMO, "f")
    changed = ServiceSpec(
        name=spec.name,
        ends=spec.ends,
        functions=(FunctionRequest(id="f", type=FunctionType("v", "n", "1"), parameters=parameters),),
        links=(VirtualLink(id="x", points=("client", "f:in")), VirtualLink(id="y", points=("f:out", "web"))),
        paths=(ServiceFunctionPath(id="p", hops=("client", "f:in", "f:out", "web")),),
    )
    assert load_spec(dump_spec(changed), "f") == changed


VALUES = PARAMETERS | st.sampled_from(
    ["a", "b", "LAN", "10.0.0.0/8", [{"id": "a", "sap": "s"}], [{"last": None}], [[]]]
)
FIELDS = st.sampled_from(list(schema()["properties"])[1:])


def faults(text: str) -> list[str]:
    """What `text` is refused for; anything else that is raised fails the test."""
    try:
        load_order(text, "f")
    except DocumentRefused as refused:
        return [str(error) for error in refused.errors]
    return []


@given(st.dictionaries(FIELDS, VALUES, max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_values_in_its_fields_are_loaded_or_refused(values: dict[str, Any]) -> None:
    base = yaml.safe_load(TRANSIT)
    text = yaml.safe_dump({**base, **values}, sort_keys=False)
    assert all(error.startswith("f:") for error in faults(text))


@given(st.sampled_from(["labels", "networks", "suggested_label", "id", "sap"]), VALUES)
@settings(max_examples=100, deadline=None)
def test_any_value_in_an_end_is_loaded_or_refused(field: str, value: Any) -> None:
    base = yaml.safe_load(TRANSIT)
    base["ends"][1][field] = value
    assert all(error.startswith("f:") for error in faults(yaml.safe_dump(base, sort_keys=False)))
