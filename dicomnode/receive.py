"""C-STORE in: an instance is durable before its sender hears success."""

from __future__ import annotations

import io
import logging
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association

from dicomnode.contexts import accepted_contexts
from dicomnode.errors import DatasetUnfit
from dicomnode.peer import Peer
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.errors import InstanceConflict, StorageFull
from storage.instance_files import InstanceFiles

LOG = logging.getLogger(__name__)
_config.LOG_HANDLER_LEVEL = "none"  # its own log of every PDU costs 11-18 % and holds patients' names

Happening = Callable[[str, str, Mapping[str, Any]], None]
"""Told of what the audit must know: (event, peer, details)."""

SERIES_INSTANCE_UID_TAG = 0x0020000E
PEEK_BYTES = 1 << 20
REFUSAL_ROW_S = 60.0
UID_FORM = re.compile(r"[0-9]+(\.[0-9]+)*")
NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

SUCCESS, NOT_AUTHORISED, DUPLICATE = 0x0000, 0x0124, 0x0111
OUT_OF_RESOURCES, DATASET_DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0xA700, 0xA900, 0xC000
FAULT_STATUS: Mapping[type[Exception], int] = {
    StorageFull: OUT_OF_RESOURCES,
    InstanceConflict: DUPLICATE,
    DatasetUnfit: DATASET_DOES_NOT_MATCH,
}
"""PS3.4 Table B.2-1: the only place where a fault becomes a C-STORE status; what is not named is 0xC000."""
CONFLICT_STATUS: Mapping[str, int] = {"duplicate": DUPLICATE, "success": SUCCESS}
"""What `conflict_status` of node.toml means; success is for senders that stop at a refusal."""


@dataclass(slots=True)
class _Caller:
    """Who is at the other end of an association, and how many of its instances were kept and refused."""

    name: str
    peer: Peer
    kept: int = 0
    refused: int = 0
    unauthorised: int = 0


class Receiver:
    """The C-ECHO and C-STORE provider on one port."""

    def __init__(
        self,
        *,
        ae_title: str,
        peers: Mapping[str, Peer],
        files: InstanceFiles,
        arrived: threading.Event,
        happened: Happening,
        maximum_associations: int,
        maximum_pdu: int,
        idle_s: float,
        conflict_status: int = DUPLICATE,
    ) -> None:
        """arrived: set after each kept instance, so that the catalogue looks at once.

        conflict_status: the answer to an instance that is here with another data set.
        """
        self._statuses = {**FAULT_STATUS, InstanceConflict: conflict_status}
        self._ae_title, self._files, self._arrived, self._happened = ae_title, files, arrived, happened
        self.accept_peers(peers)
        self._entity = AE(ae_title)
        self._entity.maximum_associations = maximum_associations
        self._entity.maximum_pdu_size = maximum_pdu
        self._entity.network_timeout = idle_s
        self._entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._server: Any = None
        self._quiet_until: dict[tuple[str, str], float] = {}
        self._callers: WeakKeyDictionary[Association, _Caller] = WeakKeyDictionary()

    def accept_peers(self, peers: Mapping[str, Peer]) -> None:
        """From now on these may call, and no other."""
        self._peers = {peer.ae_title: (name, peer) for name, peer in peers.items()}

    def start(self, host: str, port: int) -> int:
        """The port listened on (`port`, or a free one where it is 0). Raises OSError when it cannot be had."""
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, self._on_end, ["association released"]),
            (evt.EVT_ABORTED, self._on_end, ["association aborted"]),
        ]
        self._server = self._entity.start_server(
            (host, port), block=False, evt_handlers=handlers, contexts=accepted_contexts()
        )
        return int(self._server.server_address[1])

    def stop(self, *, drain_s: float) -> None:
        """No new association is accepted; those open have `drain_s` seconds to end, then they are aborted."""
        if self._server is None:
            return
        open_ones = list(self._server.active_associations)
        self._server.shutdown()
        deadline = time.monotonic() + drain_s
        while any(one.is_alive() and one.is_established for one in open_ones) and time.monotonic() < deadline:
            time.sleep(0.05)
        for one in open_ones:
            if one.is_alive():
                one.abort()
        self._server = None

    def _on_requested(self, event: evt.Event) -> None:
        """Only known peers are answered; a fault in the question counts as no."""
        association: Association = event.assoc
        try:
            calling = association.requestor.primitive.calling_ae_title.strip()
            called = association.requestor.primitive.called_ae_title.strip()
            address = str(association.requestor.address)
            refusal = self._refusal(calling, called, address)
            if refusal is None:
                self._callers[association] = _Caller(*self._peers[calling])
                return
        except Exception as fault:  # fail closed: pynetdicom would log this and go on to accept
            LOG.exception("receive: an association request could not be judged")
            calling, called, address, refusal = "", "", "", (0x03, f"internal fault {type(fault).__name__}")
        diagnostic, reason = refusal
        LOG.warning("receive: association from %r at %s refused: %s", calling, address, reason)
        if time.monotonic() >= self._quiet_until.get((calling, address), 0.0):
            # One row a minute and caller: a stranger in a loop must not fill the audit.
            self._quiet_until = {one: until for one, until in self._quiet_until.items() if until > time.monotonic()}
            self._quiet_until[calling, address] = time.monotonic() + REFUSAL_ROW_S
            self._happened(
                "association refused", "", {"calling_ae_title": calling[:16], "address": address, "reason": reason}
            )
        # PS3.8 Table 9-21: rejected permanent, by the DICOM UL service user
        association.acse.send_reject(0x01, 0x01, diagnostic)
        association.is_rejected = True
        association.kill()

    def _refusal(self, calling: str, called: str, address: str) -> tuple[int, str] | None:
        """The reject diagnostic (PS3.8 9.3.4) and why, or None when the association may begin."""
        if called != self._ae_title:
            return 0x07, f"called AE title {called!r} is not ours ({self._ae_title})"
        if calling not in self._peers:
            return 0x03, f"calling AE title {calling!r} is not a peer in node.toml"
        if not self._peers[calling][1].calls_from(address):
            return 0x03, f"{calling!r} may not call from {address}: it is in none of its networks in node.toml"
        return None

    def _on_store(self, event: evt.Event) -> int:
        """An instance is durable before its sender hears success."""
        caller = self._callers[event.assoc]
        if "store" not in caller.peer.may:
            if not caller.unauthorised:
                self._happened("store refused", caller.name, {"reason": f'"store" is not in what {caller.name} may'})
            caller.unauthorised += 1
            return NOT_AUTHORISED
        try:
            self._keep(event)
            caller.kept += 1
            return SUCCESS
        except Exception as fault:  # the table above decides
            status = self._statuses.get(type(fault), CANNOT_UNDERSTAND)
            caller.refused += 1
            LOG.log(
                logging.WARNING if type(fault) in FAULT_STATUS else logging.ERROR,
                "receive: instance %s from %s answered 0x%04X: %s",
                event.request.AffectedSOPInstanceUID,
                caller.name,
                status,
                fault,
                exc_info=type(fault) not in FAULT_STATUS,
            )
            self._happened(
                "conflict" if isinstance(fault, InstanceConflict) else "instance refused",
                caller.name,
                {
                    "sop_instance_uid": str(event.request.AffectedSOPInstanceUID)[:64],
                    "series_instance_uid": _series_uid(event),
                    "status": f"0x{status:04X}",
                    "reason": str(fault)[:200],
                },
            )
            return status

    def _keep(self, event: evt.Event) -> None:
        request, syntax = event.request, event.context.transfer_syntax
        sop_class_uid, sop_instance_uid = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        uids = peek_uids(request.DataSet, syntax)
        if (uids["SOPClassUID"], uids["SOPInstanceUID"]) != (sop_class_uid, sop_instance_uid):
            raise DatasetUnfit(f"the command names instance {sop_instance_uid}, the data set {uids['SOPInstanceUID']}")
        meta = part10_head(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=str(syntax),
            calling_ae_title=event.assoc.requestor.ae_title.strip(),
        )
        with request.DataSet.getbuffer() as received:
            self._files.keep_arrival(sop_instance_uid, _parts(meta, received))
        self._arrived.set()

    def _on_end(self, event: evt.Event, how: str) -> None:
        caller = self._callers.get(event.assoc)
        if caller is not None and (caller.kept or caller.refused):
            self._happened(how, caller.name, {"instances_kept": caller.kept, "instances_refused": caller.refused})


