"""An association of ours hears every answer, and no silence, lie or garbage passes for one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.call import Patience
from dicomnode.errors import AssociationBroken, NoAssociation, PeerRejected
from dicomnode.part10 import DataSet, data_set_of, open_data_set
from dicomnode.peer import Peer
from dicomnode.requestor import VERIFICATION_OFFER, OutgoingAssociation
from tests.builders_dicom import write_ct_series
from tests.builders_receive import element, encoded_data_set, fragment, p_data
from tests.builders_requestor import ABORT_PDU, HANG_UP, HASTY, Heard, ScriptedPeer
from tests.builders_tls import Authority, peer_over_tls
from tests.peers import free_port, storescp

CT = frozenset({(CTImageStorage, ExplicitVRLittleEndian)})


@contextmanager
def association(peer: Peer, *, patience: Patience = HASTY, **options: object) -> Iterator[OutgoingAssociation]:
    one = OutgoingAssociation.open(peer, ae_title="DICOMNODE", offers=CT, patience=patience, **options)  # type: ignore[arg-type]
    try:
        yield one
        one.release()
    finally:
        one.abort()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT of 64 x 64."""
    (path,) = write_ct_series(tmp_path_factory.mktemp("ct"), slices=1)
    return path


def store(one: OutgoingAssociation, path: Path) -> int:
    with open_data_set(path) as data_set:
        return one.store(data_set)


@pytest.mark.parametrize("maximum_length", [0, 64, 4096, 4099, 131072, 2**32 - 1])
def test_the_stored_bytes_go_out_in_pdus_that_the_peer_can_take(image: Path, maximum_length: int) -> None:
    with ScriptedPeer(maximum_length=maximum_length) as pacs:
        with association(pacs.peer, patience=Patience()) as one:
            assert [store(one, image) for _ in range(3)] == [0, 0, 0]
        assert pacs.released == 1
    for heard in pacs.heard:
        assert heard.data_set == encoded_data_set(image)
        assert maximum_length == 0 or max(heard.pdu_lengths) <= maximum_length
    assert [heard.command[0x0110] for heard in pacs.heard] == [b"\x01\0", b"\x02\0", b"\x03\0"]


def in_fragments(heard: Heard) -> list[bytes]:
    """A response of three fragments: two in one PDU and the last alone, sent byte by byte."""
    command = heard.response()
    parts = [command[:7], command[7:40], command[40:]]
    pieces = [fragment(1 if part is not parts[-1] else 3, part, context_id=heard.context_id) for part in parts]
    whole = p_data(*pieces[:2]) + p_data(pieces[2])
    return [whole[at : at + 1] for at in range(len(whole))]


def with_more(heard: Heard) -> list[bytes]:
    """A response with elements that hold nothing, an error comment and a UID padded with blanks."""
    more = element(0x0901, b"") + element(0x0902, b"all is well ") + element(0x0903, b"")
    more += element(0x1000, heard.command[0x1000] + b" \0")
    return [p_data(fragment(3, heard.response(0xB000, more=more), context_id=heard.context_id))]


@pytest.mark.parametrize(("answer", "status"), [(in_fragments, 0x0000), (with_more, 0xB000)])
def test_a_response_is_heard_however_it_comes(image: Path, answer: Callable[[Heard], list[bytes]], status: int) -> None:
    with ScriptedPeer(answer) as pacs, association(pacs.peer, patience=Patience()) as one:
        assert [store(one, image), store(one, image)] == [status, status]


def said(command: bytes, flags: int = 3) -> bytes:
    return p_data(fragment(flags, command))


