"""Addresses of hosts, on either side."""

from __future__ import annotations

import ipaddress


def is_ipv6(host: str) -> bool:
    """Whether it is an IPv6 address, without brackets or port.

    >>> is_ipv6("::1"), is_ipv6("127.0.0.1"), is_ipv6("localhost")
    (True, False, False)
    """
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
