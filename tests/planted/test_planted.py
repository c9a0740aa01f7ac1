"""Bugs that are planted, each in a copy of the sources: the checks of this suite find every one of them.

Rules kept here
- Nothing is patched: the sources are copied, one place of one file is changed, and the tests that are named are run on the
  copy in a process of their own.
- The same tests pass on a copy in which nothing was changed: so it is the bug that they found.
- A bug that no longer fits its file fails here: it has to be planted anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.chaos_report import Facts, tell

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    "address_planner",
    "broker",
    "capability_registry",
    "config",
    "lower_sp_clients",
    "proto",
    "service_model",
    "tests",
)


SIZES = (
    "SPBROKER_CHAOS_REPORT", "SPBROKER_CRASH_POINTS", "SPBROKER_KILLED_POINTS", "SPBROKER_SCHEDULES", "SPBROKER_WEATHERS",
    "SPBROKER_KILLS",
)  # fmt: skip
"""What says how much of the long tests is run: on a copy they are short."""


@dataclass(frozen=True)
class Bug:
    """`instead` stands in `file` where `what` stood; `found_by`: a test file, and which of its tests; `sizes`: how much of it."""

    file: str
    what: str
    instead: str
    found_by: str
    named: str
    sizes: tuple[tuple[str, str], ...] = ()


BUGS = {
    "a flush that is skipped: callers are answered before the commit": Bug(
        "broker/storage/writer.py",
        "            applied = sum(outcome.error is None for outcome in outcomes)\n",
        "            applied = sum(outcome.error is None for outcome in outcomes)\n"
        "            deliver(outcomes)\n"
        "            __import__('time').sleep(0.01)\n",
        "tests/unit/test_engine.py",
        "test_every_acknowledged_row_survives_kill_9",
    ),
    "a flush that is skipped: the disk is not waited for": Bug(
        "broker/storage/sqlite.py",
        '"synchronous=FULL"',
        '"synchronous=OFF"',
        "tests/unit/test_engine.py",
        "test_a_commit_waits_for_the_disk",
    ),
    "a flush that is skipped: an order goes on before it is recorded": Bug(
        "broker/orders/engine.py",
        "        sequence = await self.book.save(change)\n",
        "        sequence = 1 + self.sequence\n"
        "        asyncio.get_running_loop().create_task(self.book.save(change))\n",
        "tests/unit/test_books.py",
        "test_what_could_not_be_recorded_did_not_happen_and_is_told_so",
    ),
    "an effect before its record: suppliers are asked before it is recorded that they are": Bug(
        "broker/orders/engine.py",
        "                await self._record(recorded, now)\n            except Taken",
        "                await self._caller.answers(recorded, pause.calls)\n"
        "                await self._record(recorded, now)\n            except Taken",
        "tests/chaos/test_crash_points.py",
        "test_whatever_happens_at_a_point_nothing_is_left_doubled_or_hidden",
        (("SPBROKER_CRASH_POINTS", "40"),),
    ),
    "an effect after its record: a domain says that it has taken down what it has yet to take down": Bug(
        "lower_sp_clients/vim/local_vim.py",
        "                await self._recorder.save(replace(hold, state=ServiceState.TERMINATING, updated=now, beside=None))\n",
        "                await self._recorder.save(replace(hold, state=ServiceState.TERMINATED, updated=now, beside=None))\n"
        "                await self.driver.remove(ref)\n",
        "tests/chaos/test_crash_points.py",
        "test_whatever_happens_at_a_point_nothing_is_left_doubled_or_hidden",
        (("SPBROKER_CRASH_POINTS", "66"),),
    ),
    "a key that is repeated: the segments of two services have one ref": Bug(
        "broker/orders/records.py",
        'f"{service}/{key}"',
        'f"{key}"',
        "tests/chaos/test_schedules.py",
        "test_whatever_happens_every_order_comes_to_its_end_and_nothing_is_left",
        (("SPBROKER_SCHEDULES", "4"),),
    ),
    "a release that is missed: what is not known to be held is not given back": Bug(
        "broker/orders/tasks.py",
        "        lambda s: not s.wanted and remains(s),\n",
        "        lambda s: not s.wanted and remains(s) and s.choice is not None,\n",
        "tests/chaos/test_named_schedules.py",
        "test_a_reserve_that_arrives_after_its_release_has_no_effect",
    ),
    "a tombstone that is dropped: a domain takes up what it released": Bug(
        "lower_sp_clients/versions.py",
        "    if version <= known.released_upto:\n",
        "    if version < known.released_upto:\n",
        "tests/chaos/test_named_schedules.py",
        "test_a_reserve_that_arrives_after_its_release_has_no_effect",
    ),
    "a label that is used again: a healing keeps those of what is lost": Bug(
        "broker/orders/split.py",
        "        item = replace(item, labels=others) if others else item\n",
        "",
        "tests/federation/test_stacked_healing.py",
        "test_over_the_same_interconnect_the_labels_are_others",
    ),
    "a key that is repeated: a healing asks for a version that another order asked for": Bug(
        "broker/orders/succession.py",
        "spent=spent[s.alias, s.ref]",
        "spent=s.spent",
        "tests/unit/test_healing.py",
        "test_a_version_under_a_ref_is_asked_for_once_whoever_asks",
    ),
    "an event that is forgotten: what was told while the disk was full is not asked for": Bug(
        "broker/orders/engine.py",
        "            self._listener.ask_again(id)\n",
        "",
        "tests/chaos/test_named_schedules.py",
        "test_what_a_supplier_told_while_it_could_not_be_recorded_is_asked_for",
    ),
    "an allocation that is recorded without its entry in the journal": Bug(
        "broker/storage/allocations.py",
        'changes = [(a, "FREE") for a in drop] + [(a, a.state.short) for a in put]',
        'changes = [(a, "FREE") for a in drop]',
        "tests/unit/test_books.py",
        "test_each_allocation_and_its_entry_in_the_journal_are_recorded_together",
    ),
    "a tombstone that is dropped: a domain forgets a release that came first": Bug(
        "lower_sp_clients/vim/local_vim.py",
        "                await self._recorder.save(hold)\n            elif hold.state is ServiceState.RESERVED and hold.version",
        "                pass\n            elif hold.state is ServiceState.RESERVED and hold.version",
        "tests/contract/test_suppliers.py",
        "test_a_release_that_overtakes_its_reservation_leaves_a_tombstone",
    ),
    "a tombstone that is dropped: a broker forgets what it terminated": Bug(
        "broker/orders/broker.py",
        '            self.audit(tombstone.id, account, "terminate", ref, "", "TERMINATED", ctx)\n',
        "            return\n",
        "tests/contract/test_suppliers.py",
        "test_a_terminate_that_overtakes_its_reservation_ends_every_version",
    ),
    "a constraint that is widened: hosts are not handed down": Bug(
        "broker/orders/addressing.py",
        "            hosts=aggregate(hosts),\n            reserved=(*others, *fixed, *reserved),\n",
        "            hosts=(),\n            reserved=tuple(others),\n",
        "tests/unit/test_depths.py",
        "test_at_every_depth_choices_are_within_what_was_asked_and_nothing_overlaps",
    ),
    "a constraint that is widened: a segment's ends may use any label": Bug(
        "broker/orders/split.py",
        "ends=tuple(replace(own[id], sap=sap) if id in own",
        "ends=tuple(replace(own[id], sap=sap, labels=None) if id in own",
        "tests/unit/test_depths.py",
        "test_at_every_depth_choices_are_within_what_was_asked_and_nothing_overlaps",
    ),
    "a constraint that is widened: what is narrowed keeps what only one side admits": Bug(
        "address_planner/constraints.py",
        "self.hosts & other.hosts",
        "self.hosts | other.hosts",
        "tests/unit/test_narrowing.py",
        "test_narrowing",
    ),
    "a check that sees no widening: hosts are not compared": Bug(
        "address_planner/constraints.py",
        "            and self.hosts <= other.hosts\n",
        "",
        "tests/unit/test_narrowing.py",
        "test_what_is_within_another_admits_nothing_that_it_does_not",
    ),
    "an answer that is not checked: a supplier's choice is taken as it is": Bug(
        "broker/orders/delivering.py",
        "    wrong = violation(segment.spec, result.choice) or _misnamed(segment, result)\n",
        "    wrong = None\n",
        "tests/federation/test_stacked_ports.py",
        "test_a_choice_outside_its_constraint_is_released_and_counted_against_the_supplier",
    ),
    "an answer that is not checked: a manager's place is taken as it is": Bug(
        "broker/orders/judging.py",
        "        if not any(_offers(offer.function, offer.place, offer.supplier, place) for offer in question.offers):\n",
        "        if False:\n",
        "tests/unit/test_judging.py",
        "test_a_manager_widens_nothing",
    ),
    "an effect before its record: a manager is asked before the question is recorded": Bug(
        "broker/orders/engine.py",
        "            pause = advance(pause.order, env, self.workflows)\n        return pause\n",
        "            pause = advance(pause.order, env, self.workflows)\n"
        "        if (early := pause.order.asked) is not None:\n"
        "            await asking.answer_of(pause.order, early, self._managers, self.clock)\n"
        "        return pause\n",
        "tests/federation/test_stacked_managers.py",
        "test_a_question_is_recorded_before_it_is_asked",
    ),
    "a range that is off by one: what is cut out of a set leaves one behind": Bug(
        "address_planner/ranges.py",
        "first = max(first, cuts[j][1] + 1)",
        "first = max(first, cuts[j][1])",
        "tests/unit/test_labels.py",
        "test_the_algebra_is_that_of_sets",
    ),
    "a range that is off by one: a VLAN too many": Bug(
        "address_planner/labels.py",
        "VLAN_MAX = 4094",
        "VLAN_MAX = 4095",
        "tests/unit/test_label_kinds.py",
        "test_each_kind_has_its_own_numbers",
    ),
    "a range that is off by one: a port gets the address of all": Bug(
        "address_planner/prefixes.py",
        "    return address not in (prefix.network_address, prefix.broadcast_address)\n",
        "    return address != prefix.network_address\n",
        "tests/unit/test_prefixes.py",
        "test_usable_addresses_are_those_that_a_port_may_have",
    ),
    "a range that is off by one: half of a block that is split is lost": Bug(
        "address_planner/buddy.py",
        "        while size > bits:\n",
        "        while size > bits + 1:\n",
        "tests/unit/test_buddy.py",
        "test_space_is_conserved_and_nothing_is_given_twice",
    ),
    "a block that is given back though somebody below may still use it": Bug(
        "broker/orders/records.py",
        "former_blocks=tuple(dict.fromkeys(b for b in former if b not in (block, second_block))),",
        "former_blocks=(),",
        "tests/federation/test_stacked_conflicts.py",
        "test_a_block_that_is_given_up_stays_until_nobody_below_can_use_it",
    ),
}


def copied(to: Path) -> Path:
    for name in SOURCES:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", to)
    return to


def plant(bug: Bug, tree: Path) -> None:
    file = tree / bug.file
    text = file.read_text()
    assert text.count(bug.what) == 1, f"{bug.file} has no such place any more"
    file.write_text(text.replace(bug.what, bug.instead))


def run(tree: Path, *tests: str, sizes: tuple[tuple[str, str], ...] = ()) -> tuple[int, str]:
    """Run tests on a tree: the exit code of pytest, and what it said."""
    ours = {key: value for key, value in os.environ.items() if key not in SIZES}
    environment = {**ours, "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'proto'}", "SPBROKER_DEPTHS": "20", **dict(sizes)}
    environment = {key: value for key, value in environment.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str, tmp_path: Path) -> None:
    bug = BUGS[name]
    tree = copied(tmp_path)
    plant(bug, tree)
    code, said = run(tree, bug.found_by, "-k", bug.named, sizes=bug.sizes)
    caught = code == 1 and f"FAILED {bug.found_by}::{bug.named}" in said
    tell(Facts("planted bugs", planted=[name], caught=[name] if caught else []))
    assert caught, said


def test_without_a_bug_the_same_tests_pass(tmp_path: Path) -> None:
    tree = copied(tmp_path)
    files, names = sorted({bug.found_by for bug in BUGS.values()}), sorted({bug.named for bug in BUGS.values()})
    sizes = tuple(sorted({size for bug in BUGS.values() for size in bug.sizes}))
    code, said = run(tree, *files, "-k", " or ".join(names), sizes=sizes)
    assert code == 0, said
