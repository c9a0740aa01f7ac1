"""`spbroker tasks`: the tasks that orders are made of, and who brought them. Reads the settings of a node, and asks nobody."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from broker.bootstrap.plugins import workflows
from broker.cli.faults import WrongFile, WrongInput
from broker.cli.output import print_json, show
from broker.cli.rendering.tasks import registered, tasks_table
from broker.cli.session_choice import AsJson
from broker.orders.schedules import CannotSchedule
from broker.settings.process import NODE_FILE, load_process
from service_model.yaml_lines import DocumentRefused


def command(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A node, to list the tasks of its plugins too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the tasks that orders are made of: in which state, at which place, what each does, and who brought it.

    Behind those of every service stand the tasks for services that name a manager: the operator's plugins for managers,
    and what is asked of managers that customers serve.
    """
    everywhere: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    if directory is not None:
        try:
            settings = load_process(directory / NODE_FILE, os.environ)
        except DocumentRefused as refused:
            raise WrongFile(*map(str, refused.errors)) from None
        everywhere, named = settings.plugins, settings.manager_plugins
    try:
        rows = tuple(registered(workflows(everywhere, named)))
    except CannotSchedule as error:
        raise WrongInput(str(error)) from None
    if as_json:
        print_json([row._asdict() for row in rows])
    else:
        show(tasks_table(rows))
