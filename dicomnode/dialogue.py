"""C-FIND, C-MOVE and C-GET over an association that we opened: the question goes out, answers come until the last."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from dicomnode.association import OpenedAssociation
from dicomnode.call import Call, Patience, call_peer, ending
from dicomnode.errors import AssociationBroken, PeerRejected
from dicomnode.fast_message import StoreSink
from dicomnode.fast_pdu import (
    IS_COMMAND,
    IS_LAST,
    LONGEST_COMMAND,
    P_DATA_TF,
    PDV_HEAD,
    Command,
    PduFault,
    StoreRequest,
    cancel_request,
    cut,
    query_request,
    read_command,
    store_response,
)
from dicomnode.negotiation import LONGEST_TO_US, Offer
from dicomnode.peer import Peer
from dicomnode.question import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dicomnode.tls import TlsIdentity

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
LONGEST_IDENTIFIER = 1 << 20
"""Bytes of one answer's data set; those of PACS are some hundred."""
SERVICE = {STUDY_ROOT_FIND: "C-FIND", STUDY_ROOT_MOVE: "C-MOVE", STUDY_ROOT_GET: "C-GET"}
PENDING = frozenset({0xFF00, 0xFF01})
_REMAINING, _COMPLETED, _FAILED, _WARNING = 0x1020, 0x1021, 0x1022, 0x1023


class Ask(IntEnum):
    """What is asked for: the command fields of PS3.7 E.1."""

    GET = 0x0010
    FIND = 0x0020
    MOVE = 0x0021


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its status, its data set, and how many sub-operations were said to remain, succeed and fail."""

    status: int
    identifier: Dataset | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warnings: int | None = None

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after it."""
        return self.status not in PENDING


OpenStore = Callable[[StoreRequest, str], StoreSink]
"""(request, transfer syntax UID) -> where the instance goes that a C-GET brings."""


