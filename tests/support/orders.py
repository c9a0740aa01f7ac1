"""An order of a stack's customer, brought as far as a test needs it."""

from __future__ import annotations

from lower_sp_clients.supplier import Context
from service_model.outcomes import AddressingChoice, Committed, Reserved, ServiceState
from service_model.spec import ServiceSpec
from tests.support.sites import AURORA_CHAIN
from tests.support.stack import Stack

CTX = Context()
CONFIRM = AddressingChoice()


async def reserved(stack: Stack, spec: ServiceSpec = AURORA_CHAIN, ref: str = "r", version: int = 1) -> Reserved:
    answer = await stack.customer().reserve(ref, version, spec, CTX)
    assert isinstance(answer, Reserved), answer
    return answer


async def active(stack: Stack, spec: ServiceSpec = AURORA_CHAIN, ref: str = "r") -> Reserved:
    answer = await reserved(stack, spec, ref)
    assert await stack.customer().commit(ref, 1, CONFIRM, CTX) == Committed(ref=ref, version=1)
    await stack.until(lambda: stack.state(ref) is ServiceState.ACTIVE)
    return answer
