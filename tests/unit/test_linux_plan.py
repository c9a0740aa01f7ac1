"""What the Linux driver decides before it touches the kernel: settings, names, kernel objects, rules."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from lower_sp_clients.vim.driver import (
    Attachment,
    Blueprint,
    DriverError,
    FlowMatch,
    Function,
    Network,
    Port,
    Route,
    SapPort,
)
from lower_sp_clients.vim.implementations import FirewallRules, Match, ShaperRate, firewall_rules, shaper_rate
from lower_sp_clients.vim.linux import naming
from lower_sp_clients.vim.linux.naming import NamespaceName, PortAlias
from lower_sp_clients.vim.linux.plan import SegmentPlan, plan
from lower_sp_clients.vim.linux.ruleset import ruleset
from lower_sp_clients.vim.linux.saps import Border, EthernetBorder, VxlanBorder, border_of

FAR = ip_network("10.9.0.0/24")
VXLAN_SETTINGS = {"namespace": "b1", "local": "192.0.2.1", "remote": "192.0.2.2"}
BORDERS: dict[str, Border] = {
    "nni": VxlanBorder(sap="nni", namespace="b1", local=ip_address("192.0.2.1"), remote=ip_address("192.0.2.2")),
    "uni": EthernetBorder(sap="uni", namespace="b2", device="uni0"),
}


def test_settings_become_a_border() -> None:
    sap = SapPort(id="nni", encapsulation="VXLAN", mtu=1450, settings=VXLAN_SETTINGS | {"port": "4790"})
    assert border_of(sap) == VxlanBorder(
        sap="nni", namespace="b1", local=ip_address("192.0.2.1"), remote=ip_address("192.0.2.2"), port=4790
    )


@pytest.mark.parametrize(
    ("encapsulation", "settings", "culprit"),
    [
        ("VXLAN", {**VXLAN_SETTINGS, "namespace": ""}, "namespace"),
        ("VXLAN", {**VXLAN_SETTINGS, "namespace": "../etc"}, "namespace"),
        ("VXLAN", {**VXLAN_SETTINGS, "remote": "here"}, "remote"),
        ("VXLAN", {**VXLAN_SETTINGS, "remote": "2001:db8::1"}, "different versions"),
        ("VXLAN", {**VXLAN_SETTINGS, "port": "0"}, "port"),
        ("VXLAN", {**VXLAN_SETTINGS, "vlan": "5"}, "vlan"),
        ("ETHERNET", {"namespace": "b2"}, "device"),
        ("GRE", {}, "GRE"),
    ],
)
def test_a_wrong_setting_is_named_with_its_sap(encapsulation: str, settings: dict[str, str], culprit: str) -> None:
    with pytest.raises(ValueError, match=culprit) as refusal:
        border_of(SapPort(id="nni7", encapsulation=encapsulation, mtu=1450, settings=settings))
    assert "nni7" in str(refusal.value)


def test_namespace_names_are_read_back_exactly() -> None:
    name = NamespaceName("dom", "seg-1", "f", "fw.1:a")
    assert NamespaceName.parse(str(name), "dom") == name
    assert NamespaceName.parse(str(name), "do") is None
    assert NamespaceName.parse("spb.dom.seg-1", "dom") is None
    with pytest.raises(ValueError, match=r"dom\.x"):
        naming.check_domain("dom.x")


@pytest.mark.parametrize("port", ["input", "a" * 15, "eth0.100"])
def test_a_port_keeps_its_name_where_that_fits(port: str) -> None:
    assert naming.device_name(port) == port


@pytest.mark.parametrize("port", ["a" * 16, "lo", "all", "default", "in:put", "../x"])
def test_a_name_that_cannot_be_a_device_gets_a_hash(port: str) -> None:
    device = naming.device_name(port)
    assert device != port
    assert len(device) == 15
    assert device == naming.device_name(port)
    assert device.isalnum()


def test_a_port_alias_is_read_back() -> None:
    assert PortAlias.parse(naming.port_alias(3, "in:put", management=True)) == PortAlias(3, "in:put", True)
    assert PortAlias.parse("uplink to the lab") is None


def test_hardware_addresses_are_local_unicast_and_follow_the_key() -> None:
    first = naming.hardware_address("10.0.0.1/24")
    assert first == naming.hardware_address("10.0.0.1/24")
    assert first != naming.hardware_address("10.0.0.2/24")
    assert int(first[:2], 16) & 3 == 2


def function(id: str, *networks: str, implementation: str = "forwarder", **parameters: Any) -> Function:
    ports = tuple(
        Port(name=f"p{i}", network=network, interfaces=(ip_interface(f"10.{i}.0.1/24"),))
        for i, network in enumerate(networks)
    )
    return Function(id=id, implementation=implementation, ports=ports, parameters=parameters)


def planned(*functions: Function, attached: tuple[tuple[str, str, int], ...] = (), lan: bool = False) -> SegmentPlan:
    ids = {port.network for f in functions for port in f.ports} | {network for network, _, _ in attached}
    blueprint = Blueprint(
        segment="s1",
        networks=tuple(Network(id=network, mtu=1400, lan=lan) for network in sorted(ids)),
        functions=functions,
        attachments=tuple(Attachment(network=n, sap=sap, label=label) for n, sap, label in attached),
    )
    return plan("dom", blueprint, BORDERS)


def test_two_ports_are_one_wire_and_need_no_bridge() -> None:
    found = planned(function("a", "n"), function("b", "n"))
    assert [(w.a.namespace, w.b.namespace, w.mtu) for w in found.wires] == [("spb.dom.s1.f.a", "spb.dom.s1.f.b", 1400)]
    assert found.bridges == ()


def test_a_port_at_a_vxlan_sap_is_the_tunnel_itself() -> None:
    found = planned(function("a", "n"), attached=(("n", "nni", 7),))
    (tunnel,) = found.tunnels
    assert (tunnel.end.namespace, tunnel.end.device, tunnel.attachment.label) == ("spb.dom.s1.f.a", "p0", 7)
    assert (found.wires, found.bridges, found.accesses) == ((), (), ())


def test_a_port_at_an_ethernet_sap_is_wired_to_a_bridge_beside_the_device() -> None:
    found = planned(function("a", "n"), attached=(("n", "uni", 0),))
    (access,), (wire,) = found.accesses, found.wires
    assert (wire.b.namespace, wire.b.device) == ("b2", access.member)
    assert len(access.bridge) <= 15
    assert access.bridge != access.member


def test_a_transit_is_a_bridge_of_its_sap_devices() -> None:
    found = planned(attached=(("n", "nni", 7), ("n", "uni", 0)))
    (bridge,) = found.bridges
    assert bridge.members == ("sap0", "sap1")
    assert found.tunnels[0].end.namespace == bridge.name == "spb.dom.s1.n.n"
    assert found.namespaces == {bridge.name}


def test_flows_have_tables_before_the_port_s_own_and_those_that_name_a_port_come_first() -> None:
    def route(ingress: str, hop: str, flow: FlowMatch | None = None) -> Route:
        return Route(ingress=ingress, destination=FAR, egress="p1", next_hop=ip_address(hop), flow=flow)

    tcp, web = FlowMatch(protocol="tcp"), FlowMatch(protocol="tcp", destination_port=80)
    routes = (route("p0", "10.1.0.2", tcp), route("p0", "10.1.0.3", web), route("p0", "10.1.0.4"))
    (space,) = planned(replace(function("a", "n", "m"), routes=routes)).functions
    first = space.ports[0]
    assert [(table.flow, table.routes) for table in first.flows] == [(web, routes[1:2]), (tcp, routes[:1])]
    assert first.flows[0].table < first.flows[1].table < first.table
    assert (first.routes, space.ports[1].flows) == (routes[2:], ())
    assert space.routes == routes[2:], "what it sends itself goes as packets of no flow do"


def test_ports_whose_device_names_clash_are_refused() -> None:
    clash = naming.device_name("a" * 16)
    ports = tuple(Port(name=name, network="n") for name in ("a" * 16, clash))
    with pytest.raises(DriverError, match="same device name"):
        planned(Function(id="a", implementation="forwarder", ports=ports))


def test_the_digest_follows_every_detail() -> None:
    rules = {"deny": [{"protocol": "tcp", "port": 22}]}
    variants = [
        planned(function("a", "n", "m")),
        planned(function("a", "n", "m", implementation="firewall")),
        planned(function("a", "n", "m", implementation="firewall", **rules)),
        planned(function("a", "n", "m"), attached=(("n", "nni", 7),)),
        planned(function("a", "n", "m"), attached=(("n", "nni", 8),)),
    ]
    assert len({found.digest for found in variants}) == len(variants)
    assert planned(function("a", "n", "m")).digest == variants[0].digest


def test_denies_come_before_allows_and_the_policy_is_last() -> None:
    found = planned(
        function(
            "a",
            "n",
            "m",
            implementation="firewall",
            policy="drop",
            allow=[{"protocol": "udp"}],
            deny=[{"protocol": "icmp"}],
        )
    )
    text = ruleset(found.functions[0])
    assert text is not None
    wanted = [
        "ct state established,related",
        "{ icmp, ipv6-icmp } counter name dropped drop",
        "l4proto udp",
        "    counter",
    ]
    positions = [text.index(part) for part in wanted]
    assert positions == sorted(positions)
    assert text.rstrip().endswith("counter name dropped drop\n  }\n}")


def test_firewall_rules_judge_the_first_packet() -> None:
    rules = firewall_rules(
        {"deny": [{"protocol": "tcp", "port": 22}], "allow": [{"protocol": "tcp"}], "policy": "drop"}
    )
    assert rules == FirewallRules((Match("tcp", 22),), (Match("tcp"),), True)
    assert [rules.accepts("tcp", 22), rules.accepts("tcp", 80), rules.accepts("icmp")] == [False, True, False]


def test_a_rate_has_a_burst_that_a_token_bucket_can_hold() -> None:
    assert shaper_rate({"rate_bps": 1e6}) == ShaperRate(1_000_000, 15_140)
    assert shaper_rate({"rate_bps": 10**9}) == ShaperRate(10**9, 2_500_000)
    assert shaper_rate({"rate_bps": 10**9, "burst_bytes": 5000}).burst_bytes == 5000
    with pytest.raises(ValueError, match="burst_bytes"):
        shaper_rate({"rate_bps": 8000, "burst_bytes": 10**6})
