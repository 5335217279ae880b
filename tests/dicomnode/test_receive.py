"""An instance is durable before its sender hears success; whoever is not known is refused."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from dicomnode.errors import DatasetUnfit
from dicomnode.peer import Peer
from dicomnode.receive import CONFLICT_STATUS, Receiver, part10_head, peek_uids
from dicomnode.uids import IMPLEMENTATION_CLASS_UID
from storage.errors import StorageFull
from storage.instance_files import InstanceFiles, Kept
from tests.builders_dicom import write_ct_series

PEERS = {
    "scanner": Peer(name="scanner", ae_title="SCANNER", may=("store",)),
    "viewer": Peer(name="viewer", ae_title="VIEWER", may=("query",)),
    "far": Peer(name="far", ae_title="FAR", may=("store",), networks=("10.0.0.0/8",)),
}


class FullDisk(InstanceFiles):
    """A store whose disk is full."""

    def keep_arrival(self, sop_instance_uid: str, chunks: Any) -> Kept:
        raise StorageFull("the disk is full")


class Station:
    """A receiver on a free port, and what it told."""

    def __init__(self, files: InstanceFiles, **options: Any) -> None:
        self.files, self.arrived = files, threading.Event()
        self.told: list[tuple[str, str, Mapping[str, Any]]] = []
        self.receiver = Receiver(
            ae_title="DICOMNODE",
            peers=PEERS,
            files=files,
            arrived=self.arrived,
            happened=lambda event, peer, details: self.told.append((event, peer, details)),
            maximum_associations=options.get("maximum_associations", 8),
            maximum_pdu=131072,
            idle_s=30,
            conflict_status=options.get("conflict_status", 0x0111),
        )
        self.port = self.receiver.start("127.0.0.1", 0)

    def send(self, dataset: Dataset, *, calling: str = "SCANNER", syntaxes: Any = None) -> int | None:
        """The status of one C-STORE; None when the association was not accepted."""
        entity = AE(calling)
        entity.add_requested_context(CTImageStorage, syntaxes or [dataset.file_meta.TransferSyntaxUID])
        association = entity.associate("127.0.0.1", self.port, ae_title="DICOMNODE")
        if not association.is_established:
            return None
        status = association.send_c_store(dataset)
        association.release()
        return int(status.Status)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    stations: list[Station] = []

    def start_station(kind: type[InstanceFiles] = InstanceFiles, **options: Any) -> Station:
        stations.append(Station(kind(tmp_path / "var"), **options))
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


def test_a_full_disk_is_out_of_resources_never_success(start: Callable[..., Station], dataset: Dataset) -> None:
    assert start(FullDisk).send(dataset) == 0xA700


def test_a_data_set_that_names_another_instance_than_its_command_is_refused(
    start: Callable[..., Station], dataset: Dataset
) -> None:
    station = start()
    entity = AE("SCANNER")
    entity.add_requested_context(CTImageStorage, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", station.port, ae_title="DICOMNODE")
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import encode

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


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_data_set_without_the_uids_we_need_is_refused(
    start: Callable[..., Station], dataset: Dataset, keyword: str
) -> None:
    station = start()
    delattr(dataset, keyword)
    assert station.send(dataset) == 0xA900
    assert station.files.arrivals() == []


def test_a_uid_that_is_a_path_never_becomes_one(
    start: Callable[..., Station], dataset: Dataset, tmp_path: Path
) -> None:
    encoded = io.BytesIO()
    dataset.SeriesInstanceUID = "1.2.3"
    dataset.save_as(encoded)
    hostile = encoded.getvalue().replace(b"1.2.3\0", b"../../", 1)
    meta_length = 144 + int.from_bytes(hostile[140:144], "little")
    with pytest.raises(DatasetUnfit):
        peek_uids(io.BytesIO(hostile[meta_length:]), dataset.file_meta.TransferSyntaxUID)


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


def test_an_echo_is_answered(start: Callable[..., Station]) -> None:
    entity = AE("SCANNER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", start().port, ae_title="DICOMNODE")
    assert association.send_c_echo().Status == 0x0000
    association.release()


@pytest.mark.parametrize(
    "junk", [b"", b"\xff" * 4000, b"\x08\x00\x05\x00CS\xff\xff", b"\x08\x00\x16\x00UI\x04\x001.2\x00"]
)
def test_bytes_that_are_no_data_set_are_unfit_whatever_they_are(junk: bytes) -> None:
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        with pytest.raises(DatasetUnfit):
            peek_uids(io.BytesIO(junk), syntax)


def test_the_head_is_file_meta_information_of_its_own_length() -> None:
    head = part10_head(
        sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid="1.2.840.10008.1.2.1", calling_ae_title="A"
    )
    assert head[128:132] == b"DICM"
    assert 144 + int.from_bytes(head[140:144], "little") == len(head)
