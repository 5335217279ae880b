"""What systemd is told (sd_notify(3)): ready, stopping, still alive; nothing where nobody listens."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def notify(state: str, *, environment: Mapping[str, str] | None = None) -> bool:
    """Whether somebody was told: READY=1, STOPPING=1, WATCHDOG=1."""
    address = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
            told.settimeout(1.0)
            told.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError:  # systemd is gone or busy: no reason to stop
        return False
    return True


def watchdog_s(*, environment: Mapping[str, str] | None = None) -> float | None:
    """How often systemd wants to hear WATCHDOG=1, at half its limit; None when it does not ask this process."""
    given = os.environ if environment is None else environment
    limit, asked = given.get("WATCHDOG_USEC", ""), given.get("WATCHDOG_PID", "")
    if not limit.isdigit() or int(limit) == 0 or (asked and asked != str(os.getpid())):
        return None
    return int(limit) / 2_000_000
