"""How a supplier's reasons read one level up.

Rules kept here
- Each level wraps what it heard under the segment's local alias; codes and the time in which it is so stay, words are made
  anew from them, and a subject stays only if it is a word of the spec that was handed down. So names, addresses and ids of
  lower levels do not go up.
- What the planner does not know only because its supplier takes nothing new now, is known: it is said to be closed.
- An opaque incident id stands for the rest: the supplier finds the whole story by it in its own log.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from broker.decompose.plan import Infeasible, Snapshot
from broker.orders.records import Segment
from capability_registry.abstraction import Abstraction, Disclosure
from service_model.outcomes import Alternative, Nogood, Reason, ReasonCode
from service_model.spec import ServiceSpec
from service_model.window import Window

PHRASES: dict[ReasonCode, str] = {
    ReasonCode.CAPACITY: "not enough capacity",
    ReasonCode.BANDWIDTH: "not enough bandwidth",
    ReasonCode.DELAY: "the delay budget cannot be met",
    ReasonCode.PRICE: "dearer than allowed",
    ReasonCode.MTU: "the MTU is too small",
    ReasonCode.NO_PATH: "no way through",
    ReasonCode.LAN_NOT_OFFERED: "LAN links are not offered",
    ReasonCode.LABELS_EXHAUSTED: "no label is left",
    ReasonCode.LABEL_TAKEN: "the label is taken",
    ReasonCode.LABEL_CONTENDED: "the label is held by another order",
    ReasonCode.PREFIX_CONFLICT: "a prefix cannot be used there",
    ReasonCode.PREFIX_TOO_SMALL: "the prefixes given are too small",
    ReasonCode.ADDRESS_EXHAUSTED: "no address is left",
    ReasonCode.UNKNOWN_FUNCTION_TYPE: "the function type is not offered",
    ReasonCode.UNKNOWN_SAP: "the SAP is not known",
    ReasonCode.UNKNOWN_PLACE: "not offered at the places asked for",
    ReasonCode.INVALID_PARAMETER: "a parameter is not understood",
    ReasonCode.SUPPLIER_UNREACHABLE: "a supplier does not answer",
    ReasonCode.CONSTRAINT_VIOLATED: "the addressing constraint was not kept",
    ReasonCode.HOLD_EXPIRED: "the hold expired",
    ReasonCode.INFRASTRUCTURE: "the infrastructure failed",
    ReasonCode.NOT_IN_SERVICE: "out of service",
    ReasonCode.QUOTA: "the quota is used up",
    ReasonCode.HOP_BUDGET: "too many levels",
    ReasonCode.CALL_BUDGET: "too many calls",
    ReasonCode.AFFINITY: "functions cannot be together or apart as asked",
    ReasonCode.COUNTRY: "no way stays in the countries asked for",
    ReasonCode.ISOLATION: "no way is isolated as asked",
    ReasonCode.DISTANCE: "functions cannot be as near as asked",
    ReasonCode.QUOTE_NOT_VALID: "the quote does not count",
    ReasonCode.QOS: "the class of service is not known",
    ReasonCode.AVAILABILITY: "it cannot work as much of the time as asked",
    ReasonCode.MANAGER_REFUSED: "a manager of the service refused",
}


def known_or_closed(reason: Reason, spec: ServiceSpec, snapshot: Snapshot) -> Reason:
    """The planner's reason, or NOT_IN_SERVICE where a supplier has what the reason calls unknown and is not planned with:
    it drains, is in maintenance, disabled or withdrawing. Which one, the customer is not told."""
    closed = ""
    if reason.code is ReasonCode.UNKNOWN_FUNCTION_TYPE:
        wanted = {f.type for f in spec.functions if f.id == reason.subject}
        if any(offer.type in wanted for view in snapshot.suppliers for offer in view.note.functions):
            closed = f"function {reason.subject!r}: type {', '.join(map(str, wanted))} is known, and not offered now"
    elif reason.code is ReasonCode.UNKNOWN_SAP:
        sap = next((e.sap for e in spec.ends if e.id == reason.subject), "")
        if any(sap in view.saps for view in snapshot.suppliers):
            closed = f"SAP {sap!r} is known, and takes nothing new now"
    return replace(reason, code=ReasonCode.NOT_IN_SERVICE, message=closed) if closed else reason


def told(found: Infeasible, spec: ServiceSpec, margin: Decimal, snapshot: Snapshot) -> tuple[Reason, ...]:
    """Why nothing can be planned, as the customer is told: with the nearest alternative, at what that would cost it."""
    nearest = {rejected.code: rejected for rejected in found.nearest}
    out = []
    for reason in (known_or_closed(reason, spec, snapshot) for reason in found.reasons):
        if (other := nearest.get(reason.code)) is not None:
            price = other.plan.price.scaled(margin)
            if reason.code is ReasonCode.PRICE:
                best = f"price over {spec.term_hours} h: best {price.over(spec.term_hours)}"
                reason = replace(reason, message=f"{best} > {spec.max_price} {price.currency}", subject="max_price")
            gives = (reason.code, *other.also)
            alternative = Alternative(gives=gives, price=price, delay_us=other.plan.delay_us)
            reason = replace(reason, nogood=Nogood(alternative=alternative))
        out.append(reason)
    return tuple(out)


def words_of(spec: ServiceSpec) -> frozenset[str]:
    """Every id that the spec itself uses, and the constraints that have none."""
    named = [*(e.id for e in spec.ends), *(f.id for f in spec.functions), *(x.id for x in spec.links)]
    named += [*(p.id for p in spec.paths), *(g.id for g in spec.groups), *(d.id for d in spec.distances)]
    return frozenset([*named, "countries", "isolation", "qos", "min_availability"])


def rewritten(reason: Reason, words: frozenset[str]) -> Reason:
    """The reason without anything that the level above does not know."""
    causes = tuple(rewritten(c, words) for c in reason.causes)
    if causes:  # a wrapper says what its innermost cause says
        return replace(
            reason, message=causes[0].message, subject=causes[0].subject, segment="", causes=causes, nogood=None
        )
    subject = reason.subject if reason.subject in words else ""
    phrase = PHRASES.get(reason.code, reason.code.short.lower().replace("_", " "))
    # what a customer wrote wrong is told as it was said: parameters are the customer's own words
    said = reason.message if reason.code is ReasonCode.INVALID_PARAMETER and subject else ""
    message = said or (f"{phrase} ({subject})" if subject else phrase)
    if reason.start_time is not None or reason.end_time is not None:
        message = f"{message} {Window.of(reason.start_time, reason.end_time)}"
    return replace(reason, message=message, subject=subject, segment="", nogood=None)


_IN_WORDS_OF_THE_SPEC = frozenset(
    {
        ReasonCode.SHAPE_NOT_OFFERED,
        ReasonCode.UNKNOWN_SAP,
        ReasonCode.UNKNOWN_FUNCTION_TYPE,
        ReasonCode.UNKNOWN_PORT,
        ReasonCode.INVALID_PARAMETER,
        ReasonCode.NOT_IN_SERVICE,
        ReasonCode.NO_PATH,
        ReasonCode.MTU,
        ReasonCode.BANDWIDTH,
        ReasonCode.AFFINITY,
        ReasonCode.DISTANCE,
        ReasonCode.PREFIX_TOO_SMALL,
        ReasonCode.AVAILABILITY,
        ReasonCode.MANAGER_REFUSED,
    }
)
"""What the planner says of these names nothing but what the customer knows. Of others it names places and interconnects."""


def veiled(reason: Reason, words: frozenset[str]) -> Reason:
    """The reason as told to a customer who does not know our places by name, nor what joins them."""
    spoken = reason.code is ReasonCode.UNKNOWN_PLACE and reason.subject not in words  # the customer's word for a place
    below = bool(reason.causes)  # what came from there is in words that may go up already
    chosen = reason.nogood is not None and reason.nogood.alternative is None
    ours = reason.code not in _IN_WORDS_OF_THE_SPEC and reason.subject not in ("", "max_price", "quote")
    if below or spoken or chosen or not ours:
        return reason
    return replace(rewritten(reason, words), nogood=reason.nogood)


def for_customer(reasons: tuple[Reason, ...], spec: ServiceSpec, disclosure: Disclosure) -> tuple[Reason, ...]:
    """The reasons as whoever ordered `spec` may read them."""
    if disclosure.abstraction is Abstraction.WHITE:
        return reasons
    return tuple(veiled(reason, words_of(spec)) for reason in reasons)


def incident_id(segment: Segment) -> str:
    """What can be quoted about one refusal: derived from the call, so that it can be found again in the journal and log."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{segment.ref}/{segment.version}").hex[:12]


def wrapped(segment: Segment, code: ReasonCode, words: frozenset[str], heard: Sequence[Reason] | None = None) -> Reason:
    """One reason for the level above: this segment refused or failed, and why in words that may go up."""
    causes = tuple(rewritten(r, words) for r in (segment.reasons if heard is None else heard))
    because = causes[0].message if causes else "no reason was given"
    verb = "failed" if code is ReasonCode.SEGMENT_FAILED else "refused"
    return Reason(
        code=code,
        message=f"segment {segment.key} {verb}: {because}",
        subject=causes[0].subject if causes else "",
        segment=segment.key,
        retryable=any(c.retryable for c in causes),
        incident_id=incident_id(segment),
        causes=causes,
    )
