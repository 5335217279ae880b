"""TLS below the event-driven receive path: the handshake under its deadline, and the last words of a connection."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

LOOK_S, LINGER_S = 1.0, 1.0


def shake_hands(connection: ssl.SSLSocket, *, ends_at: float, given_up: Callable[[], bool]) -> None:
    """The peer is who its certificate says. ends_at: by the monotonic clock.

    Raises OSError: ssl.SSLError for what the peer sent, TimeoutError when it took too long or we have given up.
    """
    connection.setblocking(False)
    poller = select.poll()
    while True:
        try:
            connection.do_handshake()
            return
        except ssl.SSLWantReadError:
            poller.register(connection, select.POLLIN)
        except ssl.SSLWantWriteError:
            poller.register(connection, select.POLLOUT)
        left_s = ends_at - time.monotonic()
        if left_s <= 0 or given_up():
            raise TimeoutError
        poller.poll(min(left_s, LOOK_S) * 1000)


def end_politely(connection: socket.socket, *, given_up: Callable[[], bool]) -> None:
    """What the peer still says does not matter; it may read our last words, for a moment."""
    ends_at = time.monotonic() + LINGER_S
    poller = select.poll()
    with suppress(OSError):
        if connection.fileno() < 0:  # it was gone before the handshake could begin
            return
        poller.register(connection, select.POLLIN)
        if isinstance(connection, ssl.SSLSocket):
            connection.settimeout(0)
            with suppress(OSError, ValueError):  # we do not wait for the peer's close_notify (RFC 8446 6.1)
                connection.unwrap()
        connection.shutdown(socket.SHUT_WR)
        while (left_s := ends_at - time.monotonic()) > 0 and not given_up():
            if poller.poll(left_s * 1000) and not connection.recv(65536, socket.MSG_DONTWAIT):
                break
