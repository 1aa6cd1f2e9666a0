"""The address behind a host name."""

from __future__ import annotations


def find_address(host: str) -> str:
    """What to connect to: 127.0.0.1 for a name below `.localhost`, otherwise the name itself.

    Such a name is this machine (RFC 6761), which not every resolver implements.
    """
    return "127.0.0.1" if host.endswith(".localhost") else host
