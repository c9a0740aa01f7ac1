"""Drivers by name. A driver's module is loaded when it is asked for, so that only its users need its libraries."""

from __future__ import annotations

from collections.abc import Sequence

from lower_sp_clients.vim.driver import Driver, DriverError, SapPort


def make_driver(kind: str, domain: str, saps: Sequence[SapPort]) -> Driver:
    """The driver `kind` for one domain. Raises DriverError where it cannot work here, ValueError for its settings."""
    if kind == "simulated":
        from lower_sp_clients.vim.simulated import SimulatedDriver

        return SimulatedDriver(saps)
    if kind == "linux":
        try:
            from lower_sp_clients.vim.linux import LinuxDriver
        except ImportError as error:
            raise DriverError(f"the linux driver needs the extra spbroker[linux]: {error}") from error
        return LinuxDriver(domain.replace(".", "-"), saps)
    raise DriverError(f"there is no driver {kind!r}")
