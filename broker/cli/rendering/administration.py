"""What an operator is shown: changes, the inventory, pools, suppliers. All have the fields of `broker.accounts.admin_port`."""

from __future__ import annotations

from collections import Counter

from rich.console import Group
from rich.table import Table

from broker.accounts.admin_port import (
    AllocationState,
    Applied,
    ChangeAction,
    Discrepancy,
    FeedState,
    FieldDiff,
    Inventory,
    PoolUse,
    ResourceUse,
    SupplierStatus,
)
from broker.cli.rendering.figures import NONE, bandwidth_text, duration_text, table, time_text
from broker.cli.rendering.text import Text

_ACTION = {
    ChangeAction.CREATED: ("+ new", "green"),
    ChangeAction.CHANGED: ("~ changed", "yellow"),
    ChangeAction.REMOVED: ("- removed", "red"),
    ChangeAction.UNCHANGED: ("= as it was", "dim"),
}


_TAKEN = {AllocationState.HELD: "cyan", AllocationState.COMMITTED: "green"}
_IN_POOL = (AllocationState.HELD, AllocationState.COMMITTED, AllocationState.QUARANTINED)


def changes_table(applied: Applied) -> Table | Text:
    """Each object that changed, with the fields that differ; one line where nothing does."""
    changed = [c for c in applied.changes if c.action is not ChangeAction.UNCHANGED or c.problems or c.notices]
    if not changed:
        return Text(f"nothing differs ({len(applied.changes)} documents)", style="dim")
    made = table("", "WHAT", "KIND", "NAME", "FIELDS")
    for change in changed:
        sign, style = _ACTION.get(change.action, ("?", "dim"))
        fields = _fields(change.diffs)
        for notice in change.notices:
            fields.append("\n" if fields else "").append(notice, style="yellow")
        made.add_row(Text(sign, style=style), Text(change.kind), Text(change.name), fields)
    return made


def _fields(diffs: tuple[FieldDiff, ...]) -> Text:
    lines: list[Text] = []
    for diff in diffs:
        line = Text(diff.field)
        if diff.before and diff.after:
            line.append(f"  {_cut(diff.before)}", style="red").append(" → ", style="dim").append(
                _cut(diff.after), "green"
            )
        elif diff.after:
            line.append(f"  {_cut(diff.after)}", style="green")
        else:
            line.append(f"  {_cut(diff.before)}", style="red strike")
        lines.append(line)
    whole = Text()
    for line in lines:
        whole.append("\n" if whole else "").append_text(line)
    return whole


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def inventory_tables(inventory: Inventory) -> Group:
    parts: list[Table | Text] = []
    if inventory.allocations:
        made = table("Allocated", "POOL", "VALUE", "STATE", "OWNER")
        for item in inventory.allocations:
            state = Text(item.state.short, style=_TAKEN.get(item.state, "dim"))
            made.add_row(Text(item.pool), Text(item.value), state, Text(item.owner, style="dim"))
        parts += [made, Text()]
    if inventory.holds:
        made = table("Held", "ACCOUNT", "REF", "VERSION", "FOR", right=("VERSION", "FOR"))
        for hold in inventory.holds:
            cells = (hold.account, hold.ref, str(hold.version), duration_text(hold.remaining_s))
            made.add_row(*map(Text, cells))
        parts += [made, Text()]
    if inventory.items:
        made = table("Built", "DOMAIN", "KIND", "NAME", "SEGMENT")
        for found in inventory.items:
            tag = Text(found.segment, style="dim") if found.segment else Text("untracked", style="yellow")
            made.add_row(Text(found.domain), Text(found.kind), Text(found.name), tag)
        parts += [made, Text()]
    parts.append(discrepancies_table(inventory.discrepancies))
    if inventory.read_only:
        parts += [Text(), Text(f"{inventory.read_only} (spbroker accept)", style="red")]
    return Group(*parts)


def discrepancies_table(discrepancies: tuple[Discrepancy, ...]) -> Table | Text:
    if not discrepancies:
        return Text("records and infrastructure agree", style="green")
    made = table("Disagreements", "WHERE", "SUBJECT", "WHAT IS WRONG")
    for wrong in discrepancies:
        made.add_row(Text(wrong.where), Text(wrong.subject), Text(wrong.message, style="yellow"))
    return made