class Dialogue(OpenedAssociation):
    """One association for questions."""

    def __init__(self, call: Call, *, ae_title: str, patience: Patience) -> None:
        """ae_title: by which the peer knows us, or does not."""
        super().__init__(call, patience=patience)
        self._syntaxes = {number: offer[1] for offer, number in call.agreed.contexts.items()}
        self._fragments: deque[tuple[int, int, memoryview]] = deque()
        self._context_id = 0
        # Nearly always the reason why a peer hangs up on a question: Orthanc, for one, aborts without a word.
        self._advice = f"check that it knows our AE title {ae_title} and our address and lets us ask; look at its log"

    @classmethod
    def open(
        cls,
        peer: Peer,
        model: str,
        *,
        ae_title: str,
        takes: frozenset[Offer] = frozenset(),
        identity: TlsIdentity | None = None,
        patience: Patience | None = None,
    ) -> Dialogue:
        """An association for that information model; takes: what a C-GET may bring.

        Raises NoAssociation saying how it was refused, PeerRejected when the peer does not know the model.
        """
        patience = patience or Patience()
        offers = frozenset({(model, EXPLICIT), (model, IMPLICIT)}) | takes
        roles = frozenset(sop_class_uid for sop_class_uid, _ in takes)
        call = call_peer(peer, ae_title=ae_title, offers=offers, identity=identity, patience=patience, takes=roles)
        dialogue = cls(call, ae_title=ae_title, patience=patience)
        if not {(model, EXPLICIT), (model, IMPLICIT)} & call.agreed.contexts.keys():
            dialogue.release()
            raise PeerRejected(
                f"{dialogue.where} does not offer {SERVICE.get(model, 'this query/retrieve service')}; "
                f"look at what its settings allow our AE title {ae_title}"
            )
        return dialogue

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, kind: object, fault: object, at: object) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def ask(
        self,
        what: Ask,
        model: str,
        identifier: Dataset,
        *,
        destination: str | None = None,
        store: OpenStore | None = None,
    ) -> Iterator[Answer]:
        """Each answer as it comes, the last one included; destination: of C-MOVE; store: of C-GET.

        Raises AssociationBroken when there is no answer in time or it cannot be understood.
        """
        syntax = EXPLICIT if (model, EXPLICIT) in self.contexts else IMPLICIT
        self._context_id = context_id = self.contexts[model, syntax]
        request = query_request(self._next_id(), model, field=what, destination=destination)
        encoded = encode(identifier, is_implicit=syntax == IMPLICIT)
        name = f"C-{what.name}"
        with self._faults(name):
            parts = cut(request, context_id=context_id, flags=IS_COMMAND | IS_LAST, longest=self._longest)
            self._wire.send(parts + cut(encoded, context_id=context_id, flags=IS_LAST, longest=self._longest))
        while True:
            with self._faults(name):
                answer = self._answer(read_command(request), store, name)
            yield answer
            if answer.is_last:
                return

    def cancel(self) -> None:
        """The peer is asked to stop answering the question; its last answer still comes (PS3.4 C.4.1.3.1)."""
        request = cancel_request(self._message_id)
        with self._faults("C-CANCEL"):
            self._wire.send(
                cut(request, context_id=self._context_id, flags=IS_COMMAND | IS_LAST, longest=self._longest)
            )

    def _answer(self, request: Command, store: OpenStore | None, name: str) -> Answer:
        """The next answer; instances that come before it are taken and answered."""
        while True:
            number, command, data_set = self._message(store, name)
            if data_set is None:
                continue  # an instance, answered already
            identifier = decode(data_set, is_implicit=self._syntaxes[number] == IMPLICIT) if data_set else None
            counts = (command.count(element) for element in (_REMAINING, _COMPLETED, _FAILED, _WARNING))
            return Answer(command.answered_by(request), identifier, *counts)

    def _message(self, store: OpenStore | None, name: str) -> tuple[int, Command, bytes | None]:
        """Presentation context, command and data set of the next message; None as data set: it was an instance."""
        encoded, data_set = bytearray(), bytearray()
        command: Command | None = None
        sink: StoreSink | None = None
        whole = False
        try:
            while True:
                number, flags, piece = self._fragment(name)
                if bool(flags & IS_COMMAND) != (command is None):
                    raise PduFault("fragments of command and data set in the wrong order")
                if command is None:
                    encoded += piece
                    if len(encoded) > LONGEST_COMMAND:
                        raise PduFault(f"a command set of more than {LONGEST_COMMAND} bytes")
                    if flags & IS_LAST:
                        command = read_command(_without_tail(bytes(encoded)))
                        if command.is_store and store is not None:
                            sink = store(command.store_request(), self._syntaxes[number])
                        elif not command.has_data_set:
                            return number, command, b""
                    continue
                if sink is not None:
                    sink.take(piece)
                else:
                    data_set += piece
                    if len(data_set) > LONGEST_IDENTIFIER:
                        raise PduFault(f"a data set of more than {LONGEST_IDENTIFIER} bytes")
                if flags & IS_LAST:
                    break
            if sink is None:
                return number, command, bytes(data_set)
            whole = True
            self._wire.send([store_response(number, command.store_request(), sink.finish())])
            return number, command, None
        finally:
            if sink is not None and not whole:
                sink.drop()

    def _fragment(self, name: str) -> tuple[int, int, memoryview]:
        """Presentation context, flags and content of the next fragment."""
        while not self._fragments:
            kind, body = self._wire.read_pdu(longest=LONGEST_TO_US, within_s=self._patience.answer_s)
            if kind != P_DATA_TF:
                self._ended(kind, body, name)
            self._fragments.extend(_cut_up(body))
        number, flags, piece = self._fragments.popleft()
        if number not in self._syntaxes:
            raise PduFault(f"a fragment of presentation context {number}, which was not agreed on")
        return number, flags, piece

    @contextlib.contextmanager
    def _faults(self, name: str) -> Iterator[None]:
        """AssociationBroken, in words, for what goes wrong on the wire; the association is aborted then."""
        try:
            yield
        except TimeoutError as fault:
            self.abort()
            silence = f"did not answer {name} within {self._patience.answer_s:g} s; look at its log"
            raise AssociationBroken(f"{self.where} {silence}") from fault
        except PduFault as fault:
            self.abort()
            raise AssociationBroken(f"{self.where} answered {name} with {fault}") from fault
        except OSError as fault:
            self.abort()
            broke = f"{self.where} {ending(fault)} before it answered {name}"
            raise AssociationBroken(f"{broke}; {self._advice}") from fault
        except AssociationBroken as fault:
            self.abort()
            raise AssociationBroken(f"{fault}; {self._advice}") from fault
        except BaseException:
            self.abort()
            raise


def _without_tail(encoded: bytes) -> bytes:
    """The command set as long as its group length says.

    Orthanc 1.10 puts the list of failed instances behind it, where a data set has no place: the counts are enough.
    """
    if encoded[:8] == b"\0\0\0\0\x04\0\0\0":
        return encoded[: 12 + int.from_bytes(encoded[8:12], "little")]
    return encoded


def _cut_up(body: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """The fragments of a P-DATA-TF PDU (PS3.8 9.3.5)."""
    view, at = memoryview(body), 0
    while at < len(body):
        if len(body) - at < PDV_HEAD.size:
            raise PduFault("a P-DATA PDU that ends inside the head of a fragment")
        length, number, flags = PDV_HEAD.unpack_from(body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise PduFault("a fragment that is longer than its PDU")
        yield number, flags, view[at + PDV_HEAD.size : end]
        at = end


def encode(identifier: Dataset, *, is_implicit: bool) -> bytes:
    """The identifier's bytes, little endian."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, is_implicit
    write_dataset(file, identifier)
    return file.getvalue()


def decode(encoded: bytes, *, is_implicit: bool) -> Dataset:
    """The identifier of an answer. Raises PduFault when it is none."""
    try:
        return read_dataset(BytesIO(encoded), is_implicit, True)
    except Exception as fault:  # hostile bytes make pydicom raise nearly anything; all of it means the same here
        raise PduFault(f"a data set that cannot be read ({type(fault).__name__})") from fault
