"""A process that serves one node: settings and keys in, listeners open, graceful stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import structlog

from broker.accounts.founding import Keys, Layout, read_keys
from broker.accounts.rotation import KeyFile
from broker.accounts.secrets import Passwords
from broker.bootstrap.node import Node, Parts, over_grpc
from broker.bootstrap.plugins import workflows
from broker.northbound.admission import Bounds
from broker.northbound.authenticator import AccountAuthenticator
from broker.northbound.server import Identity, NorthboundServer, Serving, serve
from broker.orders.schedules import CannotSchedule
from broker.settings.process import NODE_FILE, Process, load_process
from broker.storage.errors import StoreError
from capability_registry.hysteresis import Pacing
from lower_sp_clients.vim.driver import DriverError
from service_model.clock import Clock, SystemClock

log = structlog.get_logger()

CLOSES_WITHIN_S = 15.0
"""How long, after the drain, everything may take to close: suppliers, drivers, the store."""


class CannotServe(Exception):
    """The node cannot start: its directory, store, address or a domain; the message names it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


async def run(directory: Path, stopping: asyncio.Event, opened: Callable[[Node], None] = lambda node: None) -> None:
    """Serve the node in `directory` until `stopping`; `opened` is given it before it serves. Raises DocumentRefused,
    CannotServe."""
    settings = load_process(directory / NODE_FILE, os.environ)
    configure_logging(settings.log_level)
    try:
        keys = read_keys(Layout(directory))
    except (OSError, ValueError) as error:
        raise CannotServe(f"{directory}: {error}", hint=f"make a node there: spbroker init {directory}") from None
    try:
        schedules = workflows(settings.plugins, settings.manager_plugins)
    except CannotSchedule as error:
        raise CannotServe(f"{directory / NODE_FILE}: {error}") from None
    spare_collections()
    clock = SystemClock()
    passwords = Passwords()
    pacing = Pacing(rest=timedelta(seconds=settings.note_rest_s), share=settings.note_share)
    parts = Parts(
        clock=clock,
        connect=over_grpc(keys, clock),
        passwords=passwords,
        pacing=pacing,
        caution=settings.caution,
        hopes=settings.hopes,
        stuck_after=timedelta(seconds=settings.stuck_after_s),
        lease=timedelta(seconds=settings.lease_s),
        watcher_behind=settings.watcher_behind,
        workflows=schedules,
    )
    node = Node(settings.sp_id, settings.store, keys, parts, KeyFile(Layout(directory).note_key).current)
    try:
        await node.open()
    except (StoreError, DriverError, CannotSchedule) as error:
        raise CannotServe(str(error)) from None
    opened(node)
    try:
        server = await listen(node, settings, keys, passwords, clock)
        try:
            await server.set_health(True)
            log.info("serving", sp_id=settings.sp_id, **server.ports)
            await _any(stopping, node.ended)
            log.info("stopping")
        finally:
            ends = threading.Timer(settings.drain_s + CLOSES_WITHIN_S, _end)
            ends.daemon = True
            ends.start()
            await server.stop(settings.drain_s)
    finally:
        await node.close()
    ends.cancel()
    if node.ended.is_set():
        raise CannotServe("this replica was away for so long that others forgot it", hint="start it again")


async def _any(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def _end() -> None:
    """Whatever keeps the node from closing: what it has answered is recorded, and the next start takes it up."""
    log.error("not closed in time: the process ends as it is")
    os._exit(0)


async def listen(node: Node, settings: Process, keys: Keys, passwords: Passwords, clock: Clock) -> NorthboundServer:
    """Open the node's listeners. Raises CannotServe where an address cannot be had."""
    authenticator = AccountAuthenticator(
        sp_id=settings.sp_id,
        administered=lambda: node.administration.present,
        passwords=passwords,
        signing_keys=lambda: (keys.token_key,),
        clock=clock,
        new_id=lambda: str(uuid.uuid4()),
    )
    identity = Identity(certificate=keys.server.certificate, key=keys.server.key)
    serving = Serving(
        supplier_for=node.supplier_for,
        notes_for=node.notes_for,
        authenticator=authenticator,
        clock=clock,
        admin=node.admin,
        begun=node.begun,
        turn=node.broker.steps.turn,
        bounds=Bounds(
            beginning=settings.beginning,
            waiting=settings.waiting,
            finishing=settings.finishing,
            streams=settings.streams,
            late_s=settings.late_s,
        ),
    )
    try:
        return await serve(
            serving,
            identity=lambda: identity,
            partner_roots=authenticator.partner_roots,
            listen=settings.listen,
            listen_partners=settings.listen_partners,
        )
    except OSError as error:
        raise CannotServe(str(error)) from None


def spare_collections() -> None:
    """What is loaded by now stays, and notes and orders hold few cycles: the collector need not look through all of them
    each time that a note or two have come."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def configure_logging(level: str) -> None:
    """One line of JSON per event to stdout; on a terminal, readable lines. Tracebacks are plain: a pretty one of a deep
    structure takes seconds, in which nothing else is served."""
    shown: structlog.types.Processor = structlog.processors.JSONRenderer()
    if sys.stdout.isatty():
        shown = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    errors: list[structlog.types.Processor] = [] if sys.stdout.isatty() else [structlog.processors.format_exc_info]
    logging.basicConfig(level=level.upper(), format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *errors,
            shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )
