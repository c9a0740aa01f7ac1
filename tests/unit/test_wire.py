"""The codec: every type comes back as it went, and what is wrong is named by its path."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from address_planner.labels import LABEL_MAX, NO_LABEL, LabelSet
from address_planner.macs import MAC_MAX, Mac, MacSet
from address_planner.port_ids import PortId
from broker.northbound.admin_servicer import APPLIED, DETAIL, INVENTORY
from capability_registry.note import NOTE as NOTE_JSON
from capability_registry.note import (
    Bin,
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    Encapsulation,
    FunctionOffer,
    FunctionPort,
    Lifecycle,
    Outage,
    Place,
    PlaceCapacity,
    PlaceNaming,
    PointKind,
    SapOffer,
    SapRole,
    SharedLimit,
)
from lower_sp_clients import wire
from lower_sp_clients.wire import Codec, Violation, WireError
from service_model.constraints import Countries, Distance, Group, GroupKind, GroupScope
from service_model.flavours import Flavour
from service_model.flows import Flow, FlowProtocol
from service_model.money import Price
from service_model.outcomes import (
    AddressingChoice,
    Alternative,
    Committed,
    Event,
    LinkChoice,
    Nogood,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    SegmentStatus,
    ServiceState,
    ServiceStatus,
)
from service_model.path_headers import PathHeader
from service_model.qos import QosClass
from service_model.quotes import Qualification, Quote, QuotedSegment, unqualified
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
from spbroker.v1 import note_pb2, spec_pb2, words_pb2

NOW = datetime(2026, 5, 17, 12, 30, 15, 123456, tzinfo=UTC)
CODECS: list[Codec[Any, Any]] = [
    wire.SPEC,
    wire.CHOICE,
    wire.RESERVED,
    wire.REFUSED,
    wire.COMMITTED,
    wire.STATUS,
    wire.EVENT,
    wire.NOTE,
    APPLIED,
    INVENTORY,
    DETAIL,
]


# What hypothesis makes specs of ---------------------------------------------------------------------------------------

names = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
labels = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 50)), max_size=4).map(
    lambda pairs: LabelSet(tuple((first, first + more) for first, more in pairs))
)
prefixes = st.one_of(
    st.builds(lambda n, b: ip_network((n >> (32 - b) << (32 - b), b)), st.integers(0, 2**32 - 1), st.integers(8, 32)),
    st.builds(
        lambda n, b: ip_network((n >> (128 - b) << (128 - b), b)), st.integers(2**100, 2**128 - 1), st.integers(8, 128)
    ),
)
mac_pools = st.lists(st.tuples(st.integers(0, MAC_MAX - 99), st.integers(0, 99)), max_size=3).map(
    lambda pairs: MacSet(tuple((first, first + more) for first, more in pairs))
)
addresses = st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(2**64, 2**128 - 1).map(IPv6Address))
EARLIEST, LATEST = (datetime.fromisoformat(day) for day in ("1970-01-01", "2200-01-01"))
instants = st.datetimes(min_value=EARLIEST, max_value=LATEST, timezones=st.just(UTC))
prices = st.decimals(0, 10**9, allow_nan=False, places=4)
parameters = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none()
        | st.booleans()
        | st.text(max_size=8)
        | st.integers(-wire.EXACT_MAX, wire.EXACT_MAX)
        | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)


def tuples(of: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=least, max_size=3).map(tuple)


ends = st.builds(
    End,
    id=names,
    sap=names,
    labels=st.none() | labels,
    suggested_label=st.none() | st.integers(0, LABEL_MAX),
    networks=tuples(prefixes),
    path_header=st.none()
    | st.builds(
        PathHeader,
        id=st.integers(1, (1 << 23) - 1).map(lambda n: 2 * n),
        index=st.integers(1, 255),
        back_index=st.integers(1, 255),
    ),
)
functions = st.builds(
    FunctionRequest,
    id=names,
    type=st.builds(FunctionType, names, names, names),
    flavour=st.none() | names,
    places=tuples(names),
    parameters=parameters,
)
reserved_addresses = st.builds(
    ReservedAddress, role=st.sampled_from(AddressRole), address=addresses, point=st.none() | names
)
links = st.builds(
    VirtualLink,
    id=names,
    kind=st.sampled_from(LinkKind),
    points=tuples(names),
    addressing=st.builds(
        LinkAddressing,
        prefix=st.none() | prefixes,
        hosts=tuples(prefixes),
        reserved=tuples(reserved_addresses),
        macs=st.none() | mac_pools,
    ),
)
codes = st.sampled_from(("AT", "BE", "CH", "DE"))
countries = st.builds(Countries, allowed=tuples(codes), denied=tuples(codes))
groups = st.builds(
    Group,
    id=names,
    kind=st.sampled_from(GroupKind),
    scope=st.sampled_from(GroupScope),
    functions=tuples(names, 2),
)
distances = st.builds(
    Distance,
    id=names,
    function=names,
    to=names,
    max_km=st.none() | st.floats(0, 20_100),
    max_delay_us=st.none() | st.integers(0, 60_000_000),
)
specs = st.builds(
    ServiceSpec,
    name=names,
    ends=tuples(ends, 1),
    functions=tuples(functions),
    links=tuples(links, 1),
    paths=tuples(
        st.builds(
            ServiceFunctionPath,
            id=names,
            hops=tuples(names, 2),
            max_delay_us=st.none() | st.integers(0, 60_000_000),
            flows=tuples(
                st.builds(Flow, protocol=st.sampled_from(FlowProtocol), port=st.none() | st.integers(1, 65535))
            ),
        )
    ),
    blocks=st.builds(Blocks, allowed=tuples(prefixes), excluded=tuples(prefixes)),
    bandwidth_bps=st.integers(0, 10**14),
    max_delay_us=st.none() | st.integers(0, 60_000_000),
    min_mtu=st.integers(576, 65535),
    max_price=st.none() | prices,
    term_hours=st.integers(1, 876_000),
    start_time=st.none() | instants,
    end_time=st.none() | instants,
    managers=tuples(names),
    required_features=tuples(names),
    reference=st.text(max_size=20),
    tags=tuples(names),
    groups=tuples(groups),
    distances=tuples(distances),
    countries=countries,
    isolation=tuples(names),
    qos=st.none() | names,
    min_availability=st.none() | st.floats(0, 1),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs)
def test_a_spec_comes_back_as_it_went(spec: ServiceSpec) -> None:
    message = spec_pb2.ServiceSpec.FromString(wire.SPEC.encode(spec).SerializeToString())
    back = wire.SPEC.decode(message)
    assert back == spec
    assert back.digest() == spec.digest()


# One value of every other type, with every field away from its default ------------------------------------------------

PRICE = Price(currency="CHF", once=Decimal("1.50"), per_hour=Decimal("0.0001"))
CHOICE = AddressingChoice(
    labels={"a": 0, "b": 300},
    links=(
        LinkChoice(link="l1", prefix=ip_network("10.0.0.0/30"), addresses={"a": IPv4Address("10.0.0.1")}, mtu=1450),
        LinkChoice(link="l2", prefix=ip_network("2001:db8::/127"), addresses={"b": IPv6Address("2001:db8::")}),
        LinkChoice(
            link="l3",
            macs={"f:in": Mac.parse("02:00:00:00:00:0a")},
            ports={"f:in": PortId("north", "PO 17/b", "l3", "f:in")},
        ),
    ),
    reach={"a": (ip_network("10.9.0.0/16"), ip_network("2001:db8:1::/48")), "b": ()},
    path_headers={"a": PathHeader(id=4, index=254, back_index=253)},
)
REASON = Reason(
    code=ReasonCode.SEGMENT_REFUSED,
    message="the second part was refused",
    subject="ends[1]",
    segment="east",
    retryable=True,
    nogood=Nogood(
        end="b",
        acceptable_labels=LabelSet(),
        needed_addresses=0,
        interconnect="ix",
        refused_labels=LabelSet.of([7]),
        proposed_label=0,
        link="l1",
        refused_prefixes=(ip_network("10.0.0.0/31"),),
        acceptable_prefixes=(),
    ),
    incident_id="i-1",
    causes=(
        Reason(
            code=ReasonCode.LABEL_TAKEN,
            message="it is in use",
            nogood=Nogood(
                acceptable_labels=LabelSet.parse("100-199,300"),
                needed_addresses=1 << 63,
                alternative=Alternative(
                    gives=(ReasonCode.DELAY, ReasonCode.PRICE), price=Price(currency="CHF"), delay_us=1
                ),
            ),
            causes=(Reason(code=ReasonCode.UNSPECIFIED, message=""),),
        ),
    ),
)
STATUS = ServiceStatus(
    ref="r-1",
    version=3,
    state=ServiceState.DEGRADED,
    name="web",
    reference="PO 17",
    tags=("gold",),
    price=PRICE,
    delay_us=1200,
    choice=CHOICE,
    binding=CHOICE,
    remaining_s=1.25,
    reasons=(REASON,),
    segments=(
        SegmentStatus(
            alias="east",
            state=ServiceState.FAILED,
            functions=("fw",),
            place="DEFRA",
            reasons=(REASON,),
            segments=(SegmentStatus(alias="inner", state=ServiceState.UNSPECIFIED),),
        ),
    ),
    create_time=NOW,
    update_time=NOW,
)
NOTE = CapabilityNote(
    sp_id="sp-b",
    edition=7,
    audience="sp-a",
    not_before=NOW,
    expires=NOW,
    lifecycle=Lifecycle.WITHDRAWING,
    api_features=("extend",),
    currency="CHF",
    places=(
        Place(id="DEFRA", country="DE", latitude=50.1, longitude=-8.6, tags=("eu",)),
        Place(id="p-1", country="ZZ", naming=PlaceNaming.RELAYED, merged=True, site="DEFRA", named_by="b2"),
    ),
    functions=(
        FunctionOffer(
            type=FunctionType("acme", "fw", "1"),
            place="DEFRA",
            ports=(FunctionPort(name="input"),),
            flavours=(Flavour(name="small", units=0, price=PRICE, max_bandwidth_bps=10),),
            delay_us=5,
        ),
    ),
    capacities=(PlaceCapacity(place="DEFRA", bins=(Bin(size=0, count=3), Bin(size=4, count=0)), lan=True),),
    saps=(
        SapOffer(
            id="nni",
            role=SapRole.NNI,
            place="DEFRA",
            encapsulation=Encapsulation.VLAN,
            mtu=1500,
            labels=LabelSet.parse("0,100-200"),
            bandwidth_bps=10**12,
            interconnect="ix",
            peer="sp-a",
            decides_labels=True,
            more_labels=LabelSet.parse("300"),
            path_headers=True,
        ),
    ),
    matrix=(
        BorderEntry(
            a="nni",
            b="DEFRA",
            points=(
                BorderPoint(kind=PointKind.CHEAPEST),
                BorderPoint(
                    kind=PointKind.FASTEST,
                    price=PRICE,
                    delay_us=1,
                    bandwidth_bps=2,
                    availability=0.0,
                    mtu=0,
                    swaps_labels=False,
                    lan=True,
                    isolation=("vlan",),
                    labels_a=LabelSet.parse("100-150"),
                    labels_b=LabelSet.parse("7"),
                ),
            ),
        ),
    ),
    guarded=(BorderEntry(a="nni", b="p-1", points=(BorderPoint(kind=PointKind.CHEAPEST),)),),
    shared=(SharedLimit(id="core", limit_bps=10, coefficients={"nni|DEFRA": 1.5}),),
    qos_classes=(QosClass(name="gold", max_delay_us=10, alias="ef"),),
    outages=(Outage(subject="nni", start=NOW, end=NOW),),
    max_hold_s=10,
    remaining_depth=2,
    origin_tokens=("t1",),
    max_functions=0,
    terms={"law": "DE"},
)


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (wire.CHOICE, CHOICE),
        (wire.CHOICE, AddressingChoice()),
        (wire.RESERVED, Reserved(ref="r", version=1, choice=CHOICE, price=PRICE, remaining_s=12.5, delay_us=9)),
        (wire.REFUSED, Refused(ref="r", version=1, reasons=(REASON,))),
        (wire.QUALIFICATION, Qualification(feasible=True, price=PRICE, delay_us=7)),
        (wire.QUALIFICATION, unqualified(REASON)),
        (
            wire.QUOTE,
            Quote(
                id="q-1",
                price=PRICE,
                delay_us=7,
                remaining_s=299.5,
                segments=(QuotedSegment(alias="east", price=PRICE, delay_us=3), QuotedSegment(alias="west")),
                agreement="gold",
                agreement_version=2,
            ),
        ),
        (wire.COMMITTED, Committed(ref="r", version=1)),
        (wire.STATUS, STATUS),
        (wire.STATUS, ServiceStatus(ref="r", version=1, state=ServiceState.RESERVING)),
        (wire.EVENT, Event(token="t", status=STATUS)),
        (wire.EVENT, Event(token="t")),
        (wire.NOTE, NOTE),
    ],
)
def test_every_answer_comes_back_as_it_went(codec: Codec[Any, Any], value: Any) -> None:
    message = codec.encode(value)
    assert codec.decode(type(message).FromString(message.SerializeToString())) == value


# The shapes agree -----------------------------------------------------------------------------------------------------


def pairs(kind: type[Any], descriptor: Descriptor, seen: set[str]) -> Iterator[tuple[type[Any], Descriptor]]:
    """Each dataclass that `kind` is made of, with its message."""
    if descriptor.full_name in seen:
        return
    seen.add(descriptor.full_name)
    yield kind, descriptor
    for name, hint in get_type_hints(kind).items():
        field = descriptor.fields_by_name.get(name)
        inner = next(_dataclasses_in(hint), None)
        if field is not None and inner is not None and field.message_type is not None:
            message = field.message_type
            value = message.fields_by_name["value"].message_type if message.GetOptions().map_entry else message
            if inner not in (FunctionType, LabelSet, MacSet, Mac, PortId):
                yield from pairs(inner, cast(Descriptor, value), seen)


def _dataclasses_in(hint: Any) -> Iterator[type[Any]]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    elif get_origin(hint) is not None:
        for part in get_args(hint):
            yield from _dataclasses_in(part)


ALL_PAIRS = [
    pair
    for seen in [set[str]()]
    for codec in CODECS
    for pair in pairs(cast(Any, codec._adapter)._type, codec._descriptor, seen)
]


@pytest.mark.parametrize(("kind", "descriptor"), ALL_PAIRS, ids=lambda p: getattr(p, "__name__", ""))
def test_a_message_has_the_fields_of_its_dataclass(kind: type[Any], descriptor: Descriptor) -> None:
    assert [f.name for f in dataclasses.fields(kind)] == [f.name for f in descriptor.fields]


@pytest.mark.parametrize(("kind", "descriptor"), ALL_PAIRS, ids=lambda p: getattr(p, "__name__", ""))
def test_a_default_that_is_no_zero_has_presence(kind: type[Any], descriptor: Descriptor) -> None:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        on_the_wire = descriptor.fields_by_name[field.name]
        optional = get_origin(hints[field.name]) in (Union, types.UnionType) and type(None) in get_args(
            hints[field.name]
        )
        zero = field.default in (dataclasses.MISSING, "", 0, 0.0, False, (), NO_LABEL)
        if optional or not (zero and not isinstance(field.default, Decimal)):
            assert on_the_wire.has_presence, f"{descriptor.name}.{field.name} would lose its zero"


def test_the_words_of_every_enum_are_those_of_the_protocol() -> None:
    compared = 0
    for kind, descriptor in ALL_PAIRS:
        for name, hint in get_type_hints(kind).items():
            field = descriptor.fields_by_name.get(name)
            words = field.enum_type if field is not None else None
            if words is not None and isinstance(hint, type) and issubclass(hint, enum.Enum):
                assert {w.value for w in hint} == {v.name for v in words.values}
                compared += 1
    assert compared >= 10


def test_the_payload_of_a_note_is_proto3_json() -> None:
    message = json_format.Parse(NOTE_JSON.dump_json(NOTE), note_pb2.CapabilityNote())
    assert wire.NOTE.decode(message) == NOTE
    assert wire.parse_note(json_format.MessageToJson(message, preserving_proto_field_name=True)) == NOTE


# Other releases -------------------------------------------------------------------------------------------------------


def test_a_note_of_a_newer_release_is_read_as_far_as_it_is_known() -> None:
    newer = NOTE_JSON.dump_json(NOTE).decode()
    newer = newer.replace('"edition":7', '"edition":7,"carbon_grams":{"per_hour":3}')
    newer = newer.replace("ENCAPSULATION_VLAN", "ENCAPSULATION_GENEVE").replace("LIFECYCLE_WITHDRAWING", "LIFECYCLE_X")
    note = wire.parse_note(newer)
    assert note.saps[0].encapsulation is Encapsulation.UNSPECIFIED
    assert note.edition == 7
    assert note.matrix == NOTE.matrix


def test_what_is_no_note_is_refused_with_its_culprit() -> None:
    with pytest.raises(WireError, match="not proto3 JSON"):
        wire.parse_note('{"edition":')
    with pytest.raises(WireError) as caught:
        wire.parse_note(NOTE_JSON.dump_json(NOTE).replace(b'"edition":7', b'"edition":0'))
    assert [v.path for v in caught.value.violations] == ["edition"]


def test_an_unknown_enum_number_and_field_are_passed_over() -> None:
    message = wire.STATUS.encode(STATUS)
    message.state = cast(Any, 99)
    known_only = wire.STATUS.decode(type(message).FromString(message.SerializeToString() + b"\xfa\x3f\x03new"))
    assert known_only == dataclasses.replace(STATUS, state=ServiceState.UNSPECIFIED)


# What is wrong is named -----------------------------------------------------------------------------------------------


def minimal() -> spec_pb2.ServiceSpec:
    return spec_pb2.ServiceSpec(
        name="s", ends=[spec_pb2.End(id="a", sap="x")], links=[spec_pb2.VirtualLink(id="l", points=["a", "f:in"])]
    )


def with_parameter(number: float) -> spec_pb2.ServiceSpec:
    spec = minimal()
    spec.functions.add(id="f", type="a/b/c").parameters["x"] = [number]
    return spec


def changed(**fields: Any) -> spec_pb2.ServiceSpec:
    spec = minimal()
    spec.MergeFrom(spec_pb2.ServiceSpec(**fields))
    return spec


@pytest.mark.parametrize(
    ("message", "path", "reason"),
    [
        (spec_pb2.ServiceSpec(name="s", links=minimal().links), "ends", "at least 1 item"),
        (changed(name="-"), "name", "match pattern"),
        (changed(ends=[spec_pb2.End(id="b", sap="")]), "ends[1].sap", "match pattern"),
        (changed(ends=[spec_pb2.End(id="b", sap="y", networks=["10.0.0.1/8"])]), "ends[1].networks[0]", "10.0.0.1/8"),
        (
            changed(
                ends=[
                    spec_pb2.End(
                        id="b", sap="y", labels=words_pb2.LabelSet(ranges=[words_pb2.LabelRange(first=9, last=3)])
                    )
                ]
            ),
            "ends[1].labels",
            "9-3",
        ),
        (
            changed(
                links=[
                    spec_pb2.VirtualLink(
                        id="m", addressing=spec_pb2.LinkAddressing(reserved=[spec_pb2.ReservedAddress(address="nine")])
                    )
                ]
            ),
            "links[1].addressing.reserved[0].address",
            "'nine'",
        ),
        (changed(max_price="dear"), "max_price", "'dear'"),
        (changed(min_mtu=0), "min_mtu", "576"),
        (changed(start_time={"seconds": 1 << 40}), "start_time", "years 1 to 9999"),
        (with_parameter(float("inf")), 'functions[0].parameters["x"][0]', "finite"),
        (changed(functions=[spec_pb2.FunctionRequest(id="f", type="only/two")]), "functions[0].type", "vendor/name"),
    ],
)
def test_a_bad_value_is_named_by_its_path(message: spec_pb2.ServiceSpec, path: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        wire.SPEC.decode(message)
    assert [v.path for v in caught.value.violations] == [path]
    assert reason in caught.value.violations[0].reason


def test_a_bad_value_in_a_map_is_named_by_its_key() -> None:
    choice = wire.CHOICE.encode(CHOICE)
    choice.links[0].addresses["f:out"] = "nowhere"
    choice.reach["a"].prefixes.append("10.0.0.1/8")
    with pytest.raises(WireError) as caught:
        wire.CHOICE.decode(choice)
    assert {v.path for v in caught.value.violations} == {'links[0].addresses["f:out"]', 'reach["a"][2]'}


def test_a_number_that_no_double_holds_is_refused_before_it_is_sent() -> None:
    parameters: Mapping[str, Any] = {"deep": [{"id": wire.EXACT_MAX + 1}]}
    spec = dataclasses.replace(
        wire.SPEC.decode(minimal()),
        functions=(FunctionRequest(id="f", type=FunctionType("a", "b", "c"), parameters=parameters),),
    )
    with pytest.raises(WireError) as caught:
        wire.SPEC.encode(spec)
    assert [v.path for v in caught.value.violations] == ['functions[0].parameters["deep"][0]["id"]']


def test_an_error_can_be_seen_from_the_message_around() -> None:
    error = WireError(Violation("ends[0]", "x"), Violation("", "y"))
    assert [v.path for v in error.under("spec").violations] == ["spec.ends[0]", "spec"]
