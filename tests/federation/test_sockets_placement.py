"""Constraints on placement over sockets: each level hands them down, keeps its own part, and requires that they are seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service_model.constraints import PLACEMENT, Countries, Distance, Group, GroupKind, GroupScope
from service_model.outcomes import Reason, ReasonCode, Refused, ServiceState
from service_model.spec import ServiceSpec
from tests.support.customer import Customer
from tests.support.nodes import Nodes
from tests.support.topologies import FROM, chain, nothing_left

TWO_LEVELS_DOWN = "wholesale.lower.server"
APART = Group(id="pair", kind=GroupKind.ANTI_AFFINITY, scope=GroupScope.HOST, functions=("meter", "second"))
TOGETHER = replace(APART, kind=GroupKind.AFFINITY)


def metered_twice(group: Group) -> ServiceSpec:
    """Both functions are of a type that only the leaf has."""
    spec = chain(ends=(FROM, TWO_LEVELS_DOWN), functions=("meter", "second"))
    meter, second = spec.functions
    return replace(spec, functions=(meter, replace(second, type=meter.type)), groups=(group,))


def codes(reasons: tuple[Reason, ...]) -> set[ReasonCode]:
    return {code for reason in reasons for code in (reason.code, *codes(reason.causes))}


def in_the_leaf(nodes: Nodes) -> tuple[ServiceSpec, dict[str, tuple[str, int]]]:
    (vim,) = nodes["leaf"].node.vims()
    (hold,) = [hold for hold in vim.holds() if hold.state is not ServiceState.TERMINATED]
    assert hold.spec is not None
    return hold.spec, dict(hold.hosts)


@pytest.mark.parametrize(("group", "hosts"), [(APART, 2), (TOGETHER, 1)])
async def test_functions_two_levels_down_are_on_one_host_or_apart_as_the_customer_asked(
    nodes: Nodes, ann: Customer, group: Group, hosts: int
) -> None:
    await ann.order("web", metered_twice(group))
    spec, at = in_the_leaf(nodes)
    assert spec.groups == (group,)
    assert PLACEMENT in spec.required_features
    assert len(set(at.values())) == hosts
    await ann.end("web")
    await nothing_left(nodes)


async def test_countries_and_delays_are_handed_down_over_every_level(nodes: Nodes, ann: Customer) -> None:
    near = Distance(id="near", function="meter", to="server", max_delay_us=3_000)
    countries = Countries(allowed=("CH", "GR"))
    await ann.order("web", replace(chain(), countries=countries, distances=(near,)))
    spec, _ = in_the_leaf(nodes)
    assert spec.countries == countries
    (handed,) = spec.distances
    assert (handed.id, handed.function, handed.to) == ("near", "meter", "server")
    assert 500 <= (handed.max_delay_us or 0) <= 3_000
    assert PLACEMENT in spec.required_features
    await ann.end("web")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"countries": Countries(denied=("GR",))}, ReasonCode.COUNTRY),
        ({"isolation": ("macsec",)}, ReasonCode.ISOLATION),
        (
            {"distances": (Distance(id="d", function="firewall", to="server", max_delay_us=10),)},
            ReasonCode.DISTANCE,
        ),
    ],
)
async def test_what_no_level_can_keep_is_refused_by_name_and_leaves_nothing(
    nodes: Nodes, ann: Customer, more: dict[str, object], code: ReasonCode
) -> None:
    answer = await ann.reserve("web", replace(chain(), **more))  # type: ignore[arg-type]
    assert isinstance(answer, Refused)
    assert code in codes(answer.reasons)
    await nothing_left(nodes)
