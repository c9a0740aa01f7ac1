"""A new key for notes: three steps, each repeatable, none of which leaves partners without a key that is in use."""

from __future__ import annotations

import stat
from itertools import count
from pathlib import Path

import pytest

from broker.accounts.founding import Layout, read_keys
from broker.accounts.rotation import KeyFile, NotRotated, prepare, retire, switch
from broker.settings.anchor import ANCHOR
from tests.unit.test_founding import make


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make(tmp_path / "node").layout


def kids(layout: Layout) -> list[str]:
    return [key.kid for key in ANCHOR.validate_json(layout.anchor.read_bytes()).note_keys.keys]


def present(layout: Layout) -> str:
    return read_keys(layout).note_key.kid


def test_the_key_in_use_is_in_the_anchor_after_every_step(layout: Layout) -> None:
    first = present(layout)
    prepare(layout)
    old, new = kids(layout)
    assert (old, present(layout)) == (first, first)
    switch(layout)
    assert (kids(layout), present(layout)) == ([first, new], new)
    retire(layout)
    assert (kids(layout), present(layout)) == ([new], new)


def test_each_step_may_be_repeated(layout: Layout) -> None:
    prepare(layout)
    announced = kids(layout)
    assert [k.kid for k in prepare(layout).note_keys.keys] == announced
    switch(layout)
    retire(layout)
    assert [k.kid for k in retire(layout).note_keys.keys] == announced[1:]


def test_a_step_before_its_time_changes_nothing(layout: Layout) -> None:
    before = kids(layout), present(layout)
    with pytest.raises(NotRotated, match="prepare"):
        switch(layout)
    assert (kids(layout), present(layout)) == before
    prepare(layout)
    between = kids(layout)
    with pytest.raises(NotRotated, match="switch"):
        retire(layout)
    assert kids(layout) == between


def test_a_crash_after_the_key_was_made_is_made_good_by_preparing_again(layout: Layout) -> None:
    before = layout.anchor.read_bytes()
    prepare(layout)
    announced = kids(layout)
    layout.anchor.write_bytes(before)
    prepare(layout)
    assert kids(layout) == announced


def test_the_next_key_is_for_its_owner_alone(layout: Layout) -> None:
    prepare(layout)
    assert stat.S_IMODE(layout.next_note_key.stat().st_mode) == 0o600
    assert "PRIVATE" not in layout.anchor.read_text()


def test_a_running_node_takes_up_a_new_key_and_keeps_the_former_where_there_is_none_to_read(layout: Layout) -> None:
    file, first = KeyFile(layout.note_key), present(layout)
    assert file.current() is file.current()
    numbers = count()
    prepare(layout, random=lambda n: bytes([next(numbers) + 1]) * n)
    switch(layout)
    assert file.current().kid == present(layout) != first
    layout.note_key.write_text("nothing of a key")
    assert file.current().kid != first
    layout.note_key.unlink()
    assert file.current().kid != first
