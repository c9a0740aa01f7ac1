"""Brokers stacked on brokers: a label that one of them cannot use is chosen again, as long as any is left that both can use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from address_planner.classes import ENOUGH
from address_planner.labels import LabelSet
from lower_sp_clients.vim.local_vim import LocalVim
from service_model.outcomes import ReasonCode, Refused
from tests.support.orders import CTX, active, reserved
from tests.support.stack import POOL, Site, Sp, Stack, chain

HOLES = LabelSet(tuple((first, first + 9) for first in range(1, 2000, 20)))
"""Every other ten are others': four times as many are left as members of a class hear of."""
TOP = Sp(
    "a",
    (Site("s1", ("firewall",), labels=HOLES), Sp("b", (Site("s2", ("meter",), labels=HOLES),))),
    (POOL,),
)
ORDER = chain("s1.uni", "b.s2.uni", "firewall", "meter")


def narrowed(vim: LocalVim, labels: LabelSet) -> None:
    """Since its note was written only these are left at the interconnect."""
    saps = (sap if sap.id == "uni" else replace(sap, labels=labels) for sap in vim.domain.saps)
    vim.reconfigure(replace(vim.domain, saps=tuple(saps)))


async def test_what_is_free_is_told_in_part(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        await reserved(stack, ORDER)
        (found,) = stack.broker("a").orders()[0].classes
        assert ENOUGH <= len(found.labels) < len(HOLES) / 2


@pytest.mark.parametrize("label", range(101, 2000, 400))
async def test_the_last_label_that_both_can_use_is_found_whatever_was_told(label: int, tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        narrowed(stack.vim("s2"), LabelSet.of([label]))
        answer = await active(stack, ORDER)
        (order,) = stack.broker("a").orders()
        assert {value for s in order.segments for end, value in s.choice.labels.items() if end not in "ab"} == {label}  # type: ignore[union-attr]
        assert order.crankbacks == 0
        assert 1 <= order.rounds <= 2, "what is left is said, and what the other side took of it"
        assert answer.choice.labels
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_where_they_have_none_in_common_it_is_refused(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        narrowed(stack.vim("s2"), LabelSet(((12, 20),)))
        refused = await stack.customer().reserve("r", 1, ORDER, CTX)
        assert isinstance(refused, Refused)
        assert ReasonCode.LABELS_EXHAUSTED in {reason.code for reason in refused.reasons}
        await stack.ends_empty()
