"""An association of ours ends in order, whoever asks first, and its messages have numbers that a US can hold."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from dicomnode.association import OpenedAssociation
from dicomnode.call import Call
from dicomnode.errors import AssociationBroken
from dicomnode.fast_pdu import PduFault
from dicomnode.negotiation import ABORT, RELEASE_RQ, Agreed
from dicomnode.wire import Wire
from tests.builders_requestor import ABORT_PDU, HASTY

WISH, CONSENT = b"\x05\0\0\0\0\x04\0\0\0\0", b"\x06\0\0\0\0\x04\0\0\0\0"


class Ends:
    """Both ends of an association: ours, and what the peer does with its connection."""

    def __init__(self, peer: Callable[[socket.socket], None]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            wire = Wire.connect("127.0.0.1", port, connect_s=5, stall_s=5, tls=None, tls_name="")
            theirs, _ = listener.accept()
        theirs.settimeout(10)
        self.ours = OpenedAssociation(Call(wire, Agreed({}, 16384), "PACS at there"), patience=HASTY)
        self.heard: list[bytes] = []

        def serve() -> None:
            with theirs:
                peer(theirs)
                while octets := theirs.recv(100):
                    self.heard.append(octets)

        self._thread = threading.Thread(target=serve)
        self._thread.start()

    def ended(self) -> bytes:
        """What the peer heard until the connection was closed."""
        self._thread.join(10)
        return b"".join(self.heard)


def test_a_wish_to_release_that_crosses_ours_is_answered_and_ours_is_waited_for() -> None:
    """PS3.8 7.2.2.7."""

    def crosses(connection: socket.socket) -> None:
        assert connection.recv(100) == WISH
        connection.sendall(WISH)
        assert connection.recv(100) == CONSENT
        connection.sendall(CONSENT)

    ends = Ends(crosses)
    ends.ours.release()
    assert ends.ended() == b"" and not ends.ours.is_open
    ends.ours.release()
    ends.ours.abort()


def test_a_peer_that_does_not_consent_in_time_is_left() -> None:
    ends = Ends(lambda connection: None)
    ends.ours.release()
    assert ends.ended() == WISH


def test_an_abort_is_said_once() -> None:
    ends = Ends(lambda connection: None)
    ends.ours.abort()
    ends.ours.abort()
    assert ends.ended()[:1] == b"\x07" and len(ends.heard) == 1


def test_message_numbers_begin_again_at_one() -> None:
    ends = Ends(lambda connection: None)
    numbers = [ends.ours._next_id() for _ in range(0x10001)]
    ends.ours.abort()
    assert numbers[:2] == [1, 2] and numbers[-3:] == [0xFFFF, 1, 2]
    assert max(numbers) == 0xFFFF and min(numbers) == 1


@pytest.mark.parametrize(
    ("kind", "body", "fault", "words"),
    [
        (ABORT, ABORT_PDU[6:], AssociationBroken, "aborted the association at C-FIND"),
        (RELEASE_RQ, bytes(4), AssociationBroken, "asked to release the association before it answered C-FIND"),
        (0x01, b"", PduFault, "0x01"),
    ],
)
def test_what_comes_in_the_place_of_an_answer_is_said(
    kind: int, body: bytes, fault: type[Exception], words: str
) -> None:
    ends = Ends(lambda connection: None)
    with pytest.raises(fault, match=words):
        ends.ours._ended(kind, body, "C-FIND")
    ends.ours.abort()
    ends.ended()
