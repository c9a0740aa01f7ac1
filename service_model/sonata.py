"""A SONATA network service descriptor (NSD), descriptor version 1.0, as a ServiceSpec.

Rules kept here
- A descriptor is imported whole, or refused with every reason and its line; nothing in it is guessed.
- E-Line becomes LINE, E-LAN becomes LAN, E-Tree is refused. A forwarding path becomes a path, by its positions.
- An external connection point is an end and needs a SAP from whoever orders. One for management (or of the older type
  `interface`, off every path) is optional: without a SAP it is left off its E-LAN, with one it is an end there.
- By convention the first path begins at the point that `from_sap` is for and ends at the one for `to_sap`.
- Service-specific managers are kept by id: which of them run is the broker's decision.
- The catalogue, where given, decides which function types and which of their ports exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from service_model.check import check
from service_model.sonata_form import IGNORED, Descriptor, DescriptorKind, ImportRefused, load_descriptor, plain_id
from service_model.sonata_paths import ForwardingPath, forwarding_paths
from service_model.sonata_vnfd import FunctionDescription, import_vnfd
from service_model.spec import SPEC, FunctionType, ServiceSpec
from service_model.yaml_faults import document_errors
from service_model.yaml_lines import Path

__all__ = ["FunctionDescription", "ImportRefused", "import_nsd", "import_vnfd", "path_ends"]

VERSIONS = ("1.0", "nsd-schema-01")
_KINDS = {"e-line": "LINE", "e-lan": "LAN"}
_POINT_TYPES = ("external", "management", "internal", "interface")


def import_nsd(
    text: str | bytes,
    file: str,
    *,
    catalogue: Mapping[FunctionType, Collection[str] | None] | None = None,
    attach: Mapping[str, str] | None = None,
    from_sap: str | None = None,
    to_sap: str | None = None,
) -> ServiceSpec:
    """The service that `text` describes, between the SAPs given.

    `catalogue`: function type → names of its ports, None where they are not known; without one neither is checked.
    `attach`: connection point id → SAP id. `from_sap`, `to_sap`: SAPs of the first and the last
    connection point of the first path. Raises ImportRefused.
    """
    nsd = _Nsd(load_descriptor(text, file, DescriptorKind.NSD), catalogue)
    nsd.attach(dict(attach or {}), from_sap, to_sap)
    return nsd.spec()


def path_ends(text: str | bytes, file: str) -> tuple[str, str]:
    """The connection points at which the first path of an NSD begins and ends. Raises ImportRefused."""
    nsd = _Nsd(load_descriptor(text, file, DescriptorKind.NSD), None)
    nsd.form.refuse()
    if not nsd.paths:
        nsd.form.fault((), "there is no forwarding path, so no first and no last connection point")
    nsd.form.refuse()
    return nsd.paths[0].hops[0][1], nsd.paths[0].hops[-1][1]


@dataclass(frozen=True, slots=True)
class _Point:
    """A connection point of the service itself."""

    id: str
    type: str
    path: Path


@dataclass(slots=True)
class _Link:
    id: str
    kind: str
    path: Path
    points: list[tuple[Path, str]] = field(default_factory=list)


class _Nsd:
    def __init__(self, form: Descriptor, catalogue: Mapping[FunctionType, Collection[str] | None] | None) -> None:
        self.form = form
        self.root = form.root
        self.catalogue = catalogue
        self.saps: dict[str, str] = {}
        self.functions: dict[str, tuple[Path, FunctionType]] = {}
        self.points: dict[str, _Point] = {}
        self.links: dict[str, _Link] = {}
        self._head()
        self._functions()
        self._points()
        self._links()
        self.paths: tuple[ForwardingPath, ...] = forwarding_paths(
            form, self.functions, {link.id: {ref for _, ref in link.points} for link in self.links.values()}
        )
        for path in self.paths:
            for where, ref in path.hops:
                self._known(where, ref)

    def _head(self) -> None:
        read = (
            "descriptor_version descriptor_type vendor name version network_functions connection_points "
            "virtual_links forwarding_graphs service_specific_managers"
        )
        self.form.fields((), self.root, read, IGNORED)
        version = self.form.text((), self.root, "descriptor_version")
        if version and version not in VERSIONS:
            self.form.fault(("descriptor_version",), f"descriptor version {version!r}; {VERSIONS[0]} is read")
        for key in ("vendor", "version"):
            self.form.text((), self.root, key)

    def _functions(self) -> None:
        for path, item in self.form.items((), self.root, "network_functions"):
            self.form.fields(path, item, "vnf_id vnf_vendor vnf_name vnf_version", "description")
            id = self.form.text(path, item, "vnf_id")
            triple = [self.form.text(path, item, f"vnf_{part}") for part in ("vendor", "name", "version")]
            if not id or not all(triple):
                continue
            if id in self.functions:
                self.form.fault((*path, "vnf_id"), f"the vnf_id {id!r} is declared twice")
                continue
            try:
                type_ = FunctionType.parse("/".join(triple))
            except ValueError as error:
                self.form.fault(path, str(error))
                continue
            if self.catalogue is not None and type_ not in self.catalogue:
                self.form.fault((*path, "vnf_name"), f"the function type {type_} is not in the catalogue")
            self.functions[id] = (path, type_)

    def _points(self) -> None:
        for path, item in self.form.items((), self.root, "connection_points"):
            self.form.fields(path, item, "id type", "interface description virtual_link_reference")
            id, type_ = self.form.text(path, item, "id"), self.form.text(path, item, "type")
            if type_ and type_ not in _POINT_TYPES:
                self.form.fault((*path, "type"), f"{type_!r} is not one of {', '.join(_POINT_TYPES)}")
            if id in self.points:
                self.form.fault((*path, "id"), f"the connection point {id!r} is declared twice")
            elif id:
                self.points[id] = _Point(id, type_, path)

    def _links(self) -> None:
        ignored = "description dhcp access external_access test_access root_requirement leaf_requirement"
        for path, item in self.form.items((), self.root, "virtual_links"):
            self.form.fields(path, item, "id connectivity_type connection_points_reference", ignored)
            id, type_ = self.form.text(path, item, "id"), self.form.text(path, item, "connectivity_type")
            kind = _KINDS.get(type_.lower(), "")
            if type_.lower() == "e-tree":
                self.form.fault((*path, "connectivity_type"), "an E-Tree is not offered: use E-LAN or E-Line")
            elif type_ and not kind:
                self.form.fault((*path, "connectivity_type"), f"{type_!r} is not one of E-Line, E-LAN")
            if id in self.links:
                self.form.fault((*path, "id"), f"the virtual link {id!r} is declared twice")
                continue
            if "connection_points_reference" not in item:
                self.form.fault((*path, "connection_points_reference"), "a required field is missing")
            link = _Link(id, kind, path, self.form.texts(path, item, "connection_points_reference"))
            for where, ref in link.points:
                self._known(where, ref)
            if kind == "LINE" and len(link.points) != 2:
                reason = f"the E-Line {id!r} joins two connection points, not {len(link.points)}"
                self.form.fault((*path, "connection_points_reference"), reason)
            self.links[id] = link

    def _known(self, where: Path, ref: str) -> None:
        """Refuse a reference to a connection point that nobody declares."""
        if ref in self.points:
            return
        owner, colon, port = ref.partition(":")
        if not colon or owner == "ns":
            self.form.fault(where, f"the connection point {ref!r} is not declared in connection_points")
        elif owner not in self.functions:
            alike = next((id for id, (_, type_) in self.functions.items() if type_.name == owner), None)
            hint = f" ({alike!r} is the vnf_id of the function with that name)" if alike else ""
            self.form.fault(where, f"{ref!r}: no network function has the vnf_id {owner!r}{hint}")
        elif self.catalogue is not None:
            type_ = self.functions[owner][1]
            ports = self.catalogue.get(type_)
            if ports is not None and plain_id(port) not in ports:
                reason = f"{ref!r}: the function type {type_} has no port {port!r} (it has {', '.join(sorted(ports))})"
                self.form.fault(where, reason)

    def attach(self, attach: dict[str, str], from_sap: str | None, to_sap: str | None) -> None:
        """Give connection points their SAPs; refuse one that needs a SAP and got none, or got two."""
        wanted = [(id, sap, "attach") for id, sap in attach.items()]
        for sap, k, option in ((from_sap, 0, "--from"), (to_sap, -1, "--to")):
            if sap is not None and self.paths:
                wanted.append((self.paths[0].hops[k][1], sap, option))
            elif sap is not None:
                self.form.fault((), f"{option} needs a forwarding path, and there is none")
        named = {plain_id(id): id for id in self.points}
        for ref, sap, option in wanted:
            id = ref if ref in self.points else named.get(ref, "")
            if not id:
                if option == "attach":
                    self.form.fault(("connection_points",), f"no connection point {ref!r} to attach to {sap!r}")
            elif self.saps.setdefault(id, sap) != sap:
                self.form.fault(self.points[id].path, f"{id!r} is given two SAPs: {self.saps[id]!r} and {sap!r}")
            elif self.points[id].type == "internal":
                self.form.fault(self.points[id].path, f"{id!r} is internal: it attaches to no SAP")
        for point in self.points.values():
            if point.id not in self.saps and self._needed(point):
                self.form.fault(point.path, f"{point.id!r} has no SAP: order with {self._option(point.id)}")

    def _needed(self, point: _Point) -> bool:
        on_line = any(ref == point.id for link in self.links.values() if link.kind != "LAN" for _, ref in link.points)
        return point.type == "external" or on_line or any(point.id in (h[1] for h in p.hops) for p in self.paths)

    def _option(self, id: str) -> str:
        if self.paths and self.paths[0].hops[0][1] == id:
            return "--from SAP"
        return "--to SAP" if self.paths and self.paths[0].hops[-1][1] == id else f"--attach {id}=SAP"

    def _hop(self, ref: str) -> str:
        """A reference as a connection point of a spec."""
        if ref in self.points:
            return plain_id(ref)
        owner, _, port = ref.partition(":")
        return f"{plain_id(owner)}:{plain_id(port)}"

    def spec(self) -> ServiceSpec:
        """The spec, checked; every problem with it at the line in the descriptor that it came from."""
        origins: dict[Path, Path] = {("ends",): ("connection_points",), ("links",): ("virtual_links",)}
        origins |= {("functions",): ("network_functions",), ("paths",): ("forwarding_graphs",)}
        data: dict[str, Any] = {"name": self.form.text((), self.root, "name")}
        data["managers"] = self._managers(origins)
        self.form.refuse()
        data["ends"] = [{"id": plain_id(id), "sap": sap} for id, sap in self._ordered_saps(origins)]
        data["functions"] = [{"id": plain_id(id), "type": type_} for id, (_, type_) in self.functions.items()]
        for i, (path, _) in enumerate(self.functions.values()):
            origins |= {("functions", i): path, ("functions", i, "id"): (*path, "vnf_id")}
        data["links"], data["paths"] = self._joined(origins), self._flows(origins)

        def origin(path: Path) -> Path:
            known = path
            while known and known not in origins:
                known = known[:-1]
            return origins.get(known, ()) + path[len(known) :]

        try:
            spec = SPEC.validate_python(data)
        except ValidationError as error:
            self.form.faults(document_errors(error, self.form.document, origin))
            self.form.refuse()
            raise
        for problem in check(spec):
            where = self.form.document.nearest(origin(problem.field))
            self.form.fault(where, problem.reason)
        self.form.refuse()
        return spec

    def _managers(self, origins: dict[Path, Path]) -> list[str]:
        managers: list[str] = []
        for path, item in self.form.items((), self.root, "service_specific_managers"):
            self.form.fields(path, item, "id", "description image options resource_requirements")
            origins[("managers", len(managers))] = (*path, "id")
            managers.append(self.form.text(path, item, "id"))
        return managers

    def _ordered_saps(self, origins: dict[Path, Path]) -> list[tuple[str, str]]:
        saps = [(id, self.saps[id]) for id in self.points if id in self.saps]
        for i, (id, _) in enumerate(saps):
            origins |= {("ends", i): self.points[id].path, ("ends", i, "sap"): self.points[id].path}
        return saps

    def _joined(self, origins: dict[Path, Path]) -> list[dict[str, Any]]:
        links: list[dict[str, Any]] = []
        for link in self.links.values():
            points = [(where, ref) for where, ref in link.points if ref not in self.points or ref in self.saps]
            if link.kind == "LAN" and link.points and not points:
                continue
            i = len(links)
            origins |= {("links", i): link.path, ("links", i, "points"): (*link.path, "connection_points_reference")}
            origins |= {("links", i, "points", k): where for k, (where, _) in enumerate(points)}
            links.append({"id": plain_id(link.id), "kind": link.kind, "points": [self._hop(ref) for _, ref in points]})
        return links

    def _flows(self, origins: dict[Path, Path]) -> list[dict[str, Any]]:
        for i, path in enumerate(self.paths):
            origins |= {("paths", i): path.path, ("paths", i, "id"): (*path.path, "fp_id")}
            origins[("paths", i, "hops")] = (*path.path, "connection_points")
            origins |= {("paths", i, "hops", k): where for k, (where, _) in enumerate(path.hops)}
        return [{"id": plain_id(path.id), "hops": [self._hop(ref) for _, ref in path.hops]} for path in self.paths]
