"""A new key for our notes, while the node runs and without a moment in which a partner trusts none.

Rules kept here
- Three steps, each of which may be repeated: `prepare` makes the next key and puts it into the anchor beside the present
  one; `switch` signs with it; `retire` takes the former one out of the anchor.
- Between prepare and switch every partner has to have taken the new anchor, between switch and retire nothing is in a hurry:
  that is what the steps are apart for.
- A key is whole on disk before anything names it. A running node takes up the new key by itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from broker.accounts.founding import Layout
from broker.accounts.pki import write_private, write_public
from broker.settings.anchor import ANCHOR, Anchor, NoteKey, NoteKeys
from capability_registry.keys import SigningKey
from service_model.yaml_written import written

log = structlog.get_logger()


class NotRotated(Exception):
    """The step cannot be taken now; the message says which comes first."""


def prepare(layout: Layout, random: Callable[[int], bytes] = os.urandom) -> Anchor:
    """The anchor with the next key, made now where there is none yet. Raises OSError, ValueError."""
    if not layout.next_note_key.exists():
        write_private(layout.next_note_key, SigningKey.generate(random).to_pem())
    present, following = _key(layout.note_key), _key(layout.next_note_key)
    return _announce(layout, present, following)


def switch(layout: Layout) -> Anchor:
    """Sign with the next key from now on. Raises NotRotated, OSError, ValueError."""
    if not layout.next_note_key.exists():
        raise NotRotated("there is no next key: prepare it first, and give partners the new anchor")
    os.replace(layout.next_note_key, layout.note_key)
    return _anchor(layout)


def retire(layout: Layout) -> Anchor:
    """The anchor with the present key alone. Raises NotRotated, OSError, ValueError."""
    if layout.next_note_key.exists():
        raise NotRotated("the next key is not in use yet: switch to it first")
    return _announce(layout, _key(layout.note_key))


def _key(path: Path) -> SigningKey:
    return SigningKey.from_pem(path.read_bytes())


def _anchor(layout: Layout) -> Anchor:
    return ANCHOR.validate_json(layout.anchor.read_bytes())


def _announce(layout: Layout, *keys: SigningKey) -> Anchor:
    former = _anchor(layout)
    anchor = Anchor(
        sp_id=former.sp_id, ca=former.ca, note_keys=NoteKeys(keys=tuple(NoteKey.of(key.public) for key in keys))
    )
    write_public(layout.anchor, json.dumps(written(anchor), indent=2).encode() + b"\n")
    return anchor


class KeyFile:
    """The key in a file, as it is now: read again when the file has been replaced. One that cannot be read changes
    nothing."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError."""
        self._path = path
        self._seen = _stamp(path)
        self._key = _key(path)

    def current(self) -> SigningKey:
        try:
            stamp = _stamp(self._path)
            if stamp != self._seen:
                self._seen, self._key = stamp, _key(self._path)
                log.info("notes are signed with another key", kid=self._key.kid)
        except (OSError, ValueError) as error:
            log.warning("the key of notes cannot be read; the former one is kept", error=str(error))
        return self._key


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
