"""The words of healing: what a customer lets its provider do by itself when a part of a service is lost, and how far that is.

Rules kept here
- Who says nothing is healed: the same is delivered in another way, within all that was asked for, at the price that was agreed.
- What is broken is told by the aliases of the service's own segments, and by nothing of lower levels.
"""

from __future__ import annotations

from service_model.words import Word


class HealPolicy(Word):
    """Who decides that a service is healed: its provider (AUTOMATIC, and so where nothing is said); its owner, who is told that
    it can be (ASK); or its owner unasked (NONE)."""

    UNSPECIFIED = "HEAL_POLICY_UNSPECIFIED"
    NONE = "HEAL_POLICY_NONE"
    ASK = "HEAL_POLICY_ASK"
    AUTOMATIC = "HEAL_POLICY_AUTOMATIC"

    @property
    def by_itself(self) -> bool:
        return self in (HealPolicy.UNSPECIFIED, HealPolicy.AUTOMATIC)


class HealPhase(Word):
    """How far a healing is: it waits for its time (PENDING), is UNDER_WAY, waits for its owner's yes (WAITING), was tried in vain
    as often as it is by itself (GIVEN_UP), or is not begun, as its owner wants it (LEFT)."""

    UNSPECIFIED = "HEAL_PHASE_UNSPECIFIED"
    PENDING = "HEAL_PHASE_PENDING"
    UNDER_WAY = "HEAL_PHASE_UNDER_WAY"
    WAITING = "HEAL_PHASE_WAITING"
    GIVEN_UP = "HEAL_PHASE_GIVEN_UP"
    LEFT = "HEAL_PHASE_LEFT"


HEALING = "healing"
"""The feature of whoever heals what it delivers, and lets itself be asked for it."""
