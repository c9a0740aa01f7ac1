"""The routes that answer a question: of a chain (`labelling`) or of a mesh (`mesh_search`)."""

from __future__ import annotations

from broker.decompose.labelling import EFFORT, Effort, Found, find_chain
from broker.decompose.layered import Question
from broker.decompose.mesh_search import find_mesh


def find(question: Question, alternatives: int = 1, effort: Effort = EFFORT) -> Found:
    """At most `alternatives`, best first."""
    of_its_shape = find_chain if len(question.mesh.paths) == 1 else find_mesh
    return of_its_shape(question, alternatives, effort)
