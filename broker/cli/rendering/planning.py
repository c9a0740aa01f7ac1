"""How a service would be made: ranked plans as trees of parts, and what lost against them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from rich.tree import Tree

from broker.accounts.planned import PlannedPart, PlannedService, Preview, RejectedService
from broker.cli.rendering.figures import delay_text, price_text
from broker.cli.rendering.text import Text


def planning_view(planning: Preview, hours: int) -> Iterator[Tree]:
    """The plans by rank, each with what it costs more than the first; then what would be better but for a constraint, or
    nearest where nothing can be planned."""
    first = planning.plans[0] if planning.plans else None
    for rank, plan in enumerate(planning.plans, 1):
        head = Text(f"{rank}", style="bold green" if rank == 1 else "bold")
        head.append("  ").append_text(_sums(plan, hours))
        if first is not None and rank > 1:
            head.append(f"  loses: {_difference(plan, first, hours)}", style="yellow")
        yield _tree(head, plan)
    for lost in planning.rejected:
        yield _tree(_rejected("✗", lost, hours, first), lost.plan)
    for near in planning.nearest:
        yield _tree(_rejected("nearest", near, hours, None), near.plan)


def _sums(plan: PlannedService, hours: int) -> Text:
    total = f"{plan.price.over(hours):.2f} {plan.price.currency} over {hours} h"
    text = Text(f"{price_text(plan.price)}  {total}  {delay_text(plan.delay_us)}")
    return text.append(f"  cost {price_text(plan.cost)}", style="dim") if plan.cost != plan.price else text


def _rejected(sign: str, lost: RejectedService, hours: int, first: PlannedService | None) -> Text:
    text = Text(sign, style="bold red")
    text.append("  ").append_text(_sums(lost.plan, hours))
    less = f", {_difference(lost.plan, first, hours)}" if first is not None else ""
    return text.append(f"  breaks {', '.join(code.short for code in lost.breaks)}{less}", style="red")


def _difference(plan: PlannedService, first: PlannedService, hours: int) -> str:
    """Against the best plan: first what it costs, then what it delays."""
    money, time = plan.price.over(hours) - first.price.over(hours), plan.delay_us - first.delay_us
    if money:
        return f"{abs(money):.2f} {plan.price.currency} {_more(money)}"
    return f"{delay_text(abs(time))} {_more(time)}" if time else "as good, found later"


def _more(difference: Decimal | int) -> str:
    return "more" if difference > 0 else "less"


def _tree(head: Text, plan: PlannedService) -> Tree:
    """The parts, their columns below each other; the functions of each under it."""
    tree = Tree(head, guide_style="bright_black")
    who = [f"{part.alias} ({part.supplier})" for part in plan.parts]
    where = [" → ".join(part.saps) for part in plan.parts]
    wide, broad = max(map(len, who), default=0), max(map(len, where), default=0)
    for part, name, saps in zip(plan.parts, who, where, strict=True):
        line = Text(name.ljust(wide), style="bold").append(f"  {saps.ljust(broad)}", style="default")
        line.append(f"  {price_text(part.cost)}", style="default")
        node = tree.add(line.append(f"  {delay_text(part.delay_us)}" if part.delay_us else "", style="dim"))
        _add_functions(node, part)
    if plan.interconnects:
        tree.add(Text(f"over {', '.join(plan.interconnects)}", style="dim"))
    return tree


def _add_functions(node: Tree, part: PlannedPart) -> None:
    for placed in part.functions:
        node.add(Text(placed.function).append(f"  {placed.place}", style="dim"))
