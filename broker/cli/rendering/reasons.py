"""Why something was refused or failed, as a tree that nests as orders do."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group
from rich.tree import Tree

from broker.cli.rendering.figures import delay_text, price_text
from broker.cli.rendering.text import Text
from service_model.outcomes import Nogood, Reason


def reasons_tree(reasons: Iterable[Reason]) -> Group:
    """Each reason with its code, subject and message; what would be accepted; the reasons of the part below it."""
    return Group(*(_tree(reason) for reason in reasons))


def add_reasons(tree: Tree, reasons: Iterable[Reason]) -> None:
    """The same, below a node of another tree."""
    for reason in reasons:
        _grow(tree.add(_line(reason)), reason)


def _tree(reason: Reason) -> Tree:
    tree = Tree(_line(reason), guide_style="dim")
    _grow(tree, reason)
    return tree


def _grow(node: Tree, reason: Reason) -> None:
    if reason.nogood is not None and (accepted := _accepted(reason.nogood)):
        node.add(Text(accepted, style="dim"))
    if reason.incident_id:
        node.add(Text(f"incident {reason.incident_id}", style="dim"))
    add_reasons(node, reason.causes)


def _line(reason: Reason) -> Text:
    line = Text(reason.code.short, style="red")
    if reason.segment:
        line.append(f"  {reason.segment}", style="bold default")
    if reason.subject:
        line.append(f"  {reason.subject}", style="cyan")
    line.append(f"  {reason.message}", style="default")
    if reason.retryable:
        line.append("  may succeed later", style="dim")
    return line


def _accepted(nogood: Nogood) -> str:
    parts = []
    if nogood.acceptable_labels is not None:
        where = f" at {nogood.end}" if nogood.end else ""
        parts.append(f"acceptable labels{where}: {nogood.acceptable_labels or 'none'}")
    if nogood.needed_addresses is not None:
        parts.append(f"needs {nogood.needed_addresses} addresses")
    if (nearest := nogood.alternative) is not None:
        without = ", ".join(code.short for code in nearest.gives)
        parts.append(f"nearest without {without}: {price_text(nearest.price)}, {delay_text(nearest.delay_us)}")
    return "; ".join(parts)
