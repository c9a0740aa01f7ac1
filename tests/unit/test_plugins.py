"""The operator's plugins, as they are installed: folders with `dist-info` on the path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.bootstrap.plugins import workflows
from broker.bootstrap.serving import CannotServe, run
from broker.cli.loader import run as command
from broker.orders.schedules import CannotSchedule
from broker.settings.process import NODE_FILE, load_process
from service_model.outcomes import ServiceState
from service_model.yaml_lines import DocumentRefused
from tests.support.nodes import found_at

TASK = '''
from broker.orders.schedules import into
from service_model.outcomes import ServiceState

@into(ServiceState.RESERVING, before="hold")
def office_hours(order, env):
    """Nothing is held out of hours."""
    return order

nothing = 7
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with entry points on the path."""

    def made(distribution: str, *entries: str, source: str = TASK) -> None:
        root = tmp_path / f"site-{distribution}"
        info = root / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[spbroker.tasks]\n" + "\n".join(entries) + "\n")
        (root / f"{distribution.replace('-', '_')}_code.py").write_text(source)
        monkeypatch.syspath_prepend(str(root))

    return made


def test_a_plugin_that_is_named_is_loaded_and_its_task_is_in_the_schedule(install: Install) -> None:
    install("acme-a", "office-hours = acme_a_code:office_hours")
    schedule = workflows(["office-hours"], []).of(())[ServiceState.RESERVING]
    (slot,) = (slot for slot in schedule if slot.name == "office_hours")
    assert slot.origin == "plugin office-hours (acme-a 1.2)"
    assert schedule[schedule.index(slot) + 1].name == "hold"


def test_what_is_installed_and_not_named_is_not_even_imported(install: Install) -> None:
    install("acme-b", "broken = acme_b_code:office_hours", source="raise SystemExit('imported')")
    assert workflows([], []).everywhere == ()


@pytest.mark.parametrize(
    ("entry", "source", "why"),
    [
        ("acme_c_code:absent", TASK, r"plugin 'x' of acme-c 1\.2: AttributeError: .*absent"),
        ("acme_c_code:nothing", TASK, r"plugin 'x' of acme-c 1\.2: acme_c_code:nothing is no task made with `into`"),
        ("nowhere:x", TASK, r"plugin 'x' of acme-c 1\.2: ModuleNotFoundError: No module named 'nowhere'"),
        ("acme_c_code:f", "raise ValueError('half written')", r"plugin 'x' of acme-c 1\.2: ValueError: half written"),
    ],
    ids=["no such name", "no task", "no such module", "does not import"],
)
def test_a_plugin_that_is_broken_is_refused_by_name(
    install: Install, entry: str, source: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(__import__("sys").modules, "acme_c_code", raising=False)
    install("acme-c", f"x = {entry}", source=source)
    with pytest.raises(CannotSchedule, match=why):
        workflows(["x"], [])


def test_a_plugin_that_is_missing_is_refused_with_those_that_there_are(install: Install) -> None:
    install("acme-d", "there = acme_d_code:office_hours")
    with pytest.raises(CannotSchedule, match=r"plugin 'here' is not installed: group spbroker\.tasks has .*there"):
        workflows(["here"], [])


def test_a_plugin_of_two_distributions_is_refused_with_both(install: Install) -> None:
    install("acme-e", "same = acme_e_code:office_hours")
    install("acme-f", "same = acme_f_code:office_hours")
    with pytest.raises(CannotSchedule, match=r"of several distributions: acme-e 1\.2, acme-f 1\.2"):
        workflows(["same"], [])


def test_a_plugin_is_for_every_service_or_for_those_that_name_it(install: Install) -> None:
    install("acme-g", "g = acme_g_code:office_hours")
    with pytest.raises(CannotSchedule, match="plugin 'g' is named twice in the settings"):
        workflows(["g"], ["g"])


def test_plugins_are_settings_in_a_list_or_in_the_environment_with_commas(tmp_path: Path) -> None:
    file = tmp_path / NODE_FILE
    file.write_text("sp_id: top\nplugins: [a, b]\n")
    assert load_process(file, {}).plugins == ("a", "b")
    assert load_process(file, {"SPBROKER_MANAGER_PLUGINS": "c, d"}).manager_plugins == ("c", "d")
    with pytest.raises(DocumentRefused, match="plugins"):
        load_process(file, {"SPBROKER_PLUGINS": "a b"})


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A founded node, whose settings a test changes."""
    directory = tmp_path / "node"
    asyncio.run(found_at(directory, "top"))
    return directory


def test_a_node_that_is_to_load_what_is_missing_does_not_start(node: Path) -> None:
    settings = node / NODE_FILE
    settings.write_text(settings.read_text() + "\nplugins: [away]\n")
    with pytest.raises(CannotServe, match=r"node\.yml: plugin 'away' is not installed"):
        asyncio.run(run(node, asyncio.Event()))


def test_the_command_lists_what_is_registered_where_and_by_whom(
    node: Path, install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    install("acme-h", "office = acme_h_code:office_hours")
    settings = node / NODE_FILE
    settings.write_text(settings.read_text() + "\nplugins: [office]\n")
    assert command(["tasks", str(node)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "acme-h" in line)
    assert "before hold" in line
    assert "plugin office (acme-h 1.2)" in line
    assert "Nothing is held out of hours." in line
    assert command(["tasks"]) == 0
    shown = capsys.readouterr().out
    assert "office_hours" not in shown
    assert "place_by_manager" in shown
    settings.write_text(settings.read_text().replace("[office]", "[away]"))
    assert command(["tasks", str(node)]) == 2
    assert "plugin 'away' is not installed" in capsys.readouterr().err