def _series_uid(event: evt.Event) -> str:
    """The series of what was not kept, so that the audit of the series tells of it; empty when it cannot be read."""
    try:
        return peek_uids(event.request.DataSet, event.context.transfer_syntax)["SeriesInstanceUID"]
    except DatasetUnfit:
        return ""


def _parts(head: bytes, body: memoryview) -> Iterator[bytes | memoryview]:
    yield head
    yield body


def peek_uids(encoded: io.BytesIO, transfer_syntax: Any) -> dict[str, str]:
    """The four UIDs of an encoded data set, read from its first elements only; raises DatasetUnfit without them."""
    source = encoded
    source.seek(0)
    try:
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            # PS3.5 A.5: raw deflate; only so much is inflated as the first groups can need
            source = io.BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded.read(), PEEK_BYTES))
        head = read_dataset(
            source,
            is_implicit_VR=transfer_syntax.is_implicit_VR,
            is_little_endian=transfer_syntax.is_little_endian,
            stop_when=lambda tag, vr, length: tag > SERIES_INSTANCE_UID_TAG,
        )
        uids = {keyword: _uid(head, keyword) for keyword in NEEDED}
    except DatasetUnfit:
        raise
    except (Exception, RecursionError) as fault:  # whatever hostile bytes make pydicom raise
        raise DatasetUnfit(f"the data set cannot be read: {type(fault).__name__}") from fault
    finally:
        encoded.seek(0)
    return uids


def _uid(head: Dataset, keyword: str) -> str:
    value = str(head.get(keyword, ""))
    if len(value) > 64 or not UID_FORM.fullmatch(value):
        raise DatasetUnfit(f"{keyword} is absent or not a UID; the sender must be corrected")
    return value


def part10_head(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae_title: str) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 7.1) for a data set kept as it was received."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    meta.SourceApplicationEntityTitle = calling_ae_title
    head = io.BytesIO()
    head.write(bytes(128) + b"DICM")
    write_file_meta_info(DicomIO(head), meta)
    return head.getvalue()
