"""VLANs on a trunk, as the kernel carries them: what is on the wire, what was tampered with, and who may have none."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import pytest_asyncio
from pyroute2 import IPRoute

from lower_sp_clients.vim.driver import Attachment, Blueprint, DriverError, Network, Route
from lower_sp_clients.vim.linux import packets, trunks, vlan_tags
from lower_sp_clients.vim.linux.lab import WireEnd
from lower_sp_clients.vim.linux.namespaces import run_in, socket_in
from tests.support.driver_bench import LinuxBench, linux_or_skip, require_packets, two_port
from tests.support.wire_tap import ALL_FRAMES, frames

pytestmark = pytest.mark.packets

ROOT = Path(__file__).parents[2]
VLAN = 77
CLIENT, SERVER = "10.1.0.2", "10.2.0.2"
EVERYTHING, PACKET, AUXILIARY = ip_network("10.0.0.0/8"), 263, 8


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[LinuxBench]:
    made = linux_or_skip(f"v{uuid.uuid4().hex[:8]}", vlans=True)
    try:
        yield made
    finally:
        await made.close()


def half(side: str, vlan: int = VLAN) -> Blueprint:
    """A function between the customer of a side and the trunk."""
    n, m = (1, 2) if side == "left" else (2, 1)
    here, there, own, hop = f"10.{n}.0.1/24", f"10.{m}.0.0/24", f"10.255.0.{n}/24", f"10.255.0.{m}"
    onward = Route(ingress="west", destination=ip_network(there), egress="east", next_hop=ip_address(hop))
    return Blueprint(
        segment="half",
        networks=(Network(id="access", mtu=1500), Network(id="joint", mtu=1500)),
        functions=(two_port("f", "forwarder", ("access", here), ("joint", own), [onward]),),
        attachments=(
            Attachment(network="access", sap="uni", label=0),
            Attachment(network="joint", sap="trunk", label=vlan),
        ),
    )


async def joined(bench: LinuxBench) -> tuple[str, str]:
    """A customer at each side, and what joins them."""
    client = await bench.customer("left", [f"{CLIENT}/24"], [(EVERYTHING, ip_address("10.1.0.1"))])
    server = await bench.customer("right", [f"{SERVER}/24"], [(EVERYTHING, ip_address("10.2.0.1"))])
    await bench.left.apply(half("left"))
    await bench.right.apply(half("right"))
    assert packets.ping(client, SERVER).ok
    return client, server


@contextmanager
def tagged(namespace: str, device: str) -> Iterator[socket.socket]:
    """`frames`, with what the kernel has put beside."""
    with frames(namespace, device) as sock:
        sock.setsockopt(PACKET, AUXILIARY, 1)
        yield sock


def tags(sock: socket.socket, wanted: bytes) -> set[tuple[int, int] | None]:
    """The tags (protocol and VLAN id) of the frames seen with `wanted` in them; None: untagged. The kernel tells them beside."""
    found: set[tuple[int, int] | None] = set()
    while True:
        try:
            frame, beside, _, _ = sock.recvmsg(2048, 256)
        except TimeoutError:
            return found
        if wanted not in frame:
            continue
        (status, tci, tpid) = next(struct.unpack("=I12xHH", data[:20]) for *_, data in beside)
        found.add((tpid, tci & 0xFFF) if status & 0x10 else None)


async def test_bulk_traffic_crosses_a_trunk_in_both_directions(bench: LinuxBench) -> None:
    client, server = await joined(bench)
    there, back = packets.tcp_echo(server, client, SERVER), packets.tcp_echo(client, server, CLIENT)
    assert (there.ok, back.ok) == (True, True), (there, back)
    assert packets.path_mtu(client, SERVER, 1600) == 1500


async def test_what_is_on_the_wire_bears_the_tag_and_what_is_in_the_service_none(bench: LinuxBench) -> None:
    client, _ = await joined(bench)
    asked = ip_address(CLIENT).packed + ip_address(SERVER).packed
    with (
        tagged(f"{bench.token}-right-trunk", "trunk0") as wire,
        tagged(bench.function("right", "half", "f"), "east") as inside,
    ):
        assert packets.ping(client, SERVER).ok
        assert tags(wire, asked) == {(0x8100, VLAN)}
        assert tags(inside, asked) == {None}


async def test_untagged_frames_of_a_trunk_reach_no_service(bench: LinuxBench) -> None:
    client, _ = await joined(bench)
    with (
        socket_in(f"{bench.token}-left-trunk", socket.AF_PACKET, socket.SOCK_RAW) as sock,
        tagged(bench.function("right", "half", "f"), "east") as inside,
    ):
        sock.bind(("trunk0", 0))
        for tag in (b"", struct.pack("!HH", 0x8100, VLAN + 1), struct.pack("!HH", 0x8100, VLAN)):
            sock.send(
                b"\xff" * 6
                + b"\x02" * 6
                + tag
                + b"\x88\xb5"
                + b"planted"
                + bytes([len(tag), tag[-1] if tag else 0]) * 30
            )
        assert tags(inside, b"planted") == {None}, "of its own id, and of no other"
    assert packets.ping(client, SERVER).ok


@pytest.mark.parametrize("where", ["trunk0", "member"])
async def test_a_filter_that_somebody_took_away_is_put_back_by_the_next_apply(bench: LinuxBench, where: str) -> None:
    client, _ = await joined(bench)
    border = f"{bench.token}-left-trunk"

    def take() -> None:
        with IPRoute() as ip:
            links = {link.get("ifname"): link["index"] for link in ip.get_links()}
            device = links["trunk0"] if where == "trunk0" else next(i for n, i in links.items() if n.startswith("spb"))
            ip.tc("del-filter", "bpf", device, 1, parent=trunks.INGRESS, prio=VLAN, protocol=ALL_FRAMES)

    run_in(border, take)
    assert not packets.ping(client, SERVER, attempts=1).ok
    await bench.left.apply(half("left"))
    assert packets.ping(client, SERVER).ok


async def test_a_vlan_that_somebody_else_uses_on_the_trunk_is_in_use(bench: LinuxBench) -> None:
    await bench.customer("left", [f"{CLIENT}/24"])

    def plant() -> None:
        with IPRoute() as ip:
            (index,) = ip.link_lookup(ifname="trunk0")
            trunks.hook(ip, index)
            trunks.attach(ip, index, vlan_tags.untagging(VLAN, index), "somebody else's", VLAN)

    run_in(f"{bench.token}-left-trunk", plant)
    with pytest.raises(DriverError, match=rf"label {VLAN} on SAP 'trunk' is in use"):
        await bench.left.apply(half("left"))
    assert await bench.left.inventory() == ()
    await bench.left.apply(half("left", VLAN + 1))
    await bench.left.remove("half")

    def left() -> list[str]:
        with IPRoute() as ip:
            (index,) = ip.link_lookup(ifname="trunk0")
            options = [f.get("TCA_OPTIONS") for f in ip.get_filters(index=index, parent=trunks.INGRESS)]
            return [o.get("TCA_BPF_NAME") for o in options if o is not None]

    assert run_in(f"{bench.token}-left-trunk", left) == ["somebody else's"]


async def test_a_trunk_that_is_not_as_configured_is_named(bench: LinuxBench) -> None:
    border, alone = f"{bench.token}-left-trunk", replace(half("left"), attachments=half("left").attachments[1:])

    def narrow() -> None:
        with IPRoute() as ip:
            ip.link("set", index=ip.link_lookup(ifname="trunk0")[0], mtu=1400)

    run_in(border, narrow)
    with pytest.raises(DriverError, match="SAP 'trunk': device 'trunk0' has MTU 1400, the network needs 1500"):
        await bench.left.apply(alone)

    def cut() -> None:
        with IPRoute() as ip:
            ip.link("del", index=ip.link_lookup(ifname="trunk0")[0])

    run_in(border, cut)
    with pytest.raises(DriverError, match=f"SAP 'trunk': no device 'trunk0' in namespace '{border}'"):
        await bench.left.apply(alone)
    assert await bench.left.inventory() == ()
    bench.lab.wire(WireEnd(border, "trunk0"), WireEnd(f"{bench.token}-right-trunk", "trunk0"))
    await bench.left.apply(alone)


def test_who_may_not_load_programs_is_offered_no_vlans_and_told_why() -> None:
    require_packets()
    code = (
        "from lower_sp_clients.vim.linux import LinuxDriver\n"
        "offer = LinuxDriver('x', []).offer\n"
        "print(*sorted(offer.encapsulations), *offer.missing)"
    )
    inner = 'mount -t tmpfs t /run && mkdir /run/netns && exec "$@"'
    done = subprocess.run(
        ["unshare", "-Urnm", "sh", "-c", inner, "sh", sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("ETHERNET VXLAN VLAN: Operation not permitted; "), done
