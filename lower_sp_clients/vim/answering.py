"""What a domain answers from its records. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from lower_sp_clients.versions import LIVE
from lower_sp_clients.vim.holds import Hold, Refusal
from service_model.outcomes import (
    Bindings,
    NewerVersion,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
    Stack,
)
from service_model.spec import split_point

NOT_HELD = Reason(code=ReasonCode.NOT_HELD, message="this version is not held", subject="version")


def refusal(ref: str, version: int, digest: str, reasons: tuple[Reason, ...], held: Hold | None, now: datetime) -> Hold:
    """The record of a refusal: beside the older version where there is one that is held or live, which stays."""
    refusals = {**(held.refusals if held else {}), version: Refusal(digest=digest, reasons=reasons)}
    if held is not None and (held.state is ServiceState.RESERVED or held.state in LIVE):
        return replace(held, refusals=refusals)
    return Hold(
        ref=ref,
        version=version,
        state=ServiceState.REFUSED,
        created=held.created if held else now,
        updated=now,
        digest=digest,
        released_upto=held.released_upto if held else 0,
        reasons=reasons,
        refusals=refusals,
    )


def not_held(hold: Hold | None, version: int, now: datetime) -> Reason | None:
    """Why this version cannot be extended or committed; None: it is held."""
    if hold is None or hold.version != version:
        return NOT_HELD
    if hold.state is ServiceState.RESERVED and hold.expires is not None and hold.expires > now:
        return None
    if hold.state in (ServiceState.RESERVED, ServiceState.EXPIRED):
        return Reason(code=ReasonCode.HOLD_EXPIRED, message="the hold has expired", subject="version")
    return NOT_HELD


def unbound(hold: Hold | None, bindings: Bindings) -> Reason | None:
    """The bindings must confirm every label, path header, prefix and port address that was chosen."""
    if hold is None or hold.choice is None:
        return NOT_HELD
    for end, label in hold.choice.labels.items():
        if bindings.labels.get(end) != label:
            message = f"end {end!r}: bound to label {bindings.labels.get(end)}, held is {label}"
            return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=message, subject=end)
    for end, header in hold.choice.path_headers.items():
        if bindings.path_headers.get(end) != header:
            message = f"end {end!r}: bound to path header {bindings.path_headers.get(end)}, held is {header}"
            return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=message, subject=end)
    for link in hold.choice.links:
        told = bindings.link(link.link)
        if link.macs and (told is None or told.macs != link.macs):
            message = f"link {link.link!r}: bound to other hardware addresses than are held"
            return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=message, subject=link.link)
        for stack in link.stacks:
            assert stack.prefix is not None
            bound = told.of(stack.prefix.version) if told else Stack()
            if bound.prefix != stack.prefix:
                message = f"link {link.link!r}: bound to prefix {bound.prefix}, held is {stack.prefix}"
                return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=message, subject=link.link)
            for point, address in stack.addresses.items():
                if split_point(point)[1] and bound.addresses.get(point) != address:
                    message = f"port {point!r}: bound to another address than {address}, which is held"
                    return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=message, subject=link.link)
    return None


def answer(hold: Hold, version: int, now: datetime) -> Reserved | Refused:
    """The recorded answer to the reservation of `version`."""
    if version in hold.refusals:
        return Refused(ref=hold.ref, version=version, reasons=hold.refusals[version].reasons)
    hold = hold.of(version) or hold
    if hold.choice is None:
        return Refused(ref=hold.ref, version=version, reasons=hold.reasons)
    return Reserved(
        ref=hold.ref,
        version=hold.version,
        choice=hold.choice,
        price=hold.price,
        remaining_s=_remaining(hold, now),
        delay_us=hold.delay_us,
        path_delays_us=hold.path_delays_us,
    )


def _remaining(hold: Hold, now: datetime) -> float:
    return max(0.0, (hold.expires - now).total_seconds()) if hold.expires else 0.0


def _newer(hold: Hold, now: datetime) -> NewerVersion:
    return NewerVersion(
        version=hold.version,
        state=hold.state,
        price=hold.price,
        delay_us=hold.delay_us,
        remaining_s=_remaining(hold, now),
        reasons=hold.reasons,
        start_time=hold.spec.start_time if hold.spec else None,
        end_time=hold.spec.end_time if hold.spec else None,
    )


def status(hold: Hold, now: datetime) -> ServiceStatus:
    """The hold as its owner sees it."""
    return ServiceStatus(
        ref=hold.ref,
        version=hold.version,
        state=hold.state,
        name=hold.spec.name if hold.spec else "",
        price=hold.price,
        delay_us=hold.delay_us,
        choice=hold.choice,
        binding=hold.bindings,
        remaining_s=_remaining(hold, now),
        reasons=hold.reasons,
        create_time=hold.created,
        update_time=hold.updated,
        newer=_newer(hold.beside, now) if hold.beside is not None else None,
        start_time=hold.spec.start_time if hold.spec else None,
        end_time=hold.spec.end_time if hold.spec else None,
    )
