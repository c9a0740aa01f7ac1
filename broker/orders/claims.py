"""Who may work on an order now, where several processes of one broker share its store.

Rules kept here
- An order is worked by the process that has it claimed. Each time that it changes hands its fence grows, and what a former
  owner still writes under the old one is refused. So it may be taken from anybody at any time; nobody has to agree.
- Whoever is asked for an order by its owner takes it, and knows all that was recorded of it before it acts.
- What is own (domains and their drivers, what time does to pools and quotes) is claimed as one, by one process. An order
  that is to be held or built there is given to that one.
"""

from __future__ import annotations

from typing import Protocol


class Fenced(Exception):
    """Another process has taken over what was to be written; nothing was."""


class Taken(Exception):
    """A block, label or identifier that was to be recorded is another's; nothing was recorded."""


class Claims(Protocol):
    @property
    def shared(self) -> bool:
        """Whether other processes may work on this store."""

    def mine(self, order: str) -> bool: ...

    def leads(self) -> bool:
        """Whether what is own is ours."""

    def begin(self, order: str) -> None:
        """An order that did not exist is ours; recording it claims it."""

    def forget(self, order: str) -> None:
        """It could not be recorded: there is none."""

    async def catch_up(self) -> None:
        """Know everything that was recorded by anybody before this was called."""

    async def take(self, order: str) -> None:
        """It is ours, and known as it was recorded last."""

    async def give(self, order: str) -> None:
        """Let the process work on it that has what is own. Raises Fenced."""


class Alone:
    """One process has the store to itself: everything is its own."""

    shared = False

    def mine(self, order: str) -> bool:
        return True

    def leads(self) -> bool:
        return True

    def begin(self, order: str) -> None:
        pass

    def forget(self, order: str) -> None:
        pass

    async def catch_up(self) -> None:
        pass

    async def take(self, order: str) -> None:
        pass

    async def give(self, order: str) -> None:
        raise AssertionError("there is nobody to give it to")


ALONE = Alone()
