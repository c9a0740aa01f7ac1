"""The simulated domain's faults, and its agreement with what a blueprint says."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import get_args

import pytest

from lower_sp_clients.vim.driver import (
    Attachment,
    Blueprint,
    DriverError,
    Function,
    Network,
    Port,
    ProbePath,
    Route,
    SapPort,
)
from lower_sp_clients.vim.simulated import Operation, SimulatedDriver
from tests.support.driver_bench import two_port

SAPS = [SapPort(id="nni", encapsulation="VXLAN", mtu=1450)]
PORT = Port(name="eth0", network="n", interfaces=(ip_interface("10.0.0.1/24"),))
BLUEPRINT = Blueprint(
    segment="s1",
    networks=(Network(id="n", mtu=1450),),
    functions=(Function(id="f", implementation="forwarder", ports=(PORT,)),),
    attachments=(Attachment(network="n", sap="nni", label=7),),
)
PATH = ProbePath(segment="s1", function="f", port="eth0", target=ip_address("10.0.0.1"))


@pytest.mark.parametrize("operation", get_args(Operation))
async def test_an_injected_fault_strikes_once(operation: Operation) -> None:
    driver = SimulatedDriver(SAPS)
    await driver.apply(BLUEPRINT)

    async def call() -> None:
        match operation:
            case "apply":
                await driver.apply(BLUEPRINT)
            case "remove":
                await driver.remove("s2")
            case "inventory":
                await driver.inventory()
            case "losses":
                await driver.losses([BLUEPRINT])
            case "measure":
                await driver.measure("s1")
            case "probe":
                await driver.probe(PATH)

    driver.fail_next(operation, TimeoutError("the controller is silent"))
    with pytest.raises(TimeoutError, match="silent"):
        await call()
    await call()
    assert {item.segment for item in await driver.inventory()} == {"s1"}


async def test_a_fault_without_half_done_builds_nothing() -> None:
    driver = SimulatedDriver(SAPS)
    driver.fail_next("apply", DriverError("no power"))
    with pytest.raises(DriverError, match="no power"):
        await driver.apply(BLUEPRINT)
    assert await driver.inventory() == ()


async def test_what_is_not_offered_is_refused() -> None:
    driver = SimulatedDriver(SAPS, offered=frozenset({"meter"}))
    with pytest.raises(DriverError, match="forwarder"):
        await driver.apply(BLUEPRINT)
    assert driver.offer.implementations == {"meter"}


async def test_joining_an_unknown_sap_is_refused() -> None:
    with pytest.raises(DriverError, match="moon"):
        SimulatedDriver(SAPS).join("nni", SimulatedDriver(SAPS), "moon")


async def test_a_loop_of_routes_ends() -> None:
    driver = SimulatedDriver(SAPS)
    there, back = ip_interface("10.0.0.1/24"), ip_interface("10.0.0.2/24")
    left = two_port("a", "forwarder", ("n", str(there)), ("m", "10.1.0.1/24"), _loop("west", str(back.ip)))
    right = two_port("b", "forwarder", ("n", str(back)), ("o", "10.2.0.1/24"), _loop("west", str(there.ip)))
    networks = tuple(Network(id=name, mtu=1500) for name in ("n", "m", "o"))
    await driver.apply(Blueprint(segment="s1", networks=networks, functions=(left, right)))
    path = ProbePath(segment="s1", function="a", port="west", target=ip_address("10.9.0.1"))
    answer = await driver.probe(path)
    assert not answer.ok
    assert "hops" in answer.detail


def _loop(port: str, hop: str) -> list[Route]:
    return [Route(ingress=port, destination=ip_network("10.9.0.0/24"), egress=port, next_hop=ip_address(hop))]
