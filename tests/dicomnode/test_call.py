"""A call that fails says how, in words that an operator can act on."""

from __future__ import annotations

import socket
import threading

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicomnode.call import call_peer
from dicomnode.errors import NoAssociation
from dicomnode.peer import Peer
from tests.builders_requestor import ABORT_PDU, HASTY, ScriptedPeer
from tests.peers import free_port

CT = frozenset({(CTImageStorage, ExplicitVRLittleEndian)})


def test_a_call_that_is_taken_gives_contexts_and_the_longest_pdu() -> None:
    with ScriptedPeer(maximum_length=28672) as pacs:
        call = call_peer(pacs.peer, ae_title="DICOMNODE", offers=CT, identity=None, patience=HASTY)
        assert dict(call.agreed.contexts) == {next(iter(CT)): 1} and call.agreed.maximum_length == 28672
        assert call.wire.silent and call.where == f"PACS at 127.0.0.1:{pacs.peer.port}"
        call.wire.close()


def test_a_maximum_length_that_no_fragment_fits_is_no_association() -> None:
    with ScriptedPeer(maximum_length=7) as pacs, pytest.raises(NoAssociation, match="maximum length of 7 bytes"):
        call_peer(pacs.peer, ae_title="DICOMNODE", offers=CT, identity=None, patience=HASTY)


@pytest.mark.parametrize(
    ("welcome", "words"),
    [
        (b"\x03\0\0\0\0\x04\0\x01\x01\x03", r"rejected permanently \(service user\): calling AE title not recognised"),
        (b"\x03\0\0\0\0\x04\0\x01\x01\x07", "called AE title not recognised"),
        (b"\x03\0\0\0\0\x04\0\x02\x03\x01", r"rejected for now \(service provider, presentation\): temporary congest"),
        (b"\x03\0\0\0\0\x04\0\x09\x09\x09", r"result 9 \(source 9\): reason 9"),
        (b"\x03\0\0\0\0\0", "refused the association"),
        (ABORT_PDU, "aborted the association while it was negotiated"),
        (b"\x05\0\0\0\0\x04\0\0\0\0", "PDU of type 0x05"),
        (b"\x02\0\0\0\0\x04\0\0\0\0", "speaks of none of the offered"),
        (b"\x02\0\0\0\0\x48" + bytes(68) + b"\x21\0\xff\xff", "item that is longer than it"),
        (b"\x02\0\x7f\xff\xff\xff", "PDU of 2147483647 bytes"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "unknown type 0x53"),
        (b"\x02\0\0\0", "did not answer the association request within 0.4 s"),
        (b"", "did not answer the association request within 0.4 s"),
    ],
)
def test_no_association_says_how_it_was_refused(welcome: bytes, words: str) -> None:
    with ScriptedPeer(welcome=welcome) as pacs, pytest.raises(NoAssociation, match=f"PACS at 127.*{words}"):
        call_peer(pacs.peer, ae_title="DICOMNODE", offers=CT, identity=None, patience=HASTY)


@pytest.mark.parametrize(
    ("welcome", "advice"),
    [
        (b"\x03\0\0\0\0\x04\0\x01\x01\x03", "check there that our AE title DICOMNODE and our address are known"),
        (b"\x03\0\0\0\0\x04\0\x01\x01\x07", "here that its AE title is right"),
        (b"\x03\0\0\0\0\x04\0\x02\x03\x01", "temporary congestion; look at its log"),
        (ABORT_PDU, "our AE title DICOMNODE"),
    ],
)
def test_no_association_says_what_to_look_at(welcome: bytes, advice: str) -> None:
    with ScriptedPeer(welcome=welcome) as pacs, pytest.raises(NoAssociation, match=advice):
        call_peer(pacs.peer, ae_title="DICOMNODE", offers=CT, identity=None, patience=HASTY)


def test_a_peer_that_hangs_up_at_once_is_told_apart_from_one_that_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = threading.Thread(target=lambda: listener.accept()[0].close())
        other.start()
        peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=listener.getsockname()[1])
        with pytest.raises(NoAssociation, match=r"closed the connection .* with or without TLS"):
            call_peer(peer, ae_title="DICOMNODE", offers=CT, identity=None, patience=HASTY)
        other.join(10)


def test_nobody_there_is_said_so() -> None:
    nobody = Peer(name="nobody", ae_title="NOBODY", host="127.0.0.1", port=free_port())
    with pytest.raises(NoAssociation, match=r"NOBODY at 127.0.0.1.*Connection refused; is it running"):
        call_peer(nobody, ae_title="DICOMNODE", offers=CT, identity=None, patience=HASTY)
