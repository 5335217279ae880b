"""An instance is durable before its sender hears success; whoever is not known is refused."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import CTImageStorage, Verification

from dicomnode.peer import Peer
from dicomnode.receive import CONFLICT_STATUS
from dicomnode.uids import IMPLEMENTATION_CLASS_UID
from storage.errors import StorageFull
from storage.instance_files import Arrival, InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_receive import RawPeer, Station, associate_request

ACCEPTED, REJECTED = 0x02, 0x03


class FullDisk(InstanceFiles):
    """A store whose disk is full."""

    def open_arrival(self, sop_instance_uid: str) -> Arrival:
        raise StorageFull("the disk is full")


class QuotingFault(InstanceFiles):
    """A store with a fault that nobody foresaw and that quotes what it was given."""

    def open_arrival(self, sop_instance_uid: str) -> Arrival:
        raise ValueError("Doe^John")


@pytest.fixture(params=["fast", "plain"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Station]]:
    """Every promise holds on both receive paths."""
    stations: list[Station] = []

    def start_station(kind: type[InstanceFiles] = InstanceFiles, **options: Any) -> Station:
        stations.append(Station(kind(tmp_path / "var"), receive_path=request.param, **options))
        return stations[-1]

    yield start_station
    for station in stations:
        station.receiver.stop(drain_s=5)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return dcmread(write_ct_series(tmp_path / "source", slices=1)[0])


def test_success_means_that_the_bytes_are_on_disk_as_they_came(start: Callable[..., Station], dataset: Dataset) -> None:
    station = start()
    assert station.send(dataset) == 0x0000
    assert station.arrived.is_set()
    (kept,) = station.files.arrivals()
    copy = dcmread(kept)
    assert copy == dataset
    assert copy.file_meta.SourceApplicationEntityTitle == "SCANNER"
    assert copy.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert copy.file_meta.TransferSyntaxUID == dataset.file_meta.TransferSyntaxUID


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_it_is_kept_in_the_transfer_syntax_it_came_in(
    start: Callable[..., Station], tmp_path: Path, syntax: str
) -> None:
    source = dcmread(write_ct_series(tmp_path / "other", slices=1, transfer_syntax_uid=syntax)[0])
    station = start()
    assert station.send(source) == 0x0000
    copy = dcmread(station.files.arrivals()[0])
    assert copy.file_meta.TransferSyntaxUID == syntax
    assert (copy.pixel_array == source.pixel_array).all()


def test_the_same_instance_again_is_success_and_stored_once(start: Callable[..., Station], dataset: Dataset) -> None:
    station = start()
    assert [station.send(dataset) for _ in range(2)] == [0x0000, 0x0000]
    assert len(station.files.arrivals()) == 1


def test_the_same_uid_with_other_bytes_is_a_conflict_and_the_first_copy_stays(
    start: Callable[..., Station], dataset: Dataset
) -> None:
    station = start()
    station.send(dataset)
    before = station.files.arrivals()[0].read_bytes()
    dataset.SeriesDescription = "changed"
    assert station.send(dataset) == 0x0111
    assert station.files.arrivals()[0].read_bytes() == before
    told = [details for event, _, details in station.told if event == "conflict"]
    assert [one["series_instance_uid"] for one in told] == [dataset.SeriesInstanceUID]


def test_a_conflict_is_answered_as_the_admin_wishes_and_told_all_the_same(
    start: Callable[..., Station], dataset: Dataset
) -> None:
    station = start(conflict_status=CONFLICT_STATUS["success"])
    station.send(dataset)
    before = station.files.arrivals()[0].read_bytes()
    dataset.SeriesDescription = "changed"
    assert station.send(dataset) == 0x0000
    assert [path.read_bytes() for path in station.files.arrivals()] == [before]
    assert "conflict" in [event for event, _, _ in station.told]


def test_below_the_watermark_a_caller_is_told_to_come_again(start: Callable[..., Station]) -> None:
    station = start(has_room=lambda: False)
    entity = AE("SCANNER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", station.port, ae_title="DICOMNODE")
    answer = association.acceptor.primitive
    assert association.is_rejected
    assert (answer.result, answer.result_source, answer.diagnostic) == (0x02, 0x03, 0x01)
    assert "association refused" in station.events()


def test_a_full_disk_is_out_of_resources_never_success(start: Callable[..., Station], dataset: Dataset) -> None:
    station = start(FullDisk)
    assert station.send(dataset) == 0xA700
    assert station.files.arrivals() == []
    assert "instance refused" in station.events()


def test_an_instance_longer_than_the_node_takes_is_out_of_resources_and_the_next_one_is_taken(
    start: Callable[..., Station], tmp_path: Path
) -> None:
    long, short = (
        dcmread(write_ct_series(tmp_path / str(size), slices=1, rows=size, columns=size)[0]) for size in (512, 64)
    )
    station = start(maximum_instance_bytes=300_000)
    assert [station.send(long), station.send(short)] == [0xA700, 0x0000]
    assert len(station.files.arrivals()) == 1


def test_the_audit_hears_of_what_an_association_brought(start: Callable[..., Station], dataset: Dataset) -> None:
    station = start()
    station.send(dataset)
    dataset.PatientID = ""
    del dataset.StudyInstanceUID
    station.send(dataset)
    station.receiver.stop(drain_s=5)
    assert station.events() == ["association released", "instance refused", "association released"]
    assert [details["status"] for event, _, details in station.told if event == "instance refused"] == ["0xA900"]
    ends = [dict(details) for event, _, details in station.told if event == "association released"]
    assert ends == [{"instances_kept": 1, "instances_refused": 0}, {"instances_kept": 0, "instances_refused": 1}]


def test_a_data_set_that_names_another_instance_than_its_command_is_refused(
    start: Callable[..., Station], dataset: Dataset
) -> None:
    station = start()
    entity = AE("SCANNER")
    entity.add_requested_context(CTImageStorage, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", station.port, ae_title="DICOMNODE")
    request = C_STORE()
    request.MessageID, request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = 1, CTImageStorage, "1.2.3.4"
    request.Priority = 2
    request.DataSet = io.BytesIO(encode(dataset, False, True) or b"")
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert answer.Status == 0xA900
    assert station.files.arrivals() == []


def test_neither_log_nor_audit_repeats_what_may_be_a_name(
    start: Callable[..., Station], dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    station = start(QuotingFault)
    assert station.send(dataset) == 0xC000
    dataset.SOPInstanceUID = "Doe^John"
    assert station.send(dataset) in (0xA900, 0xC000)
    refused = [details for event, _, details in station.told if event == "instance refused"]
    assert refused[0]["reason"] == "ValueError"
    assert refused[1]["sop_instance_uid"] == "(no UID)"
    said = [record.getMessage() for record in caplog.records if record.name.startswith("dicomnode")]
    assert len(said) == 2
    assert "Doe" not in f"{refused} {said}"


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_data_set_without_the_uids_we_need_is_refused(
    start: Callable[..., Station], dataset: Dataset, keyword: str
) -> None:
    station = start()
    delattr(dataset, keyword)
    assert station.send(dataset) == 0xA900
    assert station.files.arrivals() == []


def test_unknown_callers_and_wrong_networks_are_refused_and_told(
    start: Callable[..., Station], dataset: Dataset
) -> None:
    station = start()
    assert station.send(dataset, calling="STRANGER") is None
    assert station.send(dataset, calling="FAR") is None
    assert [event for event, _, _ in station.told] == ["association refused"] * 2
    assert "STRANGER" in station.told[0][2]["reason"] and "may not call from" in station.told[1][2]["reason"]


def test_a_peer_without_the_right_is_not_authorised(start: Callable[..., Station], dataset: Dataset) -> None:
    station = start()
    assert station.send(dataset, calling="VIEWER") == 0x0124
    assert station.files.arrivals() == []


def test_peers_can_change_while_it_runs(start: Callable[..., Station], dataset: Dataset) -> None:
    station = start()
    station.receiver.accept_peers({"new": Peer(name="new", ae_title="NEW", may=("store",))})
    assert station.send(dataset) is None
    assert station.send(dataset, calling="NEW") == 0x0000


def test_of_many_who_ask_at_once_for_the_last_place_one_gets_it(start: Callable[..., Station]) -> None:
    open_ones: list[Callable[[], int]] = []

    def has_place() -> bool:
        there_is = open_ones[0]() < 1
        time.sleep(0.1)  # the others ask meanwhile
        return there_is

    station = start(has_place=has_place)
    open_ones.append(lambda: station.receiver.open_associations)
    with ExitStack() as stack:
        peers = [stack.enter_context(RawPeer(station.port, associate=False)) for _ in range(4)]
        for peer in peers:
            peer.send(associate_request())
        assert sorted(peer.read_pdu()[0] for peer in peers) == [ACCEPTED, REJECTED, REJECTED, REJECTED]


def test_an_echo_is_answered(start: Callable[..., Station]) -> None:
    entity = AE("SCANNER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", start().port, ae_title="DICOMNODE")
    assert association.send_c_echo().Status == 0x0000
    association.release()
