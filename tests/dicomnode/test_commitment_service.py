"""On the node's port: a request is kept before it is answered, a report is believed from who was asked, nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.commitment import request_dataset
from dicomnode.commitment_service import CommitmentService
from dicomnode.config import load_config
from dicomnode.late_database import LateDatabase
from dicomnode.lines import Lines
from dicomnode.peer import Peer
from dicomnode.send import Courier, serve
from dicomnode.service import Means
from storage import audit, promises
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.ledger import DeliveryState
from storage.promises import PromiseState
from storage.references import Reference, Report
from tests.builders_commitment import CommittingPeer
from tests.builders_delivery import derived_job
from tests.builders_dicom import write_ct_series
from tests.builders_receive import Station
from tests.builders_tls import Authority

CT = "1.2.840.10008.5.1.4.1.1.2"


class Node:
    """A receiver with the service and its database; `archive` can be called, `scanner` cannot."""

    def __init__(self, folder: Path, receive_path: str = "fast", authority: Authority | None = None) -> None:
        for name in ("config", "var"):
            (folder / name).mkdir()
        (folder / "config" / "node.toml").write_text('[node]\ndata_folder = "../var"\n')
        (folder / "config" / "rules.toml").write_text("")
        config = load_config(folder / "config")
        self.database = Database.open(config.database_url)
        self.database.migrate()
        self.late, self.files = LateDatabase(lambda: config.database_url), InstanceFiles(config.data_folder)
        certified = None if authority is None else authority.certified("archive")
        self.archive = CommittingPeer(may=("store",), certified=certified)
        self.scanner = CommittingPeer(ae_title="SCANNER")
        peers = {
            "archive": self.archive.peer,
            "scanner": Peer(name="scanner", ae_title="SCANNER", may=("store",)),
            "viewer": Peer(name="viewer", ae_title="VIEWER", may=("query",)),
        }
        self.told: list[tuple[str, str]] = []
        means = Means(lambda: config, self.late, self.files, lambda event, peer, _: self.told.append((event, peer)))
        services = (CommitmentService(means),)
        self.station = Station(
            self.files, peers=peers, services=services, receive_path=receive_path, authority=authority
        )
        self.port = self.station.port

    def promises(self) -> list[promises.Promise]:
        with self.database.read() as connection:
            return promises.list_promises(connection)

    def stop(self) -> None:
        self.station.receiver.stop(drain_s=5)
        self.late.close()
        self.database.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.stop()


def wanted(*uids: str, transaction_uid: str = "2.25.1") -> Dataset:
    return request_dataset(transaction_uid, [Reference(CT, uid) for uid in uids])


def test_a_request_of_a_peer_that_can_be_called_is_kept_and_told_from_the_lane_to_it(node: Node) -> None:
    assert node.archive.request(node.port, wanted("1.2.3", "1.2.4")) == 0x0000
    [promise] = node.promises()
    assert (promise.peer, promise.state, promise.attempts) == ("archive", PromiseState.WAITING, 0)
    assert promise.next_try_at is not None and promise.next_try_at > promise.asked_at
    courier = Courier(node.database, node.files, "DICOMNODE", 0.001, 0.001, 3)
    with node.archive.listening():
        while serve(-promise.id, "archive", node.archive.peer, courier).startswith("nothing to do"):
            pass  # its second is not over
    refused = ((Reference(CT, "1.2.3"), 0x0112), (Reference(CT, "1.2.4"), 0x0112))
    assert node.archive.heard == {"2.25.1": Report("2.25.1", (), refused)}
    assert node.promises()[0].state is PromiseState.REPORTED


def test_a_scanner_that_cannot_be_called_is_told_on_its_own_association(node: Node, tmp_path: Path) -> None:
    [file] = write_ct_series(tmp_path / "ct", slices=1)
    dataset = dcmread(file)
    assert node.station.send(dataset) == 0x0000
    held, missing = str(dataset.SOPInstanceUID), "1.2.3"
    heard = node.scanner.heard
    assert node.scanner.request(node.port, wanted(held, missing), stays=lambda: bool(heard)) == 0x0000
    assert heard["2.25.1"] == Report("2.25.1", (Reference(CT, held),), ((Reference(CT, missing), 0x0112),))


def test_a_scanner_that_does_not_take_the_report_is_not_told_again_and_the_audit_says_so(node: Node) -> None:
    node.scanner.report_status = 0x0110
    heard = node.scanner.heard
    assert node.scanner.request(node.port, wanted("1.2.3"), stays=lambda: bool(heard)) == 0x0000
    node.station.receiver.stop(drain_s=5)
    [promise] = node.promises()
    assert promise.state is PromiseState.ABANDONED and "0x0110" in promise.reason
    with node.database.read() as connection:
        assert audit.entries(connection)[-1].event == "commitment not told"


def test_who_could_never_be_told_is_refused_at_once(tmp_path: Path) -> None:
    node = Node(tmp_path, receive_path="plain")
    try:
        assert node.scanner.request(node.port, wanted("1.2.3")) == 0x0110
        assert node.archive.request(node.port, wanted("1.2.3")) == 0x0000
        assert [one.peer for one in node.promises()] == ["archive"]
        assert node.told == [("commitment not understood", "scanner")]
    finally:
        node.stop()


def test_who_may_not_store_and_what_is_no_request_is_refused_by_the_standards_statuses(node: Node) -> None:
    viewer = CommittingPeer(ae_title="VIEWER")
    assert viewer.request(node.port, wanted("1.2.3")) == 0x0124
    assert node.archive.request(node.port, wanted("1.2.3"), action=2) == 0x0123
    assert node.archive.request(node.port, wanted("1.2.3"), instance="1.2.3.4") == 0x0112
    assert node.archive.request(node.port, wanted()) == 0x0115
    assert node.archive.request(node.port, wanted("1.2.3")) == 0x0000
    assert node.archive.request(node.port, wanted("1.2.4")) == 0x0110, "its transaction UID is in use"
    assert len(node.promises()) == 1
    assert {event for event, _ in node.told} == {"store refused", "commitment not understood"}


def test_a_request_is_refused_while_the_database_is_away(node: Node, tmp_path: Path) -> None:
    node.late.close()
    path = tmp_path / "var" / "node.sqlite"
    path.rename(path.with_name("elsewhere"))
    path.mkdir()
    try:
        assert node.archive.request(node.port, wanted("1.2.3")) in (0x0213, 0x0110)
    finally:
        path.rmdir()
        path.with_name("elsewhere").rename(path)


@pytest.mark.parametrize("roles", [True, False], ids=["in the provider's role", "without role selection"])
def test_a_report_on_an_association_of_its_own_closes_the_job(node: Node, tmp_path: Path, roles: bool) -> None:
    courier = Courier(node.database, node.files, "DICOMNODE", 30, 600, 3)
    job_id = derived_job(courier, tmp_path)
    pacs = node.archive
    quick = pacs.peer.model_copy(update={"commitment_wait_s": 0.0})
    with pacs.listening():
        assert serve(job_id, "archive", quick, courier) == DeliveryState.COMMITTING
    [transaction] = pacs.taken
    report = pacs.report_of(transaction)
    assert node.scanner.report(node.port, report) == 0x0115, "it was not asked"
    assert pacs.report(node.port, report, roles=roles) == 0x0000
    assert "nothing to do: job delivered" in serve(job_id, "archive", quick, courier)
    assert node.told == [("commitment not understood", "scanner")]


def test_over_tls_a_peer_asks_and_is_told_and_is_asked_and_reports(tmp_path: Path, authority: Authority) -> None:
    node = Node(tmp_path, authority=authority)
    try:
        lines = Lines(identity=authority.certified("node").identity, idle_s=0)
        courier = Courier(node.database, node.files, "DICOMNODE", 0.001, 0.001, 3, lines=lines)
        job_id, archive = derived_job(courier, tmp_path), node.archive
        quick = archive.peer.model_copy(update={"commitment_wait_s": 0.0})
        with archive.listening():
            assert archive.request(node.station.tls_port, wanted("1.2.3")) == 0x0000
            [promise] = node.promises()
            while serve(-promise.id, "archive", quick, courier).startswith("nothing to do"):
                pass  # its second is not over
            assert archive.heard.keys() == {"2.25.1"}
            assert serve(job_id, "archive", quick, courier) == DeliveryState.COMMITTING
        [transaction] = archive.taken
        assert archive.report(node.station.tls_port, archive.report_of(transaction)) == 0x0000
        assert "nothing to do: job delivered" in serve(job_id, "archive", quick, courier)
        archive.certified = None
        with pytest.raises(AssertionError):  # who is to speak TLS is not heard without it
            archive.report(node.port, archive.report_of(transaction))
    finally:
        node.stop()
