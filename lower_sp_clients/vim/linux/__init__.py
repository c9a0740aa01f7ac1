"""A domain built on one Linux kernel: network namespaces, veth, bridges, VXLAN, nftables, traffic control."""

from lower_sp_clients.vim.linux.driver import LinuxDriver

__all__ = ["LinuxDriver"]
