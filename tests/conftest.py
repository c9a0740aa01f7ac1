"""For every test: logs are plain lines, so that a traceback costs nothing; and commands that are started heed interrupts, as in
somebody's terminal, also where who started the tests ignores them (what is ignored is inherited)."""

from __future__ import annotations

import signal

import structlog

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)
