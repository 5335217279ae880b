"""A handshake ends in time whatever the peer does, and the last words of a connection can be read."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from dicomnode.fast_tls import end_politely, shake_hands
from dicomnode.tls import client_context, server_context
from tests.builders_tls import Authority, peer_over_tls


@pytest.fixture
def ends(authority: Authority) -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """Our end of a connection, before its handshake, and the caller's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname(), timeout=20)
        accepted, _ = listener.accept()
    context = server_context(authority.certified("node").identity, clients_required=True)
    ours = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
    yield ours, caller
    ours.close()
    caller.close()


def never() -> bool:
    return False


def test_a_handshake_goes_through_however_slowly_within_its_time(
    ends: tuple[ssl.SSLSocket, socket.socket], authority: Authority
) -> None:
    ours, caller = ends
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context(authority.certified("scanner").identity, peer_over_tls(1))
    speaker = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def speak_slowly() -> None:
        while True:
            with suppress(ssl.SSLWantReadError):
                speaker.do_handshake()
            octets = outgoing.read()
            for at in range(0, len(octets), 200):
                caller.sendall(octets[at : at + 200])
                time.sleep(0.01)
            if speaker.version() and speaker.getpeercert():
                return
            incoming.write(caller.recv(65536))

    slow = threading.Thread(target=speak_slowly)
    slow.start()
    shake_hands(ours, ends_at=time.monotonic() + 20, given_up=never)
    slow.join(20)
    assert ours.getpeercert()


@pytest.mark.parametrize("octets", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "half a hello"])
def test_a_handshake_that_does_not_end_is_given_up_at_its_time(
    ends: tuple[ssl.SSLSocket, socket.socket], octets: bytes
) -> None:
    ours, caller = ends
    caller.sendall(octets)
    with pytest.raises(TimeoutError):
        shake_hands(ours, ends_at=time.monotonic() + 0.2, given_up=never)


def test_a_handshake_is_given_up_when_the_node_stops(ends: tuple[ssl.SSLSocket, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        shake_hands(ends[0], ends_at=time.monotonic() + 60, given_up=lambda: True)


def test_a_caller_that_goes_away_ends_the_handshake(ends: tuple[ssl.SSLSocket, socket.socket]) -> None:
    ours, caller = ends
    caller.close()
    with pytest.raises(OSError):
        shake_hands(ours, ends_at=time.monotonic() + 60, given_up=never)


def test_our_last_words_are_read_though_the_caller_has_said_what_nobody_read(
    ends: tuple[ssl.SSLSocket, socket.socket], authority: Authority
) -> None:
    ours, plain = ends
    context = client_context(authority.certified("scanner").identity, peer_over_tls(1))
    shaking = threading.Thread(
        target=shake_hands, args=(ours,), kwargs={"ends_at": time.monotonic() + 20, "given_up": never}
    )
    shaking.start()
    caller = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
    shaking.join(20)
    caller.sendall(bytes(100_000))
    ours.settimeout(20)
    ours.sendall(b"last words")
    ending = threading.Thread(target=end_politely, args=(ours,), kwargs={"given_up": never})
    ending.start()
    # The end itself is said too, by a close_notify: without it this would raise SSLEOFError.
    assert caller.recv(100) + caller.recv(100) == b"last words"
    caller.close()
    ending.join(20)
    assert not ending.is_alive()


def test_a_caller_that_was_gone_before_its_handshake_is_no_fault(ends: tuple[ssl.SSLSocket, socket.socket]) -> None:
    """A connection that was reset: wrapping it failed, and the socket has given its descriptor away."""
    gone = ends[1].dup()
    gone.close()
    end_politely(gone, given_up=never)
    assert gone.fileno() == -1
