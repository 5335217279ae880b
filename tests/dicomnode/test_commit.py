"""A delivery ends when its destination has committed: on this association or another, late, or asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from dicomnode.commit import hear_report
from dicomnode.commitment import report_dataset
from dicomnode.requeue import requeue_job
from dicomnode.send import Courier, serve
from storage import audit, deliveries, jobs
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.jobs import State
from storage.ledger import DeliveryState
from storage.references import Report
from tests.builders_commitment import CommittingPeer
from tests.builders_delivery import derived_job


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[Courier]:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    database.migrate()
    yield Courier(database, InstanceFiles(tmp_path / "var"), "DICOMNODE", 30, 600, 3)
    database.close()


@pytest.fixture
def job_id(courier: Courier, tmp_path: Path) -> int:
    return derived_job(courier, tmp_path)


def state_of(courier: Courier, job_id: int) -> tuple[State, DeliveryState]:
    with courier.database.read() as connection:
        return jobs.get_job(connection, job_id).state, deliveries.get_delivery(connection, job_id, "archive").state


def reason_of(courier: Courier, job_id: int) -> str:
    with courier.database.read() as connection:
        return deliveries.get_delivery(connection, job_id, "archive").reason


def make_due(courier: Courier) -> None:
    """The time until the next try is over."""
    with courier.database.begin() as connection:
        connection.execute(sa.text("UPDATE deliveries SET next_try_at = NULL"))


def reported(pacs: CommittingPeer, courier: Courier, report: Report) -> int:
    """The status with which the report is answered when it comes over an association of its own."""
    _, information = report_dataset(report)
    return hear_report(information, pacs.peer, courier.database, retry_s=courier.wait_s)


def told(courier: Courier, event: str) -> int:
    with courier.database.read() as connection:
        return sum(one.event == event for one in audit.entries(connection))


def test_a_report_on_the_same_association_closes_the_job(courier: Courier, job_id: int) -> None:
    pacs = CommittingPeer(commitment_wait_s=20)
    pacs.reports_at_once = True
    with pacs.listening():
        assert serve(job_id, "archive", pacs.peer, courier) == DeliveryState.DONE
    assert state_of(courier, job_id) == (State.DELIVERED, DeliveryState.DONE)
    [asked] = pacs.taken.values()
    assert [one.sop_instance_uid for one in asked] == pacs.stored


def test_until_the_report_comes_nothing_is_closed_nor_asked_again(courier: Courier, job_id: int) -> None:
    pacs = CommittingPeer(commitment_wait_s=0)
    with pacs.listening():
        for _ in range(2):  # the second as after a crash in the first
            assert serve(job_id, "archive", pacs.peer, courier) == DeliveryState.COMMITTING
        [transaction] = pacs.taken
        assert state_of(courier, job_id) == (State.SENDING, DeliveryState.COMMITTING)
        assert reported(pacs, courier, pacs.report_of(transaction)) == 0x0000
        assert state_of(courier, job_id) == (State.DELIVERED, DeliveryState.DONE)
        assert "nothing to do" in serve(job_id, "archive", pacs.peer, courier)
    assert len(pacs.stored) == 4


def test_one_failed_instance_is_sent_again_and_no_other(courier: Courier, job_id: int) -> None:
    pacs = CommittingPeer(commitment_wait_s=0)
    with pacs.listening():
        serve(job_id, "archive", pacs.peer, courier)
        [transaction] = pacs.taken
        lost = pacs.stored[2]
        pacs.failing = {lost: 0x0112}
        assert reported(pacs, courier, pacs.report_of(transaction)) == 0x0000
        assert state_of(courier, job_id) == (State.SENDING, DeliveryState.WAITING)
        pacs.failing = {}
        make_due(courier)
        serve(job_id, "archive", pacs.peer, courier)
        assert pacs.stored[4:] == [lost]
        again = next(uid for uid in pacs.taken if uid != transaction)
        assert [one.sop_instance_uid for one in pacs.taken[again]] == [lost]
        reported(pacs, courier, pacs.report_of(again))
    assert state_of(courier, job_id) == (State.DELIVERED, DeliveryState.DONE)


def test_a_report_that_never_comes_is_asked_for_again_and_given_up_with_the_reason(
    courier: Courier, job_id: int
) -> None:
    pacs = CommittingPeer(commitment_wait_s=0)
    with pacs.listening():
        serve(job_id, "archive", pacs.peer, courier)
        make_due(courier)
        assert serve(job_id, "archive", pacs.peer, courier) == DeliveryState.COMMITTING
        assert len(pacs.taken) == 2 and told(courier, "commitment overdue") == 1
        make_due(courier)
        impatient = replace(courier, give_up_after_days=0.0)
        assert serve(job_id, "archive", pacs.peer, impatient) == DeliveryState.ABANDONED
        with courier.database.read() as connection:
            failed = jobs.get_job(connection, job_id)
        assert failed.state is State.FAILED and failed.reason_code == "delivery-abandoned"
        assert "did not commit to 4 of 4 instances, asked 2 times: no report came within 900 s" in failed.reason
        requeue_job(courier.database, job_id)
        assert serve(job_id, "archive", pacs.peer, courier) == DeliveryState.COMMITTING
    assert len(pacs.stored) == 4, "what the destination has is asked for again, not sent again"


def test_a_pacs_that_is_gone_when_it_is_to_be_asked_breaks_its_lane_and_is_asked_when_it_is_back(
    courier: Courier, job_id: int
) -> None:
    pacs = CommittingPeer(commitment_wait_s=0)
    with pacs.listening():
        serve(job_id, "archive", pacs.peer, courier)
    make_due(courier)
    assert serve(job_id, "archive", pacs.peer, courier) == "postponed"
    assert state_of(courier, job_id) == (State.SENDING, DeliveryState.COMMITTING)
    assert serve(job_id, "archive", pacs.peer, courier) == "waits for the probe of its lane"
    with pacs.listening():
        assert serve(0, "archive", pacs.peer, courier) == "mended"
        assert serve(job_id, "archive", pacs.peer, courier) == DeliveryState.COMMITTING
        newest = list(pacs.taken)[-1]
        reported(pacs, courier, pacs.report_of(newest))
    assert state_of(courier, job_id) == (State.DELIVERED, DeliveryState.DONE)


def test_a_pacs_that_takes_no_request_is_asked_again_and_never_counts_as_committed(
    courier: Courier, job_id: int
) -> None:
    pacs = CommittingPeer(commitment_wait_s=0)
    pacs.action_status = 0x0110
    with pacs.listening():
        assert serve(job_id, "archive", pacs.peer, courier) == "postponed"
    assert state_of(courier, job_id) == (State.SENDING, DeliveryState.COMMITTING)
    assert "0x0110" in reason_of(courier, job_id)


def test_a_peer_that_is_no_longer_to_commit_has_its_delivery_closed_by_what_it_acknowledged(
    courier: Courier, job_id: int
) -> None:
    pacs = CommittingPeer(commitment_wait_s=0)
    with pacs.listening():
        serve(job_id, "archive", pacs.peer, courier)
        make_due(courier)
        plain = pacs.peer.model_copy(update={"commitment": False})
        assert serve(job_id, "archive", plain, courier) == DeliveryState.DONE


@pytest.mark.parametrize("spoil", [lambda pacs: Dataset(), lambda pacs: report_dataset(Report("2.25.9", (), ()))[1]])
def test_a_report_that_is_not_understood_or_was_not_asked_for_changes_nothing(
    courier: Courier, job_id: int, spoil: Callable[[CommittingPeer], Dataset]
) -> None:
    pacs = CommittingPeer(commitment_wait_s=0)
    with pacs.listening():
        serve(job_id, "archive", pacs.peer, courier)
    assert hear_report(spoil(pacs), pacs.peer, courier.database, retry_s=courier.wait_s) == 0x0115
    [transaction] = pacs.taken
    stranger = pacs.peer.model_copy(update={"name": "stranger"})
    _, information = report_dataset(pacs.report_of(transaction))
    assert hear_report(information, stranger, courier.database, retry_s=courier.wait_s) == 0x0115
    assert state_of(courier, job_id) == (State.SENDING, DeliveryState.COMMITTING)
    assert courier.patience() == timedelta(days=3)
