"""A SONATA function descriptor (VNFD) as a description that an operator builds a catalogue entry from.

Rules kept here
- The ports are the function's own connection points: `external` ones carry data, `management` ones do not forward. The
  older type `interface` is for management where it is on an E-LAN. Where a descriptor has no points of its own, those
  of its deployment units that are external or for management are taken (Pishahang descriptors are written so).
- A function without any port cannot be joined to anything and is refused.
- Resources are summed over the deployment units; memory is in MiB.
- How the function is run is the operator's choice: images and managers are told, nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service_model.sonata_form import IGNORED, Descriptor, DescriptorKind, load_descriptor, plain_id
from service_model.spec import FunctionType
from service_model.yaml_lines import Path

_MEBIBYTES = {
    "B": 1 / (1 << 20),
    "kB": 1000 / (1 << 20),
    "KB": 1000 / (1 << 20),
    "KiB": 1 / 1024,
    "MB": 1_000_000 / (1 << 20),
    "MiB": 1.0,
    "GB": 1_000_000_000 / (1 << 20),
    "GiB": 1024.0,
    "TB": 1_000_000_000_000 / (1 << 20),
    "TiB": 1024.0 * 1024,
}
_UNITS = ("virtual_deployment_units", "cloudnative_deployment_units")
_POINT_TYPES = ("external", "management", "internal", "interface")
_MOST = 1e9


@dataclass(frozen=True, slots=True)
class DescribedPort:
    name: str
    management: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionDescription:
    """A function type as its author describes it. `vcpus` may be a part of one; `memory_mib` is rounded up."""

    type: FunctionType
    ports: tuple[DescribedPort, ...]
    vcpus: float
    memory_mib: int
    images: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()

    @property
    def port_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.ports)


def import_vnfd(text: str | bytes, file: str) -> FunctionDescription:
    """The function that `text` describes. Raises ImportRefused."""
    form = load_descriptor(text, file, DescriptorKind.VNFD)
    read = (
        "descriptor_version descriptor_type vendor name version virtual_links connection_points "
        "function_specific_managers " + " ".join(_UNITS)
    )
    form.fields((), form.root, read, IGNORED)
    triple = [form.text((), form.root, key) for key in ("vendor", "name", "version")]
    form.text((), form.root, "descriptor_version")
    units = [unit for key in _UNITS for unit in form.items((), form.root, key)]
    if not units:
        form.fault((_UNITS[0],), "there is no deployment unit")
    ports = _ports(form, units)
    demands = [_demand(form, path, unit) for path, unit in units]
    managers = [form.text(path, item, "id") for path, item in form.items((), form.root, "function_specific_managers")]
    try:
        type_ = FunctionType.parse("/".join(triple))
    except ValueError as error:
        form.fault(("name",), str(error))
    form.refuse()
    return FunctionDescription(
        type=type_,
        ports=ports,
        vcpus=sum(vcpus for vcpus, _ in demands),
        memory_mib=-int(-sum(memory for _, memory in demands) // 1),
        images=tuple(image for path, unit in units if (image := _image(form, path, unit))),
        managers=tuple(managers),
    )


def _ports(form: Descriptor, units: list[tuple[Path, Mapping[str, Any]]]) -> tuple[DescribedPort, ...]:
    ports = _points(form, (), form.root)
    inner = [port for path, unit in units for port in _points(form, path, unit)]
    chosen = [p for p in (ports if "connection_points" in form.root else inner) if p[1] != "internal"]
    on_lan = {
        plain_id(ref)
        for path, link in form.items((), form.root, "virtual_links")
        if link.get("connectivity_type") == "E-LAN"
        for _, ref in form.texts(path, link, "connection_points_reference")
    }
    if not chosen:
        reason = "the function has no connection point of its own, so it cannot be joined to anything"
        form.fault(("connection_points",) if ports or not units else units[0][0], reason)
    names: set[str] = set()
    out = []
    for path, type_, name in chosen:
        if name in names:
            form.fault(path, f"the port {name!r} is declared twice")
        names.add(name)
        out.append(DescribedPort(name, type_ == "management" or (type_ == "interface" and name in on_lan)))
    return tuple(out)


def _points(form: Descriptor, where: Path, item: Mapping[str, Any]) -> list[tuple[Path, str, str]]:
    """(path, type, name) of each connection point of a function or a deployment unit."""
    points = []
    for path, point in form.items(where, item, "connection_points"):
        form.fields(path, point, "id type", "interface description virtual_link_reference")
        name, type_ = form.text(path, point, "id"), form.text(path, point, "type")
        if type_ and type_ not in _POINT_TYPES:
            form.fault((*path, "type"), f"{type_!r} is not one of {', '.join(_POINT_TYPES)}")
        points.append((path, type_, plain_id(name)))
    return points


def _image(form: Descriptor, path: Path, unit: Mapping[str, Any]) -> str:
    key = next((key for key in ("vm_image", "service_image", "image") if key in unit), None)
    return form.text(path, unit, key) if key else ""


def _demand(form: Descriptor, where: Path, unit: Mapping[str, Any]) -> tuple[float, float]:
    """(vCPUs, memory in MiB) that a deployment unit asks for; 0 for what it does not say."""
    path = (*where, "resource_requirements")
    needs = unit.get("resource_requirements", {})
    cpu = _part(form, path, needs, "cpu")
    memory = _part(form, path, needs, "memory")
    factor = _MEBIBYTES.get(str(memory.get("size_unit", "MiB")))
    if factor is None:
        known = ", ".join(_MEBIBYTES)
        form.fault((*path, "memory", "size_unit"), f"{memory['size_unit']!r} is not one of {known}")
    vcpus = _number(form, (*path, "cpu", "vcpus"), cpu.get("vcpus", 0))
    return vcpus, _number(form, (*path, "memory", "size"), memory.get("size", 0)) * (factor or 0)


def _part(form: Descriptor, path: Path, needs: Any, key: str) -> Mapping[str, Any]:
    part = needs.get(key, {}) if isinstance(needs, Mapping) else None
    if isinstance(part, Mapping):
        return part
    form.fault((*path, key), "a mapping of fields belongs here")
    return {}


def _number(form: Descriptor, path: Path, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        form.fault(path, f"a number from 0 to {_MOST:.0f} belongs here")
        return 0.0
    return float(value)
