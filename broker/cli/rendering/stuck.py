"""What is over and does not end. Has the fields of `broker.accounts.admin_port.StuckSegment`."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group
from rich.table import Table

from broker.accounts.admin_port import StuckSegment
from broker.cli.rendering.figures import NONE, table, time_text
from broker.cli.rendering.text import Text


def stuck_view(segments: Iterable[StuckSegment]) -> Group | Text:
    """A line for each segment, then what to do about each."""
    stuck = tuple(segments)
    if not stuck:
        return Text("nothing is stuck", style="green")
    made = table("", "ACCOUNT", "REF", "SEGMENT", "SUPPLIER", "SINCE", "LAST ERROR")
    for one in stuck:
        made.add_row(
            Text(one.account),
            Text(one.ref, style="bold"),
            Text(one.segment),
            Text(one.alias),
            Text(time_text(one.since)) if one.since else NONE,
            Text(one.last_error, style="yellow") if one.last_error else NONE,
        )
    parts: list[Table | Text] = [made]
    for one in stuck:
        where = "own domain" if one.own else one.supplier or "not administered any more"
        head = Text(f"\n{one.ref} {one.segment}", style="bold").append(
            f"  service {one.service}, at {one.alias} ({where}) as {one.supplier_ref}", style="dim"
        )
        again = f"asked again at {time_text(one.next_attempt)}" if one.next_attempt else "asked again now"
        parts += [head, Text(f"  {again}; still holds {_held(one)}"), Text(f"  {one.advice}")]
        if not one.own:
            parts.append(Text(f"  spbroker abandon {one.service} {one.segment} --reason TEXT"))
    return Group(*parts)


def _held(one: StuckSegment) -> str:
    held = [f"label {label or 'untagged'} at {end}" for end, label in sorted(one.labels.items())]
    held += [f"block {one.block}"] if one.block else []
    return ", ".join(held) or "nothing that is known here"