def pools_tables(pools: tuple[PoolUse, ...], owners: bool) -> Group | Text:
    """A line for each pool; with `owners` what is taken, and for whose service."""
    if not pools:
        return Text("there are no pools, and no domains of our own", style="dim")
    made = table(
        "", "POOL", "OF", "USED", "HELD", "LIVE", "RESTING", "FREE", "LARGEST FREE", "BROKEN UP",
        right=("USED", "HELD", "LIVE", "RESTING", "FREE", "BROKEN UP"),
    )  # fmt: skip
    for pool in pools:
        size, free = int(pool.size), int(pool.free)
        used = (size - free) / size if size else 0.0
        states = Counter(entry.state for entry in pool.entries)
        cells = (
            Text(pool.name).append(" draining" if pool.draining else "", style="yellow"),
            Text(_cut(pool.extent, 30)),
            Text(f"{used:.0%}", style="red" if not free else "yellow" if used > 0.9 else ""),
            *(Text(str(states[state])) if states[state] else NONE for state in _IN_POOL),
            Text(str(free) if free < 10**9 else f"{free:.2e}"),
            Text(_cut(pool.largest_free, 20)) if pool.largest_free else NONE,
            Text(f"{pool.fragmentation:.0%}"),
        )
        made.add_row(*cells)
    parts: list[Table | Text] = [made]
    for pool in pools if owners else ():
        if not pool.entries:
            continue
        taken = table(pool.name, "VALUE", "STATE", "ACCOUNT", "REF", "FREE AGAIN")
        for entry in pool.entries:
            taken.add_row(
                Text(entry.value),
                Text(entry.state.short, style=_TAKEN.get(entry.state, "dim")).append(
                    " outside" if entry.outside else "", style="yellow"
                ),
                Text(entry.account) if entry.account else NONE,
                Text(entry.ref) if entry.ref else NONE,
                Text(time_text(entry.until)) if entry.until else NONE,
            )
        parts += [Text(), taken]
    return Group(*parts)


def calendar_table(resources: tuple[ResourceUse, ...]) -> Table | Text:
    """Of each resource of own domains what is taken and what is free, from when."""
    if not resources:
        return Text("nothing is taken of our own domains, now or later", style="dim")
    made = table("", "RESOURCE", "FROM", "TAKEN", "FREE", right=("TAKEN", "FREE"))
    for use in resources:
        for n, level in enumerate(use.levels):
            free = use.size - level.taken
            made.add_row(
                Text(use.name if n == 0 else ""),
                Text("now" if n == 0 else time_text(level.since)),
                Text(_amount(level.taken, use.host)) if level.taken else NONE,
                Text(_amount(free, use.host), style="red" if free <= 0 else ""),
            )
    return made


def _amount(amount: int, host: bool) -> str:
    return str(amount) if host else bandwidth_text(amount) if amount >= 0 else f"-{bandwidth_text(-amount)}"


def suppliers_table(suppliers: tuple[SupplierStatus, ...]) -> Table | Text:
    if not suppliers:
        return Text("there are no suppliers", style="dim")
    style = {FeedState.LIVE: "green", FeedState.CONNECTING: "cyan", FeedState.LAPSED: "red"}
    made = table(
        "", "SUPPLIER", "SP", "NOTES", "EDITION", "TAKEN", "EXPIRES", "KEPT", "LAST REFUSED", right=("EDITION",)
    )
    for supplier in suppliers:
        state = Text(supplier.feed.short, style=style.get(supplier.feed, "yellow"))
        if not supplier.usable:
            state.append(" not in use", style="dim")
        asked = supplier.kept + supplier.broken
        kept = Text(f"{supplier.rate:.0%} of {asked}", style="" if supplier.rate > 0.9 else "yellow") if asked else NONE
        made.add_row(
            Text(supplier.alias),
            Text(supplier.sp_id),
            state,
            Text(str(supplier.edition)) if supplier.edition else NONE,
            Text(time_text(supplier.taken)) if supplier.taken else NONE,
            Text(time_text(supplier.expires)) if supplier.expires else NONE,
            kept,
            Text(supplier.refusal, style="yellow") if supplier.refusal else NONE,
        )
    return made
