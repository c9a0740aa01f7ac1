"""What the command line and the demonstration show, as rich renderables; nothing here prints.

service_tree(status)                    a service and its parts, as a tree with the colour of each state
services_table(statuses)                services, one a line
service_facts(status)                   price, delay, times, tags of one service
qualification_line(name, qualification)   that something can be delivered, and its price
quote_tree(quote, term_hours)           a firm price and its parts
addressing_table(status)                labels and prefixes: chosen and bound;
addressing_table(spec=, choice=, binding=)   with the constraint too
decisions_table(status)                 what its managers decided
reasons_tree(reasons)                   why something was refused, nested as orders nest
note_tables(note)                       a capability note
changes_table(applied)                  what an apply changed or would change
inventory_tables(inventory)             what is allocated, held, built, and what disagrees
discrepancies_table(discrepancies)      what disagrees
calendar_table(resources)               what own domains have given out, over time
pools_tables(pools, owners)             pools of addresses and labels: how much is used, and by whom
stuck_view(segments)                    what is over and does not end, and what to do
suppliers_table(suppliers)              feeds of notes, and promises kept
planning_view(planning, term_hours)     ranked plans, and what lost against them
state_text(state)                       one state in its colour
"""

from __future__ import annotations

from broker.cli.rendering.administration import (
    calendar_table,
    changes_table,
    discrepancies_table,
    inventory_tables,
    pools_tables,
    suppliers_table,
)
from broker.cli.rendering.figures import bandwidth_text, delay_text, duration_text, price_text
from broker.cli.rendering.note import note_tables
from broker.cli.rendering.offer import qualification_line, quote_tree
from broker.cli.rendering.planning import planning_view
from broker.cli.rendering.reasons import reasons_tree
from broker.cli.rendering.service import (
    addressing_table,
    decisions_table,
    service_facts,
    service_tree,
    services_table,
)
from broker.cli.rendering.states import state_text
from broker.cli.rendering.stuck import stuck_view

__all__ = [
    "addressing_table",
    "bandwidth_text",
    "calendar_table",
    "changes_table",
    "decisions_table",
    "delay_text",
    "discrepancies_table",
    "duration_text",
    "inventory_tables",
    "note_tables",
    "planning_view",
    "pools_tables",
    "price_text",
    "qualification_line",
    "quote_tree",
    "reasons_tree",
    "service_facts",
    "service_tree",
    "services_table",
    "state_text",
    "stuck_view",
    "suppliers_table",
]
