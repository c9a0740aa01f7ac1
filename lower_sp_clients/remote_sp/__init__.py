"""A lower SP over gRPC, as a Supplier."""

from lower_sp_clients.remote_sp.client import RemoteSp
from lower_sp_clients.remote_sp.session import ClientTls

__all__ = ["ClientTls", "RemoteSp"]
