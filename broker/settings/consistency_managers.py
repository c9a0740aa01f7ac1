"""Whether the managers, and the accounts that may name them, make sense together.

Rules kept here
- A manager is an end point, with whom to trust and what it decides, or a plugin, which has neither.
- An account may name what there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from broker.settings.administered import AccountDoc, ManagerDoc
from broker.settings.present import Administered, Key
from broker.settings.problems import Problem


def manager_problems(whole: Administered, broken: Set[Key]) -> Iterator[Problem]:
    for manager in whole.managers:
        yield from _manager(manager)
    for account in whole.accounts:
        for named, document in account.managers.items():
            if ("manager", document) not in whole.by_key and ("manager", document) not in broken:
                yield _no(account, f"managers.{named}", f"there is no manager {document!r}")


def _manager(manager: ManagerDoc) -> Iterator[Problem]:
    if (manager.endpoint is None) == (manager.plugin is None):
        yield _no(manager, "endpoint", "a manager has an endpoint or a plugin: one of the two")
        return
    if manager.plugin is not None:
        for field in ("ca", "server_name", "decides"):
            if getattr(manager, field):
                yield _no(manager, field, "a plugin has none: it brings its own tasks")
        return
    if manager.ca is None:
        yield _no(manager, "ca", "an endpoint needs the authority that its certificate is of")
    if not manager.decides:
        yield _no(manager, "decides", "it decides nothing: PLACE, ADDRESS, CONFIGURE, HEAL or SCALE belong here")
    if len(set(manager.decides)) < len(manager.decides):
        yield _no(manager, "decides", "a task stands twice")


def _no(document: ManagerDoc | AccountDoc, field: str, reason: str) -> Problem:
    return Problem(document.kind, document.name, field, reason)
