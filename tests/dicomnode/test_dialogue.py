"""Answers are read however they are cut, and whatever cannot be one ends the association with words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from pydicom.dataset import Dataset

from dicomnode.dialogue import EXPLICIT, IMPLICIT, Answer, Ask, Dialogue, decode, encode
from dicomnode.errors import AssociationBroken, PeerRejected
from dicomnode.fast_pdu import PduFault
from dicomnode.question import STUDY_ROOT_FIND, Question, study_identifier
from tests.builders_receive import element, fragment, p_data
from tests.builders_requestor import ABORT_PDU, HANG_UP, HASTY, Heard, ScriptedPeer


def found(patient: str) -> bytes:
    """An answer's identifier."""
    identifier = Dataset()
    identifier.PatientID = patient
    return encode(identifier, is_implicit=False)


def pending(heard: Heard) -> bytes:
    """The command set of an answer with a data set."""
    command = heard.response(0xFF00)
    return command.replace(element(0x0800, b"\x01\x01"), element(0x0800, b"\x00\x00"))


def in_one_pdu(heard: Heard) -> list[bytes]:
    number = heard.context_id
    both = fragment(3, pending(heard), context_id=number) + fragment(2, found("4711"), context_id=number)
    return [p_data(both), *heard.done()]


def in_many_pdus(heard: Heard) -> list[bytes]:
    number, command, identifier = heard.context_id, pending(heard), found("4711")
    pieces = [fragment(1, command[:9], context_id=number), fragment(3, command[9:], context_id=number)]
    pieces += [fragment(0, identifier[:5], context_id=number), fragment(2, identifier[5:], context_id=number)]
    return [*map(p_data, pieces), *heard.done()]


def all_answers_in_one_pdu(heard: Heard) -> list[bytes]:
    number = heard.context_id
    both = fragment(3, pending(heard), context_id=number) + fragment(2, found("4711"), context_id=number)
    return [p_data(both + fragment(3, heard.response(), context_id=number))]


def with_a_tail(heard: Heard) -> list[bytes]:
    """As Orthanc 1.10 sends the failed instances of a C-GET."""
    number = heard.context_id
    both = fragment(3, pending(heard), context_id=number) + fragment(2, found("4711"), context_id=number)
    last = heard.response() + b"\x08\0\x58\0\x02\0\0\x001\0"
    return [p_data(both), p_data(fragment(3, last, context_id=number))]


def ask(scripted: ScriptedPeer) -> list[Answer]:
    with Dialogue.open(scripted.peer, STUDY_ROOT_FIND, ae_title="DICOMNODE", patience=HASTY) as dialogue:
        return list(dialogue.ask(Ask.FIND, STUDY_ROOT_FIND, study_identifier(Question())))


@pytest.mark.parametrize("answer", [in_one_pdu, in_many_pdus, all_answers_in_one_pdu, with_a_tail])
def test_answers_are_read_however_they_are_cut(answer: Callable[[Heard], Sequence[bytes]]) -> None:
    with ScriptedPeer(answer) as scripted:
        first, last = ask(scripted)
    assert (first.status, first.is_last, last.status, last.is_last) == (0xFF00, False, 0x0000, True)
    assert first.identifier is not None and first.identifier.PatientID == "4711"


def test_counts_of_sub_operations_are_read_where_the_peer_gives_them() -> None:
    def answer(heard: Heard) -> list[bytes]:
        counts = b"".join(element(number, bytes((number & 0xF, 0))) for number in (0x1020, 0x1021, 0x1022, 0x1023))
        return [p_data(fragment(3, heard.response(more=counts), context_id=heard.context_id))]

    with ScriptedPeer(answer) as scripted:
        (last,) = ask(scripted)
    assert (last.remaining, last.completed, last.failed, last.warnings) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda heard: [ABORT_PDU], "aborted the association at C-FIND .*knows our AE title DICOMNODE and our address"),
        (lambda heard: [b"\x05\0\0\0\0\x04\0\0\0\0"], "release"),
        (lambda heard: HANG_UP, "closed the connection before it answered C-FIND; check that it knows our AE title"),
        (lambda heard: [b""], "did not answer C-FIND within"),
        (lambda heard: [p_data(fragment(3, heard.response(message_id=99), context_id=heard.context_id))], "99"),
        (lambda heard: [p_data(fragment(3, heard.response(), context_id=77))], "not agreed on"),
        (lambda heard: [p_data(fragment(2, b"\0\0", context_id=heard.context_id))], "wrong order"),
        (lambda heard: [p_data(b"\0\0\0\x09" + b"\x01\x03")], "longer than its PDU"),
        (lambda heard: [p_data(fragment(1, bytes(16000), context_id=heard.context_id))] * 5, "command set of more"),
    ],
    ids=[
        "abort",
        "release",
        "hangs up",
        "silence",
        "other message",
        "other context",
        "order",
        "lying length",
        "endless",
    ],
)
def test_what_is_no_answer_ends_the_association_in_words(answer: Callable[[Heard], list[bytes]], words: str) -> None:
    with ScriptedPeer(answer) as scripted, pytest.raises(AssociationBroken, match=words):
        ask(scripted)


def test_an_identifier_without_end_is_not_taken_into_memory() -> None:
    def answer(heard: Heard) -> list[bytes]:
        piece = p_data(fragment(0, bytes(60000), context_id=heard.context_id))
        return [p_data(fragment(3, pending(heard), context_id=heard.context_id)), *[piece] * 20]

    with ScriptedPeer(answer) as scripted, pytest.raises(AssociationBroken, match="a data set of more than"):
        ask(scripted)


def test_a_peer_without_the_service_is_told_apart_from_one_that_is_away() -> None:
    with (
        ScriptedPeer(refused=lambda syntax: True) as scripted,
        pytest.raises(PeerRejected, match=r"does not offer C-FIND.*DICOMNODE"),
    ):
        ask(scripted)


def test_implicit_vr_is_spoken_where_the_peer_takes_nothing_else() -> None:
    with ScriptedPeer(refused=lambda syntax: syntax == EXPLICIT.encode()) as scripted:
        assert [answer.status for answer in ask(scripted)] == [0x0000]
        heard = scripted.heard[0]
    assert decode(heard.data_set, is_implicit=True).QueryRetrieveLevel == "STUDY"
    assert IMPLICIT != EXPLICIT


def test_hostile_bytes_are_a_fault_of_the_peer() -> None:
    with pytest.raises(PduFault, match="cannot be read"):
        decode(b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 5000, is_implicit=False)
