"""A snapshot as a networkx graph, for reading and drawing."""

from __future__ import annotations

from collections.abc import Iterator

import networkx

from broker.decompose.graph import Crossing, Graph, graph_of
from broker.decompose.plan import Snapshot


def to_networkx(snapshot: Snapshot) -> networkx.MultiGraph:
    """Nodes (alias, id) with `kind`, edges `way` and `interconnect` with their figures."""
    graph, out = graph_of(snapshot), networkx.MultiGraph()
    for i, view in enumerate(graph.suppliers):
        piece = graph.pieces[i]
        for sap in piece.saps:
            out.add_node((view.alias, sap.id), kind="sap", role=sap.role.short, place=sap.place)
        for here in piece.places:
            out.add_node((view.alias, here.place), kind="place", functions=sorted(str(t) for t in here.offers))
        for way in piece.ways:
            a, b = (view.alias, piece.point(way.a)), (view.alias, piece.point(way.b))
            out.add_edge(a, b, kind="way", price=str(way.point.price), delay_us=way.point.delay_us)
    for c in _once(graph):
        ends = [
            (graph.suppliers[int(graph.sap_supplier[s])].alias, graph.sap_offer(s).id) for s in (c.source, c.target)
        ]
        out.add_edge(*ends, kind="interconnect", id=c.id, labels=str(c.labels))
    return out


def _once(graph: Graph) -> Iterator[Crossing]:
    crossings = (graph.crossing[sap] for sap in range(graph.sap_count))
    return (c for c in crossings if c is not None and c.source < c.target)
