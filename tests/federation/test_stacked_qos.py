"""An order of a class of service: its bounds are those of the class as it was, and go down in parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from service_model.outcomes import ReasonCode, Refused, Reserved
from service_model.qos import QosClass
from service_model.quotes import Quote
from tests.support.orders import CTX, reserved
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

GOLD = QosClass(name="gold", max_delay_us=6000, min_availability=0.9)
TOP = Sp("a", (Site("west", ("firewall",)), Sp("b", (Site("east", ("meter",)),))), (POOL,))


async def test_the_bounds_of_the_class_are_kept_at_every_level(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        spec = chain("west.uni", "b.east.uni", "firewall", "meter", qos="gold")
        refused = await stack.customer().reserve("r0", 1, spec, CTX)
        assert isinstance(refused, Refused)
        assert (refused.reasons[0].code, refused.reasons[0].subject) == (ReasonCode.QOS, "qos")
        assert refused.reasons[0].message == "there is no class of service 'gold'; there are: none"
        top = stack.nodes["a"]
        top.terms = replace(top.terms, classes=(GOLD,))
        await reserved(stack, spec)
        held = [hold.spec for vim in stack.vims() for hold in vim.holds() if hold.spec is not None]
        assert sum(part.max_delay_us or 0 for part in held) <= 6000
        assert all(part.min_availability is not None and part.qos is None for part in held)
        assert (await stack.customer().status("r", CTX)).delay_us <= 6000, "8000 is the cheapest"
        top.terms = replace(top.terms, classes=(replace(GOLD, max_delay_us=1),))
        assert (await reserved(stack, spec)).ref == "r", "what was held is of the class as it was"


async def test_a_quote_stands_and_its_order_keeps_the_class_as_it_is_when_it_comes(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        top, spec = stack.nodes["a"], chain("west.uni", "b.east.uni", "firewall", "meter", qos="gold")
        unknown = await stack.customer().qualify(spec, CTX)
        assert [reason.code for reason in unknown.reasons] == [ReasonCode.QOS]
        top.terms = replace(top.terms, classes=(replace(GOLD, max_delay_us=7000),))
        quote = await stack.customer().quote(spec, CTX)
        assert isinstance(quote, Quote)
        top.terms = replace(top.terms, classes=(replace(GOLD, max_delay_us=9000),))
        assert isinstance(await stack.customer().reserve("r", 1, spec, replace(CTX, quote=quote.id)), Reserved)
        assert (await stack.customer().status("r", CTX)).delay_us <= 7000, "as quoted, since that keeps the class"
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()
        top.terms = replace(top.terms, classes=(replace(GOLD, max_delay_us=4000),))
        told = await stack.customer().reserve("r1", 1, spec, replace(CTX, quote=quote.id))
        assert isinstance(told, Refused), "what keeps the class now is dearer than what was quoted"
