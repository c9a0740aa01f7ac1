"""The command line without a node: what it loads, its table of exit codes, and what it draws."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from address_planner.labels import LabelSet
from broker.accounts.admin_port import Applied, Change, ChangeAction, FieldDiff
from broker.cli.exit_codes import MEANING, Exit
from broker.cli.failures import Status, fault_of
from broker.cli.following import Lines, LiveTree, later
from broker.cli.loader import COMMANDS, module_of, offered
from broker.cli.profiles import Profile
from broker.cli.rendering import (
    addressing_table,
    bandwidth_text,
    changes_table,
    delay_text,
    price_text,
    reasons_tree,
    service_tree,
)
from service_model.money import FREE, Price
from service_model.outcomes import (
    AddressingChoice,
    Event,
    LinkChoice,
    Nogood,
    Reason,
    ReasonCode,
    SegmentStatus,
    ServiceState,
    ServiceStatus,
)
from service_model.path_headers import PathHeader
from service_model.spec import End, LinkAddressing, ServiceSpec, VirtualLink

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("grpc", "pydantic", "sqlalchemy", "yaml", "rich.console", "google.protobuf", "cryptography", "numpy")
PROBE = f"""
import sys
from broker.cli.loader import run
code = run(sys.argv[1:])
print(code, sorted(set({HEAVY!r}) & set(sys.modules)))
"""


def probed(*arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    return ran.stdout


def drawn(part: RenderableType, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(part)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


# Loading --------------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    out = probed("--help")
    assert out.splitlines()[-1] == "0 []"
    for name, entry in offered().items():
        assert f"  {name} " in out
        assert entry.help in out
    for code, meaning in MEANING.items():
        assert f"  {code.value} " in out
        assert meaning in out


def test_a_mistyped_command_is_wrong_usage_and_loads_nothing_of_the_broker() -> None:
    assert probed("servces").splitlines()[-1] in ("2 []", "2 ['pydantic']")  # typer's own parser may use it


def test_what_is_offered_is_there_and_what_is_not_there_is_not_offered() -> None:
    assert {name for name in COMMANDS if find_spec(module_of(name))} == set(offered())
    assert {"login", "notes", "order", "services", "show", "watch", "terminate", "apply", "export"} <= set(offered())


def test_the_exit_codes_are_documented() -> None:
    rows = [line.split("|")[1:3] for line in (ROOT / "docs/cli.md").read_text().splitlines() if line.startswith("| ")]
    documented = {int(code): meaning.strip() for code, meaning in rows if code.strip().isdecimal()}
    assert documented == {code.value: meaning for code, meaning in MEANING.items()}


# Failures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "exit_code", "says"),
    [
        (Status("UNAUTHENTICATED", "expired", "TOKEN_EXPIRED"), Exit.NOT_ALLOWED, "does not let you in: expired"),
        (Status("PERMISSION_DENIED", "this needs the role 'operator'"), Exit.NOT_ALLOWED, "role 'operator'"),
        (Status("NOT_FOUND", "no such account"), Exit.NOT_FOUND, "no such account"),
        (Status("INVALID_ARGUMENT", "x", "INVALID_REQUEST", (("ref", "too long"),)), Exit.WRONG_INPUT, "ref: too long"),
        (Status("RESOURCE_EXHAUSTED", "too many calls"), Exit.REFUSED, "too many calls"),
        (Status("RESOURCE_EXHAUSTED", "x", "OVERLOADED", (), 2.0), Exit.UNREACHABLE, "nothing was done"),
        (Status("UNIMPLEMENTED", "?"), Exit.REFUSED, "does not offer this"),
        (Status("UNAVAILABLE", "shutting down", "SHUTTING_DOWN"), Exit.UNREACHABLE, "sp:1: shutting down"),
        (Status("UNAVAILABLE", "x: Peer name a is not in peer certificate"), Exit.UNREACHABLE, "for another name"),
        (Status("UNAVAILABLE", "SSL: WRONG_VERSION_NUMBER: y"), Exit.UNREACHABLE, "does not speak TLS"),
        (Status("DEADLINE_EXCEEDED", ""), Exit.UNREACHABLE, "did not answer in time"),
        (Status("INTERNAL", "incident 7"), Exit.UNEXPECTED, "incident 7"),
    ],
)
def test_each_failure_of_a_call_has_one_message_and_one_code(status: Status, exit_code: Exit, says: str) -> None:
    fault = fault_of(status, "sp:1", "spbroker login")
    assert fault.exit_code is exit_code
    assert says in fault.message


def test_a_token_is_not_shown_and_expires_at_its_instant() -> None:
    profile = Profile(endpoint="sp:1", account="ann", ca="", token="secret", expires="2026-05-01T12:00:00+00:00")
    assert "secret" not in repr(profile)
    assert profile.has_expired(datetime(2026, 5, 1, 12, tzinfo=UTC))
    assert not profile.has_expired(datetime(2026, 5, 1, 11, 59, 59, tzinfo=UTC))


# Figures and drawings -------------------------------------------------------------------------------------------------


def test_figures_read_as_people_write_them() -> None:
    prices = (FREE, Price(once=Decimal(5)), Price(once=Decimal("12.5"), per_hour=Decimal("0.0375"), currency="CHF"))
    assert [price_text(p) for p in prices] == ["free", "5.00 EUR", "12.50 + 0.0375/h CHF"]
    assert [delay_text(d) for d in (0, 999, 4200, 1_500_000)] == ["0 µs", "999 µs", "4.2 ms", "1.5 s"]
    assert [bandwidth_text(b) for b in (0, 50_000_000, 10**10)] == ["0 bit/s", "50 Mbit/s", "10 Gbit/s"]


INNER = Reason(code=ReasonCode.LABEL_TAKEN, message="vlan 7 is taken", subject="a",
               nogood=Nogood(end="a", acceptable_labels=LabelSet.parse("8-9")), incident_id="9c")  # fmt: skip
OUTER = Reason(code=ReasonCode.SEGMENT_REFUSED, message="refused", segment="west", causes=(INNER,), retryable=True)
STATUS = ServiceStatus(
    ref="web-1", version=1, state=ServiceState.ACTIVATING,
    segments=(
        SegmentStatus(alias="east", state=ServiceState.ACTIVE, functions=("fw",), place="NLAMS"),
        SegmentStatus(alias="w", state=ServiceState.FAILED, reasons=(OUTER,),
                      segments=(SegmentStatus(alias="metro", state=ServiceState.FAILED),)),
    ),
)  # fmt: skip


def test_reasons_nest_as_orders_do_and_say_what_would_be_accepted() -> None:
    assert drawn(reasons_tree((OUTER,))).splitlines() == [
        "SEGMENT_REFUSED  west  refused  may succeed later",
        "└── LABEL_TAKEN  a  vlan 7 is taken",
        "    ├── acceptable labels at a: 8-9",
        "    └── incident 9c",
    ]


def test_a_service_is_a_tree_of_its_parts() -> None:
    assert drawn(service_tree(STATUS)).splitlines() == [
        "web-1  ◕ ACTIVATING",
        "├── east  ● ACTIVE  fw  NLAMS",
        "└── w     ✗ FAILED",
        "    ├── SEGMENT_REFUSED  west  refused  may succeed later",
        "    │   └── LABEL_TAKEN  a  vlan 7 is taken",
        "    │       ├── acceptable labels at a: 8-9",
        "    │       └── incident 9c",
        "    └── metro  ✗ FAILED",
    ]


def test_text_of_a_provider_is_shown_as_it_is_and_never_as_markup() -> None:
    assert "[bold]x[/bold]" in drawn(reasons_tree((replace(INNER, message="[bold]x[/bold]"),)))
    assert "\x1b" not in drawn(service_tree(replace(STATUS, ref="a\x1b[31mb")))


HEADER = PathHeader(id=4, index=254, back_index=253)


def test_addresses_are_shown_as_constrained_chosen_and_bound() -> None:
    link = LinkAddressing(hosts=(ip_network("10.0.0.0/31"),))
    spec = ServiceSpec(
        name="s",
        ends=(
            End(id="a", sap="x", labels=LabelSet.parse("5-9"), suggested_label=7, path_header=HEADER),
            End(id="b", sap="y"),
        ),
        links=(VirtualLink(id="l", points=("a", "b"), addressing=link),),
    )
    chosen = LinkChoice(link="l", prefix=ip_network("10.0.0.0/30"), addresses={"a": ip_address("10.0.0.1")}, mtu=1450)
    choice = AddressingChoice(
        labels={"a": 8, "b": 0},
        links=(chosen,),
        reach={"b": (ip_network("10.7.0.0/24"),)},
        path_headers={"a": HEADER},
    )
    rows = [line.split("  ") for line in drawn(addressing_table(spec=spec, choice=choice)).splitlines()]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows if row[0][:1] != "─"] == [
        ["WHERE", "WHAT", "CONSTRAINED", "CHOSEN"],
        ["a", "label", "5-9 (suggested 7)", "8"],
        ["path header", "4/254 forth, 5/253 back", "4/254 forth, 5/253 back"],
        ["b", "label", "any", "untagged"],
        ["beyond it", "–", "10.7.0.0/24"],
        ["l", "prefix", "any", "10.0.0.0/30"],
        ["hosts", "10.0.0.0/31", "–"],
        ["a", "–", "10.0.0.1"],
        ["MTU", "–", "1450"],
    ]


def test_changes_name_each_field_and_what_stays_is_left_out() -> None:
    diffs = (FieldDiff(field="prefix", before='"a"', after='"b"'), FieldDiff(field="tags[0]", after='"new"'))
    same = Change(kind="pool", name="same", action=ChangeAction.UNCHANGED)
    changed = Change(kind="pool", name="east", action=ChangeAction.CHANGED, diffs=diffs)
    out = drawn(changes_table(Applied(changes=(same, changed), applied=True)))
    assert '~ changed   pool   east   prefix  "a" → "b"' in out
    assert 'tags[0]  "new"' in out
    assert "same" not in out
    assert drawn(changes_table(Applied(changes=(same,), applied=True))) == "nothing differs (1 documents)"


def test_without_a_terminal_each_change_is_one_line_and_is_said_once() -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, width=40), now=lambda: datetime(2026, 5, 1, tzinfo=UTC))
    lines.update(STATUS)
    lines.update(replace(STATUS, delay_us=5))
    lines.update(replace(STATUS, state=ServiceState.FAILED, reasons=(OUTER,)))
    assert [line.split("  ", 1)[1] for line in out.getvalue().splitlines()] == [
        "web-1  ACTIVATING",
        "web-1/east  ACTIVE",
        "web-1/w  FAILED  refused",
        "web-1/w/metro  FAILED",
        "web-1  ACTIVATING → FAILED  refused",
    ]


@pytest.mark.parametrize("stays", [True, False])
def test_on_a_terminal_the_tree_is_drawn_in_place_and_stays_only_if_asked(stays: bool) -> None:
    out = io.StringIO()
    with LiveTree(Console(file=out, force_terminal=True, width=80, height=30), stays) as view:
        view.update(STATUS)
        view.update(replace(STATUS, state=ServiceState.ACTIVE))
    text = out.getvalue()
    assert text.count("web-1") >= 2
    after_the_last = text[text.rindex("metro") :]
    assert ("\x1b[2K" in after_the_last) is not stays


def test_what_is_older_than_what_was_shown_is_not_shown_after_it() -> None:
    def status(state: ServiceState, second: int, ref: str = "r") -> ServiceStatus:
        return ServiceStatus(
            ref=ref, version=1, state=state, update_time=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
        )

    known = status(ServiceState.TERMINATING, 2)
    stream = [
        status(ServiceState.ACTIVE, 1),
        known,
        status(ServiceState.ACTIVE, 3, "another"),
        status(ServiceState.TERMINATED, 3),
    ]
    told = later(known, [Event(token="t", status=s) for s in stream] + [Event(token="t")])
    assert [s.state for s in told] == [ServiceState.TERMINATED]
