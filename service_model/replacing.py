"""A frozen value with some of its fields changed: `dataclasses.replace`, in a third of the time.

Rules kept here
- What comes out is what `dataclasses.replace` makes, and types are checked as its types are.
- A class that does more at its making than to take its fields, or has no slots, is left to that one.

An order has sixty fields, and is replaced some thirty times until it is live.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

_Read = Callable[[Any], tuple[Any, ...]]
_Write = Callable[[Any, Any], None]

if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(value: Any, /, **changes: Any) -> Any:
        """Raises TypeError for a field that it has not."""
        kind = value.__class__
        access = _access(kind)
        if access is None:
            return dataclasses.replace(value, **changes)
        read, write = access
        made = object.__new__(kind)
        for put, part in zip(write.values(), read(value), strict=True):
            put(made, part)
        for name, part in changes.items():
            if name not in write:
                raise TypeError(f"{kind.__name__} has no field {name!r}")
            write[name](made, part)
        return made


@cache
def _access(kind: type) -> tuple[_Read, dict[str, _Write]] | None:
    """How all fields are read at once, and how each is written, in the same order; None where fields are not all there is."""
    known = dataclasses.fields(kind)
    slots = {f.name: getattr(kind, f.name, None) for f in known}
    if hasattr(kind, "__post_init__") or len(known) < 2 or not all(f.init for f in known):
        return None
    if not all(isinstance(slot, MemberDescriptorType) for slot in slots.values()):
        return None
    return attrgetter(*slots), {name: slot.__set__ for name, slot in slots.items() if slot is not None}
