"""`spbroker rotate`: a new key for the notes of a node, in three steps."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.faults import WrongInput
from broker.cli.output import say


class Step(StrEnum):
    PREPARE = "prepare"
    SWITCH = "switch"
    RETIRE = "retire"


def command(
    step: Annotated[Step, typer.Argument(metavar="STEP", help="prepare, switch or retire.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The node's directory.")],
) -> None:
    """Renew the key that notes are signed with, while the node runs.

    prepare makes the next key and puts it into DIR/anchor.json beside the present one. Give the file to every partner; each
    applies it. switch then signs with the new key, and retire takes the former one out of the anchor.
    """
    from broker.accounts import rotation
    from broker.accounts.founding import Layout

    layout = Layout(directory)
    try:
        anchor = {Step.PREPARE: rotation.prepare, Step.SWITCH: rotation.switch, Step.RETIRE: rotation.retire}[step](
            layout
        )
    except (rotation.NotRotated, OSError, ValueError) as error:
        raise WrongInput(str(error)) from None
    say(f"{layout.anchor}: keys {', '.join(key.kid for key in anchor.note_keys.keys)}")
    if step is Step.PREPARE:
        say(f"  give it to every partner, then: spbroker rotate switch {directory}")
    elif step is Step.SWITCH:
        say(f"  when all partners take the new notes: spbroker rotate retire {directory}")
    else:
        say("  give it to every partner: the former key is trusted no more")
