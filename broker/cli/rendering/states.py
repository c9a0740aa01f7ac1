"""The colour and sign of a state: calm while all is well, loud where somebody has to look."""

from __future__ import annotations

from broker.cli.rendering.text import Text
from service_model.outcomes import ServiceState as S

_LOOK: dict[S, tuple[str, str]] = {
    S.RESERVING: ("◌", "cyan"),
    S.RESERVED: ("◔", "cyan"),
    S.COMMITTING: ("◑", "blue"),
    S.ACTIVATING: ("◕", "blue"),
    S.ACTIVE: ("●", "green"),
    S.DEGRADED: ("▲", "yellow"),
    S.TERMINATING: ("◌", "bright_black"),
    S.TERMINATED: ("○", "bright_black"),
    S.EXPIRED: ("○", "bright_black"),
    S.REFUSED: ("✗", "red"),
    S.FAILED: ("✗", "bold red"),
    S.STUCK: ("■", "bold red"),
}


def state_text(state: S) -> Text:
    sign, style = _LOOK.get(state, ("?", "dim"))
    return Text(f"{sign} {state.short}", style=style)
