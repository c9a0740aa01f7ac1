"""`spbroker quote`: a firm price for a service, to order it by."""

from __future__ import annotations

import shlex

from broker.cli.connection import connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.order_file import with_lines
from broker.cli.order_options import Order, takes_order
from broker.cli.output import print_json, say, show
from broker.cli.rendering import quote_tree
from broker.cli.session_choice import As, AsJson
from lower_sp_clients import wire
from service_model.quotes import QUALIFICATION, QUOTE
from spbroker.v1 import broker_service_pb2 as pb


@takes_order
def command(
    order: Order,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Ask for a firm price. Nothing is held: the price stands for a while, what it is for may be gone.

    Order by it with `spbroker order --quote ID` and the same file. Names, tags, labels and prefixes may differ.
    """
    with connected(as_) as connection:
        spec = order.spec(connection)
        try:
            answer = connection.call("QuoteService", pb.QuoteServiceRequest(spec=wire.SPEC.encode(spec)))
        except Fault as fault:
            raise with_lines(fault, order.file) from None
    if answer.WhichOneof("outcome") == "quote":
        quote = wire.QUOTE.decode(answer.quote)
        if as_json:
            print_json(QUOTE.dump_python(quote, mode="json"))
            return
        show(quote_tree(quote, spec.term_hours))
        line = ["spbroker", "order", *order.words, "--quote", quote.id]
        say(f"order it: {shlex.join([*line, *(['--as', as_] if as_ else [])])}")
        return
    if answer.WhichOneof("outcome") != "unqualified":
        raise Fault(Exit.UNEXPECTED, "the provider gave an answer that this release does not know")
    unqualified = wire.QUALIFICATION.decode(answer.unqualified)
    if as_json:
        print_json(QUALIFICATION.dump_python(unqualified, mode="json"))
    raise Fault(Exit.REFUSED, f"the provider gives no price for {spec.name}", reasons=unqualified.reasons)
