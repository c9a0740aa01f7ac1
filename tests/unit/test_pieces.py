"""The JSON written by pieces is the JSON of the type, whatever was written before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from broker.storage.pieces import Pieces, Recent, Written, each


@dataclass(frozen=True)
class Leaf:
    id: str
    words: tuple[str, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Tree:
    name: str = "tree"
    size: int = 0
    words: tuple[str, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    below: Leaf | None = None


TREE = TypeAdapter(Tree)
LEAF_PIECES = Pieces(Leaf, {"words": None, "notes": None})
PIECES = Pieces(Tree, {"words": None, "below": None, "leaves": each(LEAF_PIECES)})

texts = st.text(max_size=4)
words = st.lists(texts, max_size=2).map(tuple)
leaves = st.builds(Leaf, id=texts, words=words, notes=st.dictionaries(texts, st.integers(), max_size=2))
changes = st.one_of(
    st.fixed_dictionaries({"name": st.sampled_from(["tree", "oak", 'qu"ote'])}),
    st.fixed_dictionaries({"size": st.integers(0, 3)}),
    st.fixed_dictionaries({"words": words}),
    st.fixed_dictionaries({"leaves": st.lists(leaves, max_size=3).map(tuple)}),
    st.fixed_dictionaries({"below": st.none() | leaves}),
)


@given(st.lists(changes, max_size=12))
def test_after_any_changes_the_pieces_read_as_the_whole(history: list[dict[str, object]]) -> None:
    tree, former = Tree(), Written()
    for change in history:
        tree, now = replace(tree, **change), Written()  # type: ignore[arg-type]
        text = PIECES.write(tree, former, now)
        assert json.loads(text) == json.loads(TREE.dump_json(tree, exclude_defaults=True))
        assert TREE.validate_json(text) == tree
        former = now


def test_a_part_that_is_the_same_object_is_not_written_again() -> None:
    written: list[str] = []

    def write(leaf: Leaf, former: Written, now: Written) -> bytes:
        written.append(leaf.id)
        return LEAF_PIECES.write(leaf, former, now)

    pieces, leaf = Pieces(Tree, {"below": write}), Leaf("a")
    former, now = Written(), Written()
    pieces.write(Tree(below=leaf), former, now)
    pieces.write(Tree(below=leaf, size=2), now, Written())
    assert written == ["a"]
    pieces.write(Tree(below=Leaf("b"), size=2), now, Written())
    assert written == ["a", "b"]


def test_what_is_not_used_any_more_is_forgotten() -> None:
    first, second, third = Written(), Written(), Written()
    PIECES.write(Tree(leaves=(Leaf("a"), Leaf("b"))), first, second)
    PIECES.write(Tree(leaves=(Leaf("c"),)), second, third)
    assert [part.id for part, _ in third.values() if isinstance(part, Leaf)] == ["c"]


def test_of_each_value_what_was_written_last_is_kept_until_its_last_writing() -> None:
    recent = Recent(most=2)
    former, now = recent.turn("a", last=False)
    assert (former, now) == ({}, {})
    now[1] = ("part", b"{}")
    assert recent.turn("a", last=False)[0] == {1: ("part", b"{}")}
    recent.turn("b", last=True)[1][2] = ("other", b"{}")
    assert recent.turn("b", last=False)[0] == {}


def test_what_was_written_longest_ago_is_forgotten_first() -> None:
    recent = Recent(most=2)
    for key in ("a", "b", "a", "c"):
        recent.turn(key, last=False)[1][1] = (key, b"")
    assert [bool(recent.turn(key, last=True)[0]) for key in "abc"] == [True, False, True]