WRONG: dict[str, tuple[Callable[[Heard], list[bytes]], str]] = {
    "silence": (lambda heard: [b""], "did not answer instance .* within 0.4 s"),
    "hanging up": (lambda heard: HANG_UP, "closed the connection before it answered"),
    "half a response": (lambda heard: [heard.done()[0][:30]], "did not answer"),
    "half a response, and silence after each byte": (lambda heard: [b"\x04", b"\0", b"\0"], "did not answer"),
    "an abort": (lambda heard: [ABORT_PDU], r"aborted the association at instance .*unrecognised PDU"),
    "a wish to release": (lambda heard: [b"\x05\0\0\0\0\x04\0\0\0\0"], "asked to release"),
    "an oversize PDU": (lambda heard: [b"\x04\0\xff\xff\xff\xff"], "PDU of 4294967295 bytes"),
    "garbage": (lambda heard: [b"HTTP/1.1 400 Bad Request\r\n"], "unknown type 0x48"),
    "an A-ASSOCIATE-AC": (lambda heard: [b"\x02\0\0\0\0\x04\0\0\0\0"], "PDU of type 0x02"),
    "another message's response": (lambda heard: [said(heard.response(message_id=77))], "to message 77"),
    "another instance's response": (
        lambda heard: [said(heard.response(more=element(0x1000, b"1.2.3.4\0")))],
        "names another instance",
    ),
    "a request": (lambda heard: [said(element(0x0100, struct.pack("<H", 0x30)))], "command 0x0030 instead"),
    "a response without status": (lambda heard: [said(heard.response()[:-10])], "without"),
    "a data set": (lambda heard: [said(b"\0" * 8, flags=2)], "a fragment of a data set"),
    "a fragment longer than its PDU": (lambda heard: [b"\x04\0\0\0\0\x06\0\0\x10\0\x01\x03"], "longer than its PDU"),
    "endless command": (lambda heard: [said(bytes(60000), flags=1)] * 2, "command set of more than"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_answer_is_never_taken_for_one(image: Path, name: str) -> None:
    answer, words = WRONG[name]
    with ScriptedPeer(answer) as pacs, association(pacs.peer) as one:
        with pytest.raises(AssociationBroken, match=f"(?s)PACS at 127.*{words}"):
            store(one, image)
        assert not one.is_open
        with pytest.raises(AssociationBroken, match="has ended"):
            store(one, image)


def test_an_abort_inside_a_data_set_is_told(image: Path) -> None:
    meta, long = data_set_of(image.read_bytes()).meta, bytes(32 << 20)
    with (
        ScriptedPeer(abort_inside=3) as pacs,
        association(pacs.peer, patience=Patience()) as one,
        pytest.raises(AssociationBroken, match=r"aborted the association|closed the connection"),
    ):
        one.store(DataSet(meta, len(long), iter([memoryview(long)])))


def test_a_peer_that_takes_no_bytes_is_given_up(image: Path) -> None:
    meta, longer_than_any_buffer = data_set_of(image.read_bytes()).meta, bytes(32 << 20)
    data_set = DataSet(meta, len(longer_than_any_buffer), iter([memoryview(longer_than_any_buffer)]))
    with ScriptedPeer(takes_bytes=False) as pacs, association(pacs.peer) as one:
        with pytest.raises(AssociationBroken, match="too slowly or not at all"):
            one.store(data_set)
        assert not one.is_open
    assert pacs.heard == []


def test_a_file_that_changes_under_our_hands_ends_the_association_and_not_the_data_set(
    image: Path, tmp_path: Path
) -> None:
    content = image.read_bytes()
    with ScriptedPeer() as pacs, association(pacs.peer) as one:
        data_set = data_set_of(content)
        longer = DataSet(data_set.meta, data_set.length + 2, data_set.pieces)
        with pytest.raises(OSError, match="shrank while it was sent"):
            one.store(longer)
        assert not one.is_open
    assert pacs.heard == []


def test_what_the_peer_has_not_accepted_is_not_sent(image: Path) -> None:
    offers = CT | {(CTImageStorage, ImplicitVRLittleEndian)}
    with ScriptedPeer(refused=lambda syntax: syntax == ExplicitVRLittleEndian.encode()) as pacs:
        one = OutgoingAssociation.open(pacs.peer, ae_title="DICOMNODE", offers=offers, patience=HASTY)
        with pytest.raises(ValueError, match="encoded as the peer has not accepted it"):
            store(one, image)
        one.release()
    assert pacs.heard == [] and pacs.released == 1


def test_a_peer_that_accepts_no_context_has_rejected_it_and_is_left_in_order() -> None:
    with ScriptedPeer(refused=lambda syntax: True) as pacs:
        with pytest.raises(PeerRejected, match="accepts none of the offered"):
            OutgoingAssociation.open(pacs.peer, ae_title="DICOMNODE", offers=CT, patience=HASTY)
        assert pacs.released == 1


def test_an_echo_is_answered() -> None:
    with ScriptedPeer() as pacs:
        one = OutgoingAssociation.open(
            pacs.peer, ae_title="DICOMNODE", offers=frozenset({VERIFICATION_OFFER}), patience=HASTY
        )
        assert (one.echo(), one.echo(), one.answered) == (0, 0, 2)
        one.release()


@pytest.mark.peer
def test_over_tls_the_stored_bytes_arrive_and_a_wrong_certificate_gets_none_of_them(
    image: Path, tmp_path: Path
) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs", "Other CA")
    inbox, port = tmp_path / "inbox", free_port()
    inbox.mkdir()
    peer = peer_over_tls(port)
    with storescp(port, *ours.certified("pacs").dcmtk, "-od", str(inbox), "--bit-preserving"):
        with association(peer, patience=Patience(), identity=ours.certified("node").identity) as one:
            assert store(one, image) == 0
        with pytest.raises(NoAssociation, match="certificate is not accepted"):
            OutgoingAssociation.open(peer, ae_title="DICOMNODE", offers=CT, identity=theirs.certified("node").identity)
        elsewhere = peer_over_tls(port, tls_name="pacs.elsewhere.example")
        with pytest.raises(NoAssociation, match=r"certificate is not accepted.*mismatch"):
            OutgoingAssociation.open(
                elsewhere, ae_title="DICOMNODE", offers=CT, identity=ours.certified("node").identity
            )
        with pytest.raises(NoAssociation, match=r"no \[tls\] table"):
            OutgoingAssociation.open(peer, ae_title="DICOMNODE", offers=CT)
    (arrived,) = inbox.iterdir()
    assert encoded_data_set(arrived) == encoded_data_set(image)
