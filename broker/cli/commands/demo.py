"""`spbroker demo`: one order, four providers, packets that arrive."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault

SOURCE = Path(__file__).resolve().parents[3] / "config" / "demo"
NSD = SOURCE / "orders" / "guarded-web.nsd.yml"


def command(
    nsd: Annotated[Path | None, typer.Option("--nsd", metavar="FILE", help="Order this descriptor instead.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running, and say what to try.")] = False,
    driver: Annotated[str, typer.Option("--driver", help="linux, or simulated: without packets.")] = "linux",
    work: Annotated[Path, typer.Option("--work", metavar="DIR", help="The demo's folder, made anew.")] = Path(".demo"),
    source: Annotated[
        Path, typer.Option("--source", metavar="DIR", help="The four providers and their cables, where yours differ.")
    ] = SOURCE,
) -> None:
    """Set up four providers on this machine, order a service as their customer, and prove that its packets arrive.

    Needs no configuration. Without root it runs in a user namespace of its own. Exit code 8: a proof does not hold.
    """
    from broker.cli.demo import enclosure
    from broker.cli.demo.federation import arguments_of

    if driver not in ("linux", "simulated"):
        raise Fault(Exit.WRONG_INPUT, f"--driver {driver}: there are linux and simulated")
    order = (nsd or NSD).resolve()
    if not order.is_file():
        raise Fault(Exit.WRONG_INPUT, f"{nsd}: there is no such file")
    if not (source / "lab.yml").is_file():
        missing = f"{source} is not a folder of the demo: there is no lab.yml"
        if source != SOURCE:
            raise Fault(Exit.WRONG_INPUT, missing)
        raise Fault(Exit.ENVIRONMENT_MISSING, f"the demo runs from a checkout of spbroker: {missing}")
    work, source = work.resolve(), source.resolve()
    _not_twice(work)
    if driver == "linux":
        if not enclosure.is_inside():
            enclosure.enter(arguments_of(nsd and order, keep, driver, work, source))
        enclosure.furnish()
    from broker.cli.demo.story import Story

    started = time.monotonic()
    Story(source, work, order, driver, keep).tell()
    typer.echo(f"\nAll proofs hold. {time.monotonic() - started:.0f} s.", err=True)


def _not_twice(work: Path) -> None:
    pids = work / "pids"
    running: list[Any] = [p for p in pids.read_text().split() if Path("/proc", p).exists()] if pids.exists() else []
    if running:
        raise Fault(Exit.WRONG_INPUT, f"a demo that was kept is still running in {work}", hint=f"end it: {work}/stop")
