"""The association's PDUs (PS3.8 9.3): what we ask for, what the peer agrees to, and its refusal in words."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)

from dicomnode.contexts import offered_contexts
from dicomnode.fast_pdu import PduFault
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
ASSOCIATE_AC, ASSOCIATE_RJ, RELEASE_RQ, RELEASE_RP, ABORT = 0x02, 0x03, 0x05, 0x06, 0x07
RELEASE_REQUEST = b"\x05\0\0\0\0\x04\0\0\0\0"
RELEASE_RESPONSE = b"\x06\0\0\0\0\x04\0\0\0\0"
ABORT_BY_US = b"\x07\0\0\0\0\x04\0\0\0\0"
LONGEST_TO_US = 1 << 16
"""Bytes of a PDU that a peer may send us; the answers to C-STORE and C-ECHO are a few hundred."""
LONGEST_ANSWER = 1 << 17
"""Bytes of an A-ASSOCIATE-AC: 128 contexts need some 5,000."""
USUAL_MAXIMUM = 16384
ITEM_HEAD = struct.Struct(">BxH")
ITEMS_AT, CONTEXT_HEAD = 68, 4
CONTEXT_RESULT, TRANSFER_SYNTAX, USER_INFORMATION, MAXIMUM_LENGTH = 0x21, 0x40, 0x50, 0x51

Offer = tuple[str, str]
"""(SOP class UID, transfer syntax UID)"""

RESULTS = {1: "rejected permanently", 2: "rejected for now"}
SOURCES = {1: "service user", 2: "service provider, ACSE", 3: "service provider, presentation"}
REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised: the peer must know ours",
    (1, 7): "called AE title not recognised: the peer calls itself otherwise",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
"""PS3.8 Table 9-21; (source, reason)."""
ABORT_SOURCES = {0: "service user", 2: "service provider"}
ABORT_REASONS = {
    1: "unrecognised PDU",
    2: "unexpected PDU",
    4: "unrecognised PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}
"""PS3.8 Table 9-26."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the peer agreed to: the presentation context of each offer it took, and its longest PDU (0: any)."""

    contexts: Mapping[Offer, int]
    maximum_length: int


def association_request(
    numbered: Mapping[int, Offer], *, calling: str, called: str, takes: Iterable[str] = ()
) -> bytes:
    """The A-ASSOCIATE-RQ PDU; each offer stands in a presentation context of its own.

    takes: SOP classes whose instances the peer is to send us over this association, as C-GET does (PS3.7 D.3.3.4).
    """
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    contexts = offered_contexts(numbered.values())
    for context, number in zip(contexts, numbered, strict=True):
        context.context_id = number
    primitive.presentation_context_definition_list = contexts
    length, implementation, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = LONGEST_TO_US
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    primitive.user_information = [length, implementation, version]
    for sop_class_uid in sorted(takes):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = sop_class_uid, False, True
        primitive.user_information.append(role)
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def numbered_offers(offers: Iterable[Offer]) -> dict[int, Offer]:
    """Presentation context ID -> offer, in the order of `offered_contexts`; raises ValueError for over 128."""
    contexts = offered_contexts(offers)
    pairs = ((str(context.abstract_syntax), str(context.transfer_syntax[0])) for context in contexts)
    return {2 * place + 1: pair for place, pair in enumerate(pairs)}


def read_acceptance(body: bytes, numbered: Mapping[int, Offer]) -> Agreed:
    """What an A-ASSOCIATE-AC grants. Raises PduFault when it cannot be read.

    pynetdicom would raise at an item that it does not know, which is to be passed over (PS3.8 9.3.1).
    A context that was not offered, or is granted in another transfer syntax, is as good as refused.
    """
    answered: set[int] = set()
    granted: set[tuple[int, str]] = set()
    maximum_length = USUAL_MAXIMUM
    for kind, content in _items(body, ITEMS_AT):
        if kind == CONTEXT_RESULT and len(content) >= CONTEXT_HEAD:
            answered.add(content[0])
            syntaxes = [value for sub, value in _items(content, CONTEXT_HEAD) if sub == TRANSFER_SYNTAX]
            if content[2] == 0 and len(syntaxes) == 1:
                granted.add((content[0], syntaxes[0].rstrip(b"\0 ").decode("ascii", "replace")))
        elif kind == USER_INFORMATION:
            for sub, value in _items(content, 0):
                if sub == MAXIMUM_LENGTH and len(value) == 4:
                    maximum_length = int.from_bytes(value, "big")
    if answered.isdisjoint(numbered):  # no answer at all is not a refusal, which would be final
        raise PduFault("an A-ASSOCIATE-AC that speaks of none of the offered presentation contexts")
    contexts = {offer: number for number, offer in numbered.items() if (number, offer[1]) in granted}
    return Agreed(contexts, maximum_length)


def _items(octets: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Type and content of each item (PS3.8 9.3.1); those of unknown type are the reader's to pass over."""
    while at < len(octets):
        if len(octets) - at < ITEM_HEAD.size:
            raise PduFault("an A-ASSOCIATE-AC that ends inside an item")
        kind, length = ITEM_HEAD.unpack_from(octets, at)
        at += ITEM_HEAD.size
        if length > len(octets) - at:
            raise PduFault("an A-ASSOCIATE-AC with an item that is longer than it")
        yield kind, octets[at : at + length]
        at += length


def rejection(body: bytes) -> str:
    """An A-ASSOCIATE-RJ in words: result, source and reason (PS3.8 Table 9-21)."""
    result, source, reason = (body + bytes(4))[1:4]
    why = REASONS.get((source, reason), f"reason {reason}")
    return f"{RESULTS.get(result, f'result {result}')} ({SOURCES.get(source, f'source {source}')}): {why}"


def abort(body: bytes) -> str:
    """An A-ABORT in words: who aborted and why."""
    source, reason = (body + bytes(4))[2:4]
    who = ABORT_SOURCES.get(source, f"source {source}")
    return f"{who}: {ABORT_REASONS.get(reason, f'reason {reason}')}" if source == 2 and reason else who
