"""From a command line to the module of its command, which is imported only then.

Rules kept here
- The table has every command with its line of help; a command whose modules are not installed is not offered.
- Whatever ends a command becomes one message on stderr and an exit code; a traceback only with SPBROKER_DEBUG set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from broker.cli.exit_codes import Exit, table
from broker.cli.faults import Fault
from broker.cli.harmless import harmless
from broker.cli.session_choice import choose


class Entry(NamedTuple):
    """`needs`: a further module without which the command cannot work."""

    help: str
    needs: str = ""


FOLDER = "broker.settings.folder"

COMMANDS: dict[str, Entry] = {
    "init": Entry("Make keys, certificates and settings of a new node"),
    "serve": Entry("Run a node"),
    "demo": Entry("See a whole federation at work on this machine"),
    "login": Entry("Log in at a provider"),
    "notes": Entry("What the provider can deliver: places, functions, prices"),
    "qualify": Entry("Whether a service can be delivered, or what would do"),
    "quote": Entry("A firm price for a service, to order it by"),
    "order": Entry("Order a service from a spec or a SONATA descriptor"),
    "extend": Entry("Hold for longer what is reserved"),
    "release": Entry("Free what is reserved and not committed"),
    "modify": Entry("Change a live service, which is carried on meanwhile"),
    "services": Entry("List your services"),
    "show": Entry("One service: its parts and addresses"),
    "watch": Entry("Follow your services as they change"),
    "heal": Entry("Have what is lost of a service bought elsewhere"),
    "terminate": Entry("End a service"),
    "apply": Entry("Make what is administered be as a folder says", FOLDER),
    "diff": Entry("What apply would change", FOLDER),
    "export": Entry("Write what is administered as documents", FOLDER),
    "plan": Entry("How a service would be planned, and why not otherwise"),
    "inventory": Entry("What is allocated, held and built, and what disagrees"),
    "addresses": Entry("Pools of addresses and labels: what is used, and by whom"),
    "tasks": Entry("The tasks that orders are made of, plugins' too"),
    "stuck": Entry("What is over and does not end, and what to do about it"),
    "abandon": Entry("Give up what a supplier never confirmed to be gone"),
    "suppliers": Entry("Suppliers: their notes, and the promises they kept"),
    "backup": Entry("Copy a node's database while it runs"),
    "restore": Entry("Put a backup in the place of a node's database"),
    "accept": Entry("Let a restored node go on"),
    "rotate": Entry("Renew the key that notes are signed with"),
    "passwd": Entry("Set the password of a person's account"),
}


def module_of(name: str) -> str:
    return f"broker.cli.commands.{name}"


def offered() -> dict[str, Entry]:
    """The commands that are installed; finding them imports none."""
    return {
        name: entry
        for name, entry in COMMANDS.items()
        if find_spec(module_of(name)) and (not entry.needs or find_spec(entry.needs))
    }


class LazyCommands(TyperGroup):
    """The top of the command line, over `offered()`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(offered())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in offered():
            return None
        module = import_module(module_of(cmd_name))
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False, rich_markup_mode=None)
            app.command(name=cmd_name)(module.command)
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in offered() and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, offered(), n=1)
            ctx.fail(f"there is no command {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Fault(Exit.INTERRUPTED, "interrupted") from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in offered().items()])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl(table())


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"spbroker {metadata.version('spbroker')}")
        raise typer.Exit


def _top(
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Act as this login (SPBROKER_PROFILE).")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and exit.")
    ] = False,
) -> None:
    """Buy a chain of network functions from one provider, delivered by many."""
    choose(as_)


def commands() -> Any:
    """The whole command line, as the command of typer that it is."""
    app = typer.Typer(
        cls=LazyCommands,
        callback=_top,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    return typer.main.get_group(app)


def run(arguments: Sequence[str], command: Callable[[], Any] = commands) -> int:
    """The exit code of one command line; what went wrong is told on stderr."""
    try:
        command().main(args=list(arguments), prog_name="spbroker")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Fault as fault:
        return _told(fault)
    except Exception as error:
        if os.environ.get("SPBROKER_DEBUG"):
            raise
        print(f"spbroker: unexpected: {type(error).__name__}: {error}", file=sys.stderr)
        print("  run it with SPBROKER_DEBUG=1 to see where", file=sys.stderr)
        return Exit.UNEXPECTED
    return Exit.OK


def _told(fault: Fault) -> int:
    if fault.message:
        print(f"spbroker: {harmless(fault.message)}", file=sys.stderr)
    for line in fault.details:
        print(f"  {harmless(line)}" if fault.message else harmless(line), file=sys.stderr)
    if fault.reasons:
        from broker.cli.output import messages
        from broker.cli.rendering import reasons_tree

        messages().print(reasons_tree(fault.reasons))
    if fault.hint:
        print(f"  {fault.hint}", file=sys.stderr)
    return fault.exit_code
