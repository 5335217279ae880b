"""A peer of storage commitment: it asks, hears reports, commits as it is told, and may be away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import Verification

from dicomnode.commitment import read_report, read_request, report_dataset, request_dataset
from dicomnode.contexts import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dicomnode.peer import Peer
from dicomnode.tls import caller_context, server_context
from storage.references import Reference, Report
from tests.builders_tls import Certified
from tests.peers import NODE_AE, free_port

SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]


class CommittingPeer:
    """pynetdicom on both ends of Storage Commitment.

    failing: SOP Instance UID -> failure reason in every report; taken: what was asked of it, by transaction UID.
    certified: who it is over TLS, which it speaks then in both directions.
    """

    def __init__(self, *, ae_title: str = "ARCHIVE", certified: Certified | None = None, **options: Any) -> None:
        self.certified = certified
        if certified is not None:
            options = {"tls": True, "tls_name": "localhost"} | options
        self.port, self.failing = free_port(), dict[str, int]()
        self.taken: dict[str, list[Reference]] = {}
        self.heard: dict[str, Report] = {}
        self.stored: list[str] = []
        self.action_status, self.report_status, self.reports_at_once = 0x0000, 0x0000, False
        self.peer = Peer(
            name="archive", ae_title=ae_title, host="127.0.0.1", port=self.port, commitment=True, **options
        )
        self._entity = AE(ae_title)
        self._entity.add_supported_context(CTImageStorage, SYNTAXES)
        self._entity.add_supported_context(Verification, SYNTAXES)
        self._entity.add_supported_context(STORAGE_COMMITMENT, SYNTAXES, scu_role=True, scp_role=True)
        self._entity.add_requested_context(STORAGE_COMMITMENT, SYNTAXES)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """It can be called."""
        server = self._entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            ssl_context=self.certified and server_context(self.certified.identity, clients_required=True),
            evt_handlers=[
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_N_ACTION, self._on_request),
                (evt.EVT_N_EVENT_REPORT, self._on_report),
            ],
        )
        try:
            yield
        finally:
            server.shutdown()

    def _on_store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _on_request(self, event: evt.Event) -> tuple[int, None]:
        transaction_uid, references = read_request(event.action_information)
        self.taken[transaction_uid] = references
        if self.reports_at_once:
            arguments = (event.assoc, self.report_of(transaction_uid))
            threading.Timer(0.2, self._report_on, arguments).start()
        return self.action_status, None

    @staticmethod
    def _report_on(association: Any, report: Report) -> None:
        event_type, information = report_dataset(report)
        association.send_n_event_report(information, event_type, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)

    def _on_report(self, event: evt.Event) -> tuple[int, None]:
        report = read_report(event.event_information)
        self.heard[report.transaction_uid] = report
        return self.report_status, None

    def report_of(self, transaction_uid: str) -> Report:
        """What it says of a transaction: everything is kept but what is `failing`."""
        asked = self.taken[transaction_uid]
        failed = tuple(
            (one, self.failing[one.sop_instance_uid]) for one in asked if one.sop_instance_uid in self.failing
        )
        committed = tuple(one for one in asked if one.sop_instance_uid not in self.failing)
        return Report(transaction_uid, committed, failed)

    def report(self, node_port: int, report: Report, *, roles: bool = True) -> int:
        """The status with which a report on an association of its own is answered; without roles: as careless PACS."""
        negotiated = [build_role(STORAGE_COMMITMENT, scp_role=True)] if roles else []
        association = self._call(node_port, ext_neg=negotiated)
        assert association.is_established
        event_type, information = report_dataset(report)
        answer, _ = association.send_n_event_report(
            information, event_type, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
        )
        association.release()
        return int(answer.Status)

    def _call(self, node_port: int, **options: Any) -> Any:
        tls = self.certified and (caller_context(self.certified.identity), "localhost")
        return self._entity.associate("127.0.0.1", node_port, ae_title=NODE_AE, tls_args=tls, **options)

    def ask(self, node_port: int, datasets: Sequence[Dataset]) -> str:
        """The transaction UID with which the node was asked to keep these instances."""
        references = [Reference(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in datasets]
        transaction_uid = str(generate_uid())
        assert self.request(node_port, request_dataset(transaction_uid, references)) == 0x0000
        return transaction_uid

    def request(
        self,
        node_port: int,
        information: Dataset,
        *,
        action: int = 1,
        instance: str = STORAGE_COMMITMENT_INSTANCE,
        stays: Callable[[], bool] = lambda: True,
    ) -> int:
        """The status of an N-ACTION; the association stays open until `stays` is answered, to be told over it."""
        handlers = [(evt.EVT_N_EVENT_REPORT, self._on_report)]
        association = self._call(node_port, evt_handlers=handlers)
        assert association.is_established
        answer, _ = association.send_n_action(information, action, STORAGE_COMMITMENT, instance)
        try:
            while association.is_established and not stays():
                pass
        finally:
            association.release()
        return int(answer.Status)
