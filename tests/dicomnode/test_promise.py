"""What a peer is promised was looked at and read back; what is missing, other or spoilt is told with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread

from dicomnode.errors import PeerUnreachable
from dicomnode.gather import list_arrivals
from dicomnode.promise import check, keep_promise
from storage import audit, promises
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.references import Reference, Report
from tests.builders_dicom import write_ct_series

MR = "1.2.840.10008.5.1.4.1.1.4"


class Desk:
    """A node's database and files with a series of three that arrived, and the reports that went out."""

    def __init__(self, folder: Path) -> None:
        self.database = Database.open(f"sqlite:///{folder}/node.sqlite")
        self.database.migrate()
        self.files = InstanceFiles(folder / "var")
        self.held: list[Reference] = []
        self.reports: list[Report] = []
        self.fault: Exception | None = None
        self.room, self.patience = True, timedelta(days=3)
        for path in write_ct_series(folder / "source", slices=3):
            dataset = dcmread(path)
            self.files.keep_arrival(dataset.SOPInstanceUID, [path.read_bytes()])
            self.held.append(Reference(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)))

    def list_arrivals(self) -> None:
        list_arrivals(self.database, self.files, peer_of=lambda title: title)
        self.files.tidy()

    def ask(self, *references: Reference) -> str:
        """What became of a request for these."""
        now = datetime.now(UTC)
        with self.database.begin() as connection:
            promise = promises.open_promise(connection, "scanner", "2.25.1", references, report_at=now, now=now)
        assert promise is not None
        return self.keep(promise.id)

    def keep(self, promise_id: int) -> str:
        return keep_promise(
            promise_id,
            self._tell,
            database=self.database,
            files=self.files,
            has_room=lambda: self.room,
            wait_s=lambda tries: 0.0,
            patience=self.patience,
        )

    def _tell(self, report: Report) -> None:
        if self.fault is not None:
            raise self.fault
        self.reports.append(report)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.database.close()


@pytest.mark.parametrize("when", [lambda desk: None, Desk.list_arrivals], ids=["not listed yet", "listed"])
def test_what_is_durable_is_committed_to_listed_or_not(desk: Desk, when: Callable[[Desk], None]) -> None:
    when(desk)
    assert desk.ask(*desk.held) == "reported"
    assert desk.reports == [Report("2.25.1", tuple(desk.held), ())]
    assert desk.keep(1).startswith("nothing to do")


@pytest.mark.parametrize("when", [lambda desk: None, Desk.list_arrivals], ids=["not listed yet", "listed"])
def test_what_is_missing_or_of_another_class_is_told_with_its_reason_and_the_rest_is_kept(
    desk: Desk, when: Callable[[Desk], None]
) -> None:
    when(desk)
    missing, other = Reference(MR, "1.2.3.99"), Reference(MR, desk.held[0].sop_instance_uid)
    unknown = Reference("1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.3.98")
    assert desk.ask(missing, other, unknown, *desk.held[1:]) == "reported"
    [report] = desk.reports
    assert report.committed == tuple(desk.held[1:])
    assert report.failed == ((missing, 0x0112), (other, 0x0119), (unknown, 0x0122))


def test_what_is_missing_while_nothing_can_be_received_is_for_want_of_room(desk: Desk) -> None:
    desk.room = False
    desk.ask(missing := Reference(MR, "1.2.3.99"), desk.held[0])
    assert desk.reports[0].failed == ((missing, 0x0213),) and desk.reports[0].committed == (desk.held[0],)


def test_a_file_that_is_gone_or_is_not_what_was_received_is_never_committed_to(desk: Desk) -> None:
    desk.list_arrivals()
    gone, spoilt, whole = desk.held
    desk.files.path_of(gone.sop_instance_uid).unlink()
    path = desk.files.path_of(spoilt.sop_instance_uid)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    desk.ask(*desk.held)
    assert desk.reports == [Report("2.25.1", (whole,), ((gone, 0x0112), (spoilt, 0x0110)))]


def test_what_retention_is_taking_is_not_promised_though_its_file_lies_there_still(desk: Desk) -> None:
    going = desk.held[0]
    desk.files.settle(going.sop_instance_uid)  # its row is gone first, its file later, or after the next start
    desk.ask(*desk.held)
    assert desk.reports == [Report("2.25.1", tuple(desk.held[1:]), ((going, 0x0112),))]


def test_what_is_listed_between_two_looks_is_found(desk: Desk) -> None:
    looks: list[int] = []

    def look(uids: Sequence[str]) -> dict[str, promises.Listed]:
        with desk.database.read() as connection:
            found = promises.listed_instances(connection, uids)
        if not looks:
            desk.list_arrivals()
        looks.append(len(uids))
        return found

    missing = Reference(MR, "1.2.3.99")
    failed = check([*desk.held, missing], look, desk.files, has_room=lambda: True)
    assert failed == {"1.2.3.99": 0x0112} and looks == [4, 4, 1]


def test_what_will_lie_in_quarantine_is_not_promised(desk: Desk, tmp_path: Path) -> None:
    [path] = write_ct_series(tmp_path / "other", slices=1)
    dataset = dcmread(path)
    del dataset.SeriesInstanceUID
    dataset.save_as(path)
    homeless = Reference(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
    desk.files.keep_arrival(homeless.sop_instance_uid, [path.read_bytes()])
    desk.ask(homeless, desk.held[0])
    assert desk.reports[0].failed == ((homeless, 0x0110),) and desk.reports[0].committed == (desk.held[0],)
    desk.list_arrivals()
    assert desk.files.quarantined() == 1


def test_a_report_that_nobody_takes_is_tried_again_and_given_up_with_its_reason(desk: Desk) -> None:
    desk.fault = PeerUnreachable("SCANNER is away")
    assert desk.ask(*desk.held) == "waiting"
    desk.fault = None
    assert desk.keep(1) == "reported" and len(desk.reports) == 1
    desk.fault, desk.patience = PeerUnreachable("SCANNER is away"), timedelta(0)
    assert desk.ask(*desk.held) == "abandoned"
    with desk.database.read() as connection:
        last = audit.entries(connection)[-1]
    assert last.event == "commitment not told" and last.details["reason"] == "SCANNER is away"


def test_a_fault_on_our_side_promises_nothing_and_is_tried_again(desk: Desk) -> None:
    desk.fault = OSError(5, "the disk")
    assert desk.ask(*desk.held) == "waiting"
    desk.fault = None
    assert desk.keep(1) == "reported"
