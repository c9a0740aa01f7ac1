"""What is offered before anything is ordered: a qualification, a quote."""

from __future__ import annotations

from rich.tree import Tree

from broker.cli.rendering.figures import delay_text, duration_text, price_text
from broker.cli.rendering.text import Text
from service_model.quotes import Qualification, Quote


def qualification_line(name: str, qualification: Qualification) -> Text:
    """A yes, with what it would cost."""
    line = Text(name, style="bold").append("  ").append("✓ can be delivered", style="green")
    line.append(f"  {price_text(qualification.price)}", style="default")
    return line.append(f"  {delay_text(qualification.delay_us)}", style="dim")


def quote_tree(quote: Quote, term_hours: int) -> Tree:
    """A quote and its parts, with the total over the term."""
    total = f"{quote.price.over(term_hours):.2f} {quote.price.currency} over {term_hours} h"
    head = Text(price_text(quote.price), style="bold").append(
        f"  {total}  {delay_text(quote.delay_us)}", style="default"
    )
    tree = Tree(
        head.append(f"  stands for {duration_text(quote.remaining_s)}", style="dim"), guide_style="bright_black"
    )
    width = max((len(part.alias) for part in quote.segments), default=0)
    for part in quote.segments:
        line = Text(part.alias.ljust(width)).append(f"  {price_text(part.price)}")
        tree.add(line.append(f"  {delay_text(part.delay_us)}", style="dim"))
    tree.add(Text(f"quote {quote.id}", style="dim"))
    return tree
