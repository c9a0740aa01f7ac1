"""Notes for audiences, made again and again; and `main`, that does so as a process of its own.

Rules kept here
- A note is what `derive` makes from nothing, whatever was made before. What is kept saves work, and is shared: audiences differ
  by margin, words and tokens, and see the same ways as long as none of the suppliers is left out for one of them.
- A supplier that is the audience itself is left out. To whom else what is told, is up to who asks.
- Kept are at most so many walks, those used last. Of each audience the note that was issued is kept, to judge the next beside
  it, and the last one that was made, to issue it.
- Notes of notes are large: told is how much a note says otherwise, and, when it is issued, its text; never the note.
"""

from __future__ import annotations

import gc
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from broker.decompose.derive import Findings, derive
from broker.decompose.lexicon import lexicon
from broker.decompose.plan import Snapshot
from broker.decompose.worker import Worker, run
from capability_registry import payload
from capability_registry.abstraction import Disclosure, abstracted
from capability_registry.decoys import arranged, with_decoys
from capability_registry.feed import SKEW
from capability_registry.hysteresis import Change, change
from capability_registry.note import NOTE, CapabilityNote, Lifecycle
from service_model.qos import QosClass

WALKS = 400_000
"""That are kept: with all that hangs on them some 1.5 kB each."""

GC_THRESHOLDS = 200_000, 20, 50
"""What is kept lies in no circles, and is much to look through for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an audience's note is made by, beside the suppliers' notes. `sp_id`: the SP that the audience is; "": none.
    `share`: as in `Pacing`. `secret`: ours, for words and decoys."""

    audience: str
    sp_id: str
    now: datetime
    validity: timedelta
    margin: Decimal
    currency: str
    disclosure: Disclosure
    classes: tuple[QosClass, ...]
    max_hold_s: int
    lifecycle: Lifecycle
    notice: str
    features: tuple[str, ...]
    token: str
    secret: bytes
    share: float


@dataclass(frozen=True, slots=True)
class Made:
    """`change`: from the note that was issued before; None where that is not known. `digest`: of all that the note says."""

    change: Change | None
    digest: str


@dataclass(slots=True)
class _Audience:
    issued: CapabilityNote | None = None
    made: CapabilityNote | None = None


_Seen = tuple[tuple[str, ...], str]
"""Who is left out, and the currency: whose ways are the same for all audiences."""


class Deriver:
    """`most`: how many walks are kept."""

    def __init__(self, most: int = WALKS) -> None:
        self._most = most
        self._findings: OrderedDict[_Seen, Findings] = OrderedDict()
        self._audiences: dict[str, _Audience] = {}

    @property
    def walks(self) -> int:
        """How many are kept."""
        return sum(findings.walks for findings in self._findings.values())

    def make(self, wish: Wish, snapshot: Snapshot, first: bool = False) -> Made:
        """Make the audience's note as of now. `first`: what is known of former ones does not count."""
        left_out = tuple(view.alias for view in snapshot.suppliers if view.sp_id == wish.sp_id)
        others = tuple(view for view in snapshot.suppliers if view.sp_id != wish.sp_id)
        note = derive(
            replace(snapshot, suppliers=others) if left_out else snapshot,
            snapshot.own_sp_id,
            1,
            wish.audience,
            wish.now,
            wish.validity,
            wish.margin,
            wish.currency,
            wish.token,
            wish.max_hold_s,
            wish.features,
            findings=self._findings_of((left_out, wish.currency)),
            share_secret=wish.secret,
        )
        self._forget()
        words = lexicon(snapshot, wish.secret, wish.audience, wish.disclosure).words
        note = replace(
            arranged(abstracted(note, wish.disclosure, words or {})),
            not_before=wish.now - SKEW,  # our clock may be ahead of the reader's
            lifecycle=wish.lifecycle,
            qos_classes=wish.classes,
            terms={"notice": wish.notice} if wish.notice else {},
        )
        if first:
            self._audiences.pop(wish.audience, None)
        audience = self._audiences.setdefault(wish.audience, _Audience())
        audience.made = note
        difference = None if audience.issued is None else change(audience.issued, note, wish.share)
        return Made(difference, hashlib.sha256(_content(note)).hexdigest())

    def issue(self, audience: str, edition: int, secret: bytes) -> bytes | None:
        """The text of the note that was made last, which is issued; None where it is not known any more."""
        known = self._audiences.get(audience)
        if known is None or known.made is None:
            return None
        known.issued, known.made = known.made, None
        return payload.write(with_decoys(replace(known.issued, edition=edition), secret))

    def _findings_of(self, seen: _Seen) -> Findings:
        """The ones used last come last."""
        findings = self._findings.setdefault(seen, Findings())
        self._findings.move_to_end(seen)
        return findings

    def _forget(self) -> None:
        while self._findings and self.walks > self._most:
            self._findings.popitem(last=False)


def _content(note: CapabilityNote) -> bytes:
    """What makes two notes differ: all but edition, validity and the token made fresh for each."""
    return NOTE.dump_json(
        replace(note, edition=1, not_before=note.expires, origin_tokens=()), exclude={"not_before", "expires"}
    )


@dataclass(frozen=True, slots=True)
class Making:
    """The question for a note. `head`: the snapshot without its suppliers; `first`: as in `Deriver.make`."""

    wish: Wish
    head: Snapshot
    first: bool


@dataclass(frozen=True, slots=True)
class Issuing:
    """The question for the text of the note that was made last."""

    audience: str
    edition: int
    secret: bytes


class _DerivingWorker(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._deriver = Deriver()

    def answer(self, question: object) -> object:
        if isinstance(question, Issuing):
            return self._deriver.issue(question.audience, question.edition, question.secret)
        assert isinstance(question, Making)
        return self._deriver.make(question.wish, self.snapshot(question.head), question.first)


def main() -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    run(_DerivingWorker())
