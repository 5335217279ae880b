"""What we ask for is what pynetdicom reads; what a peer grants is taken only where it was offered so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_RQ

from dicomnode.contexts import ACCEPTED_STORAGE
from dicomnode.fast_pdu import PduFault
from dicomnode.negotiation import (
    LONGEST_TO_US,
    USUAL_MAXIMUM,
    abort,
    association_request,
    numbered_offers,
    read_acceptance,
    rejection,
)
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from tests.builders_requestor import acceptance

EXPLICIT, IMPLICIT = (CTImageStorage, ExplicitVRLittleEndian), (CTImageStorage, ImplicitVRLittleEndian)


def request(offers: set[tuple[str, str]]) -> tuple[dict[int, tuple[str, str]], bytes]:
    numbered = numbered_offers(offers)
    return numbered, association_request(numbered, calling="DICOMNODE", called="PACS")


def test_a_hundred_and_twenty_eight_contexts_are_asked_for_each_by_its_own_number() -> None:
    offers = {(sop_class, syntax) for sop_class in ACCEPTED_STORAGE[:64] for syntax in (EXPLICIT[1], IMPLICIT[1])}
    numbered, encoded = request(offers)
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(encoded)
    read = pdu.to_primitive()
    found = {one.context_id: (one.abstract_syntax, *one.transfer_syntax)
             for one in read.presentation_context_definition_list}  # fmt: skip
    assert found == numbered and sorted(found) == list(range(1, 256, 2)) and set(found.values()) == offers
    assert (read.calling_ae_title, read.called_ae_title) == ("DICOMNODE", "PACS")
    assert read.maximum_length_received == LONGEST_TO_US
    assert read.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert pdu.user_information.implementation_version_name == IMPLEMENTATION_VERSION_NAME
    with pytest.raises(ValueError, match="do not fit"):
        numbered_offers(offers | {("1.2.3", EXPLICIT[1])})


def test_only_what_was_granted_as_it_was_offered_can_be_used() -> None:
    numbered, encoded = request({EXPLICIT, IMPLICIT})
    body = acceptance(encoded[6:], maximum_length=4096, refused=lambda syntax: syntax == IMPLICIT[1].encode())[6:]
    agreed = read_acceptance(body, numbered)
    assert dict(agreed.contexts) == {EXPLICIT: 1} and agreed.maximum_length == 4096
    other_syntax = body.replace(EXPLICIT[1].encode(), b"1.2.840.10008.1.2.9")
    assert not read_acceptance(other_syntax, numbered).contexts
    not_offered = body.replace(b"\x21\0\0\x1b\x01", b"\x21\0\0\x1b\x05")
    assert not read_acceptance(not_offered, numbered).contexts


def test_a_peer_that_names_no_maximum_length_gets_the_usual_one() -> None:
    numbered, encoded = request({EXPLICIT})
    body = acceptance(encoded[6:], maximum_length=99)[6:].replace(b"\x51\0\0\x04", b"\x5f\0\0\x04")
    assert read_acceptance(body, numbered).maximum_length == USUAL_MAXIMUM


@given(st.data())
def test_a_damaged_acceptance_is_refused_or_grants_only_what_was_offered(data: st.DataObject) -> None:
    numbered, encoded = request({EXPLICIT, IMPLICIT})
    body = bytearray(acceptance(encoded[6:], maximum_length=4096)[6:])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        agreed = read_acceptance(bytes(body[: data.draw(st.integers(0, len(body)))]), numbered)
    except PduFault:
        return
    assert set(agreed.contexts.items()) <= {(offer, number) for number, offer in numbered.items()}


@given(st.binary(max_size=8))
def test_every_refusal_and_abort_has_words(body: bytes) -> None:
    assert rejection(body) and abort(body)
