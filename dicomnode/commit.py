"""A delivered series is committed: its destination is asked to keep it, and its report is heard."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicomnode.commitment import read_report
from dicomnode.errors import DatasetUnfit
from dicomnode.peer import Peer
from dicomnode.tls import TlsIdentity
from storage.errors import DatabaseAway, StaleState
from storage.references import PROCESSING_FAILURE

if TYPE_CHECKING:
    from storage.database import Connection, Database

LOG = logging.getLogger(__name__)
SUCCESS, INVALID_ARGUMENT = 0x0000, 0x0115
"""PS3.7 C.5: the statuses with which a report is answered, beside a processing failure that is worth another try."""


class Writable(Protocol):
    """A database that may be written to, opened now or late."""

    def begin(self) -> AbstractContextManager[Connection]:
        """A write transaction."""


def ask(
    job_id: int,
    destination: str,
    peer: Peer,
    *,
    database: Database,
    ae_title: str,
    identity: TlsIdentity | None,
    retry_s: Callable[[int], float],
    patience: timedelta,
) -> str:
    """Where the delivery stands after its destination was asked to commit to what it has.

    Asked too early, it does nothing: the report is awaited until its time is over. Asked in vain for the days of
    `patience`, the delivery is abandoned. Raises NoAssociation and PeerUnreachable when the request was not taken.
    """
    from dicomnode.commitment_call import ask_commitment
    from storage import commitments, deliveries
    from storage.ledger import DeliveryState

    now = datetime.now(UTC)
    with database.begin() as connection:
        delivery = deliveries.get_delivery(connection, job_id, destination)
        if delivery.state is not DeliveryState.COMMITTING or (delivery.next_try_at or now) > now:
            return delivery.state
        if delivery.asks:
            commitments.tell_overdue(connection, delivery, now=now)
        if delivery.asks and now - (delivery.first_try_at or now) > patience:
            why = delivery.reason or f"no report came within {peer.commitment_report_s:g} s"
            LOG.error("send: job %s to %s abandoned: %s", job_id, destination, why)
            return deliveries.abandon_delivery(connection, job_id, destination, reason=why, now=now)
        transaction_uid = str(generate_uid(prefix=None))
        report_by = now + timedelta(seconds=peer.commitment_report_s)
        wanted = commitments.open_transaction(
            connection, job_id, destination, transaction_uid=transaction_uid, report_by=report_by, now=now
        )

    def is_reported() -> bool:
        with database.read() as connection:
            return commitments.is_reported(connection, transaction_uid)

    ask_commitment(
        peer,
        transaction_uid,
        wanted,
        ae_title=ae_title,
        identity=identity,
        hear=lambda information: hear_report(information, peer, database, retry_s=retry_s),
        is_reported=is_reported,
    )
    with database.read() as connection:
        state = deliveries.get_delivery(connection, job_id, destination).state
    LOG.info("send: job %s to %s: asked to commit to %d instances: %s", job_id, destination, len(wanted), state)
    return state


def hear_report(information: Dataset, peer: Peer, database: Writable, *, retry_s: Callable[[int], float]) -> int:
    """The status with which a report of the peer is answered, once what it says is written.

    A report on what this peer was never asked is believed in nothing.
    """
    from storage import commitments

    try:
        report = read_report(information)
        with database.begin() as connection:
            state = commitments.settle_report(
                connection, report, peer=peer.name, retry_s=retry_s, now=datetime.now(UTC)
            )
    except DatasetUnfit as fault:
        LOG.warning("commitment: %s reported what cannot be used: %s", peer.name, fault)
        return INVALID_ARGUMENT
    except (DatabaseAway, StaleState) as fault:  # the peer may report again; else it is asked again
        LOG.error("commitment: a report of %s cannot be written now: %s", peer.name, fault)
        return PROCESSING_FAILURE
    if state is None:
        LOG.warning("commitment: %s reported on a transaction that it was not asked for", peer.name)
        return INVALID_ARGUMENT
    LOG.info(
        "commitment: %s committed to %d instances, not to %d: the delivery is %s",
        peer.name,
        len(report.committed),
        len(report.failed),
        state,
    )
    return SUCCESS
