"""All that a hierarchy sells, to a broker that sees it at once: what nobody below the top sells cannot be bought there.

Rules kept here
- A domain that two brokers sell stands twice, each with the interconnects that its seller, or one above it, joins. So no
  service passes inside it from what one of them joins to what only the other does: neither of them sells that.
- Domains are known by the path over which they are bought, and so are their SAPs: as the top names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.hierarchies.neighbours import Neighbour
from benchmarks.hierarchies.sellers import Leaf, Seller
from lower_sp_clients.vim.domain import Sap

_Path = tuple[str, ...]


def for_sale(stalls: Mapping[_Path, str], leaves: Mapping[str, Leaf]) -> dict[str, Seller]:
    """`stalls`: the domains by path. The suppliers of the broker, by path."""
    peers: dict[_Path, dict[str, str]] = {path: {} for path in stalls}
    for joint, sides in _sides(stalls, leaves).items():
        for p, ours in sides:
            for q, theirs in sides:
                if _joined(p, ours, q, theirs):
                    peers[p][joint], peers[q][joint] = ".".join(q), ".".join(p)
    inner = {joint for known in peers.values() for joint in known}
    return {
        ".".join(path): Neighbour(leaves[id], peers[path], ".".join(path), inner - peers[path].keys())
        for path, id in stalls.items()
    }


def _sides(stalls: Mapping[_Path, str], leaves: Mapping[str, Leaf]) -> dict[str, list[tuple[_Path, Sap]]]:
    out: dict[str, list[tuple[_Path, Sap]]] = {}
    for path, id in stalls.items():
        for sap in leaves[id].domain.saps:
            if sap.interconnect:
                out.setdefault(sap.interconnect, []).append((path, sap))
    return out


def _joined(p: _Path, ours: Sap, q: _Path, theirs: Sap) -> bool:
    """Whether the broker under which the two paths part joins these two: each names the other's seller there."""
    parted = next(_parting(p, q), None)
    return ours.decides_labels and not theirs.decides_labels and parted == (theirs.peer, ours.peer)


def _parting(p: _Path, q: _Path) -> Iterator[tuple[str, str]]:
    return ((x, y) for x, y in zip(p, q, strict=False) if x != y)
