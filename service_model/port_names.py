"""What the ports of a service are called between who asks and who answers. Pure.

Rules kept here
- Who answers names its own ports, `sp/service/link/cp`: itself, the ref that it was asked under, and the words of the spec.
  So each level has names of its own, and none of a lower level goes up.
"""

from __future__ import annotations

from dataclasses import replace

from address_planner.port_ids import PortId
from service_model.outcomes import AddressingChoice
from service_model.spec import ServiceSpec, split_point


def named(choice: AddressingChoice, spec: ServiceSpec, sp: str, ref: str) -> AddressingChoice:
    """The choice with the names of all ports that the service has, given by `sp` to who asked under `ref`."""
    points = {link.id: [p for p in link.points if split_point(p)[1]] for link in spec.links}
    links = tuple(
        replace(link, ports={p: PortId(sp, ref, link.link, p) for p in points.get(link.link, ())})
        for link in choice.links
    )
    return replace(choice, links=links)


def misnamed(choice: AddressingChoice, ref: str) -> tuple[str, str] | None:
    """Where the names are not what was asked for under `ref`: the link, and why; None where all are, or none are given."""
    for link in choice.links:
        for point, name in link.ports.items():
            if (name.service, name.link, name.cp) != (ref, link.link, point):
                return link.link, f"{point} is called {name}, and is no port of that name"
    sps = {name.sp for link in choice.links for name in link.ports.values()}
    if len(sps) > 1:
        return choice.links[0].link, f"its ports are named by several: {', '.join(sorted(sps))}"
    return None
