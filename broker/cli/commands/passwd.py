"""`spbroker passwd`: an operator sets the password of a person's account."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from broker.cli.commands.login import read_password
from broker.cli.connection import connected
from broker.cli.faults import WrongInput
from broker.cli.output import say
from broker.cli.session_choice import As
from spbroker.v1 import admin_service_pb2 as pb


def command(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the new password from the first line of stdin.")
    ] = False,
    as_: As = None,
) -> None:
    """Set the password of a person's account, of 12 characters or more; only a hash of it is stored.

    Needs the role operator.
    """
    with connected(as_) as connection:
        password = read_password(f"New password of {account}: ", password_stdin)
        if not password_stdin and getpass.getpass("Again: ") != password:
            raise WrongInput("the two differ; nothing was changed")
        connection.administer("SetPassword", pb.SetPasswordRequest(account=account, password=password))
    say(f"the password of {account} is set")
