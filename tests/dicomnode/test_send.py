"""What is acknowledged is in the ledger; what is not is sent again, and only that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification

from dicomnode.errors import PeerUnreachable
from dicomnode.outgoing import echo_peer, ledger_state
from dicomnode.peer import Peer
from dicomnode.requeue import requeue_job
from dicomnode.send import Courier, deliver, serve
from storage import deliveries, jobs, lanes
from storage.database import Database
from storage.errors import DatabaseAway
from storage.instance_files import InstanceFiles
from storage.jobs import State
from storage.lanes import PROBE, Lane
from storage.ledger import DeliveryState, LedgerState
from tests.builders_delivery import derived_job
from tests.peers import free_port

NOW = datetime.now(UTC)


class Archive:
    """A PACS that answers as it is told: statuses by count, an abort after so many."""

    def __init__(self, *, sop_class: str = CTImageStorage, syntaxes: Any = None, echo: bool = True) -> None:
        self.received: dict[str, Any] = {}
        self.statuses: list[int] = []
        self.abort_after: int | None = None
        self.asked = 0
        self.entity = AE("ARCHIVE")
        if echo:
            self.entity.add_supported_context(Verification)
        self.entity.add_supported_context(sop_class, syntaxes or ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
        self.server: Any = self.entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._on_store)]
        )
        self.peer = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=self.server.server_address[1])

    def _on_store(self, event: evt.Event) -> int:
        self.asked += 1
        if self.abort_after is not None and self.asked > self.abort_after:
            event.assoc.abort()
            return 0xC000
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status in (0x0000, 0x0111, 0xB000):
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.received[str(event.request.AffectedSOPInstanceUID)] = dataset
        return status


@pytest.fixture
def archive() -> Iterator[Callable[..., Archive]]:
    made: list[Archive] = []

    def make(**options: Any) -> Archive:
        made.append(Archive(**options))
        return made[-1]

    yield make
    for one in made:
        one.entity.shutdown()


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[Courier]:
    database = Database.open(f"sqlite:///{tmp_path}/node.sqlite")
    database.migrate()
    yield Courier(
        database=database,
        files=InstanceFiles(tmp_path / "var"),
        ae_title="DICOMNODE",
        retry_first_s=30,
        retry_longest_s=600,
        give_up_after_days=3,
    )
    database.close()


@pytest.fixture
def job_id(courier: Courier, tmp_path: Path) -> int:
    """A derived job of four instances with one destination."""
    return derived_job(courier, tmp_path)


def state_of(courier: Courier, job_id: int) -> tuple[State, DeliveryState]:
    with courier.database.read() as connection:
        return jobs.get_job(connection, job_id).state, deliveries.get_delivery(connection, job_id, "archive").state


def test_everything_acknowledged_is_delivered(courier: Courier, job_id: int, archive: Callable[..., Archive]) -> None:
    pacs = archive()
    assert deliver(job_id, "archive", pacs.peer, courier) == DeliveryState.DONE
    assert state_of(courier, job_id) == (State.DELIVERED, DeliveryState.DONE)
    for uid, received in pacs.received.items():
        assert received == dcmread(courier.files.path_of(uid))


def test_delivering_again_sends_nothing(courier: Courier, job_id: int, archive: Callable[..., Archive]) -> None:
    pacs = archive()
    deliver(job_id, "archive", pacs.peer, courier)
    assert "nothing to do" in deliver(job_id, "archive", pacs.peer, courier)
    assert pacs.asked == 4


def test_only_what_is_missing_is_sent_after_an_abort(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    pacs = archive()
    pacs.abort_after = 2
    assert deliver(job_id, "archive", pacs.peer, courier) == "postponed"
    with courier.database.read() as connection:
        assert len(deliveries.unsent(connection, job_id, "archive")) == 2
    pacs.abort_after, pacs.asked = None, 0
    assert deliver(job_id, "archive", pacs.peer, courier) == DeliveryState.DONE
    assert pacs.asked == 2 and len(pacs.received) == 4


NOBODY = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=free_port())


def lane_of(courier: Courier) -> Lane:
    with courier.database.read() as connection:
        return lanes.get_lane(connection, "archive")


def test_a_peer_that_is_down_breaks_its_lane_and_is_probed_with_a_growing_wait(courier: Courier, job_id: int) -> None:
    assert serve(job_id, "archive", NOBODY, courier) == "postponed"
    waits = [lane_of(courier).next_probe_at]
    for _ in range(2):
        assert serve(PROBE, "archive", NOBODY, courier) == "still broken"
        waits.append(lane_of(courier).next_probe_at)
    first, second, third = ((at - datetime.now(UTC)).total_seconds() for at in waits if at is not None)
    assert 25 < first < 34 and 50 < second < 67 and 100 < third < 133
    assert "cannot be reached" in lane_of(courier).reason


def test_what_waits_for_a_broken_lane_is_not_tried_at_all(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    pacs = archive()
    serve(job_id, "archive", NOBODY, courier)
    assert serve(job_id, "archive", pacs.peer, courier) == "waits for the probe of its lane"
    assert pacs.asked == 0 and state_of(courier, job_id)[1] is DeliveryState.WAITING


def test_a_probe_that_is_answered_mends_the_lane_and_the_series_is_sent(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    pacs = archive()
    serve(job_id, "archive", NOBODY, courier)
    assert serve(PROBE, "archive", pacs.peer, courier) == "mended"
    with courier.database.read() as connection:
        assert [one.job_id for one in deliveries.due_deliveries(connection, datetime.now(UTC))] == [job_id]
    assert serve(job_id, "archive", pacs.peer, courier) == DeliveryState.DONE
    assert lane_of(courier).failures == 0, "it answered an instance: the next break waits the shortest time"
    assert serve(PROBE, "archive", NOBODY, courier) == "whole"


def test_a_peer_that_does_not_know_c_echo_is_there_all_the_same(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    pacs = archive(echo=False)
    serve(job_id, "archive", NOBODY, courier)
    assert serve(PROBE, "archive", pacs.peer, courier) == "mended"


def test_a_peer_that_answers_probes_and_refuses_every_delivery_is_asked_more_and_more_seldom(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    pacs = archive()
    for failures in (1, 2, 3):
        assert serve(job_id, "archive", NOBODY, courier) == "postponed"
        assert lane_of(courier).failures == failures
        assert serve(PROBE, "archive", pacs.peer, courier) == "mended"


def test_a_peer_that_takes_no_further_association_while_one_works_is_not_taken_for_dead(
    courier: Courier, job_id: int
) -> None:
    with courier.traffic.answering("archive"):
        assert serve(job_id, "archive", NOBODY, courier) == "postponed"
    assert not lane_of(courier).broken
    with courier.database.read() as connection:
        assert "no further association" in deliveries.get_delivery(connection, job_id, "archive").reason


def test_one_delivery_is_never_made_twice_at_the_same_time_and_the_second_run_outlives_the_first(
    courier: Courier, job_id: int
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with courier.traffic.delivering(job_id, "archive"):
            second = threads.submit(serve, job_id, "archive", NOBODY, courier)
            assert not wait([second], timeout=0.3).done
        assert second.result(timeout=60) == "postponed"


def test_a_peer_that_left_the_config_lets_its_deliveries_say_so_themselves(courier: Courier, job_id: int) -> None:
    serve(job_id, "archive", NOBODY, courier)
    assert serve(PROBE, "archive", None, courier) == "mended"
    assert serve(job_id, "archive", None, courier) == "postponed"
    with courier.database.read() as connection:
        assert "no longer a peer" in deliveries.get_delivery(connection, job_id, "archive").reason


def test_what_has_waited_its_days_is_failed_at_the_failed_probe_and_sent_after_a_requeue(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=3, minutes=1)
    with courier.database.begin() as connection:  # another job's try broke the lane then
        lanes.break_lane(connection, "archive", reason="down", next_probe_at=long_ago, now=long_ago)
    assert serve(PROBE, "archive", NOBODY, courier) == "still broken"
    assert state_of(courier, job_id) == (State.FAILED, DeliveryState.ABANDONED)
    with courier.database.read() as connection:
        (dead,) = jobs.list_jobs(connection, states=[State.FAILED])
    assert dead.reason_code == "delivery-abandoned" and "cannot be reached" in dead.reason
    assert requeue_job(courier.database, job_id).state is State.DERIVED
    probe_at = lane_of(courier).next_probe_at
    assert probe_at is not None and probe_at <= datetime.now(UTC), "nobody waits for the next probe after a requeue"
    pacs = archive()
    assert serve(PROBE, "archive", pacs.peer, courier) == "mended"
    assert serve(job_id, "archive", pacs.peer, courier) == DeliveryState.DONE
    assert state_of(courier, job_id) == (State.DELIVERED, DeliveryState.DONE) and len(pacs.received) == 4


def test_a_peer_that_asks_for_time_gets_it_and_the_others_go_on(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    pacs = archive()
    pacs.statuses = [0x0000, 0xA700, 0x0000, 0x0000]
    assert deliver(job_id, "archive", pacs.peer, courier) == "postponed"
    assert len(pacs.received) == 3
    assert deliver(job_id, "archive", pacs.peer, courier) == DeliveryState.DONE
    assert len(pacs.received) == 4


def test_a_rejected_instance_fails_the_job_by_name_and_the_others_are_sent(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    pacs = archive()
    pacs.statuses = [0x0000, 0xC123, 0xB000, 0x0111]
    assert deliver(job_id, "archive", pacs.peer, courier) == DeliveryState.REJECTED
    assert len(pacs.received) == 3
    with courier.database.read() as connection:
        job = jobs.get_job(connection, job_id)
    assert job.state is State.FAILED and "archive rejected 1 of 4" in job.reason


def test_a_peer_that_takes_only_implicit_vr_gets_the_same_values(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    pacs = archive(syntaxes=[ImplicitVRLittleEndian])
    assert deliver(job_id, "archive", pacs.peer, courier) == DeliveryState.DONE
    for uid, received in pacs.received.items():
        source = dcmread(courier.files.path_of(uid))
        assert received.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert received.PixelData == source.PixelData
        assert received.PatientName == source.PatientName


def test_a_peer_that_takes_no_such_sop_class_has_rejected_the_series_and_an_operator_looks(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    assert deliver(job_id, "archive", archive(sop_class=MRImageStorage).peer, courier) == DeliveryState.REJECTED
    assert state_of(courier, job_id) == (State.FAILED, DeliveryState.REJECTED)


def test_a_host_name_that_cannot_be_resolved_breaks_the_lane(courier: Courier, job_id: int) -> None:
    lost = Peer(name="archive", ae_title="ARCHIVE", host="no-such-host.invalid", port=104)
    assert deliver(job_id, "archive", lost, courier) == "postponed" and lane_of(courier).broken


def test_a_file_that_is_gone_postpones_with_a_reason_and_loses_nothing(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    with courier.database.read() as connection:
        uid = deliveries.unsent(connection, job_id, "archive")[0]
    path = courier.files.path_of(uid)
    path.rename(path.with_suffix(".away"))
    assert deliver(job_id, "archive", archive().peer, courier) == "postponed"
    with courier.database.read() as connection:
        assert "FileNotFoundError" in deliveries.get_delivery(connection, job_id, "archive").reason
    path.with_suffix(".away").rename(path)
    assert deliver(job_id, "archive", archive().peer, courier) == DeliveryState.DONE


def test_a_file_that_holds_another_instance_is_never_sent_and_holds_up_nobody(
    courier: Courier, job_id: int, archive: Callable[..., Archive]
) -> None:
    with courier.database.read() as connection:
        uids = deliveries.unsent(connection, job_id, "archive")
    first, second = (courier.files.path_of(uid) for uid in uids[:2])
    first.write_bytes(second.read_bytes())
    pacs = archive()
    assert deliver(job_id, "archive", pacs.peer, courier) == "postponed" and pacs.asked == 0


def test_a_fault_nobody_thought_of_puts_one_delivery_off_and_a_database_away_none(
    courier: Courier, job_id: int, tmp_path: Path
) -> None:
    class Faulty(InstanceFiles):
        fault: Exception = MemoryError()

        def paths_of(self, sop_instance_uids: Sequence[str]) -> list[Path]:
            raise self.fault

    faulty = replace(courier, files=Faulty(tmp_path / "var"))
    assert deliver(job_id, "archive", NOBODY, faulty) == "postponed"
    Faulty.fault = DatabaseAway("gone")
    with pytest.raises(DatabaseAway):
        deliver(job_id, "archive", NOBODY, faulty)


def test_after_its_days_a_delivery_is_failed_and_never_dropped(courier: Courier, job_id: int) -> None:
    with courier.database.begin() as connection:
        deliveries.postpone(
            connection, job_id, "archive", next_try_at=NOW, reason="down", now=NOW - timedelta(days=3, minutes=1)
        )
    assert deliver(job_id, "archive", NOBODY, courier) == "abandoned"
    assert state_of(courier, job_id) == (State.FAILED, DeliveryState.ABANDONED)


def test_a_destination_that_left_the_config_is_waited_for(courier: Courier, job_id: int) -> None:
    assert deliver(job_id, "archive", None, courier) == "postponed"


def test_an_echo_takes_a_time_or_says_who_cannot_be_reached(archive: Callable[..., Archive]) -> None:
    assert 0 < echo_peer(archive().peer, ae_title="DICOMNODE") < 10
    with pytest.raises(PeerUnreachable, match="NOBODY"):
        echo_peer(Peer(name="nobody", ae_title="NOBODY", host="127.0.0.1", port=free_port()), ae_title="DICOMNODE")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (0x0000, LedgerState.DONE),
        (0x0111, LedgerState.DONE),
        (0xB000, LedgerState.WARNING),
        (0xB006, LedgerState.WARNING),
        (0xB007, LedgerState.WARNING),
        (0xA700, LedgerState.WAITING),
        (0xA7FF, LedgerState.WAITING),
        (0x0122, LedgerState.REJECTED),
        (0xA900, LedgerState.REJECTED),
        (0xC000, LedgerState.REJECTED),
        (0x0124, LedgerState.REJECTED),
    ],
)
def test_a_status_means_what_the_standard_says(status: int, state: LedgerState) -> None:
    assert ledger_state(status) is state
