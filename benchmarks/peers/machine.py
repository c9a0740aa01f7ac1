"""What a figure was measured on, as every benchmark tells it."""

from __future__ import annotations

import os
import platform
from typing import Any


def machine(**more: Any) -> dict[str, Any]:
    """`load`: the mean number of programs that ran or waited in the last minute."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        **more,
    }
