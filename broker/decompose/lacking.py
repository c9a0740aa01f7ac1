"""Why there is no plan where suppliers lack what a service asks of them: features, and families of addresses.

Each answers with the subject in the spec's own word and the message; suppliers appear by local alias only.
"""

from __future__ import annotations

from broker.decompose.labelling import Route, walked
from broker.decompose.layered import Question
from service_model.families import named, versions
from service_model.features import needed_everywhere


def feature(question: Question, relaxed: Route) -> tuple[str, str]:
    """The first supplier of the best route that would not see the constraints, or not deliver what a function needs."""
    graph, mesh = question.graph, question.mesh
    passed = [*question.saps, *(node for node, _ in walked(relaxed))]
    needed = [(node, feature) for feature in needed_everywhere(mesh.spec) for node in passed]
    for move in relaxed.moves:
        if move.place >= 0:
            features = mesh.features_at(mesh.lines[move.layer].head)
            needed += [(graph.sap_count + move.place, feature) for feature in features]
    offered = ((graph.suppliers[graph.node_supplier(node)], feature) for node, feature in needed)
    culprit, feature = next((view, feature) for view, feature in offered if feature not in view.note.api_features)
    return feature, f"feature {feature!r}: {culprit.alias} does not offer it, and no way is without such suppliers"


def no_family(question: Question) -> bool:
    """Whether nothing that is offered of the service's functions lacks a family that it needs."""
    spec = question.mesh.spec
    for request in question.mesh.functions:
        wanted = spec.versions_at(request.id)
        offering = question.graph.offering(request.type, request.flavour) if wanted else None
        if offering is not None and not offering.forwarding(wanted).all():
            return False
    return True


def family(question: Question, relaxed: Route) -> tuple[str, str]:
    """The first function of the best route that does not forward there what it has to, and what it does forward."""
    spec, graph, layers = question.mesh.spec, question.graph, relaxed.layers
    for move in relaxed.moves:
        if move.place < 0:
            continue
        id = layers.requests[move.layer].id
        wanted, had = spec.versions_at(id), versions(layers.chosen(move.layer, move.place)[0].families)
        if (wanted - set(had)) if had else len(wanted) > 1:
            alias = graph.suppliers[graph.node_supplier(graph.sap_count + move.place)].alias
            does = f"{named(had)} alone" if had else "one family at a time"
            return id, f"function {id!r} needs {named(wanted)}: the best without forwards {does}, at {alias}"
    return spec.name, f"no way has {named(spec.versions)} throughout"
