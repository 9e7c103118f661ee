"""Ports that nobody listens on."""

import socket


def free_ports(count: int, also: int = 0) -> list[int]:
    """So many free ports of 127.0.0.1; with `also`, the one that much higher is free too."""
    found: list[int] = []
    for port in range(21_000, 31_000):
        if all(is_free(p) for p in {port, port + also}):
            found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("no free ports on 127.0.0.1")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
