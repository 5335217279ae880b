"""What is kept is what the command said, byte for byte; what is not kept leaves nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.errors import DatasetUnfit, InstanceTooLong
from dicomnode.incoming import Incoming, part10_head
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.errors import InstanceConflict
from storage.instance_files import InstanceFiles, Kept
from tests.builders_receive import explicit

CT = "1.2.840.10008.5.1.4.1.1.2"


def data_set(*, private_bytes: int = 0, tail: bytes = b"pixels") -> bytes:
    """A small data set; private_bytes: so many lie before the series' UID."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, "1.2.3.4"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.5"
    if private_bytes:
        dataset.add_new(0x00090010, "LO", "MAKER")
        dataset.add_new(0x00091001, "OB", bytes(private_bytes))
    dataset.InstanceNumber = "1"
    return explicit(dataset) + b"\xe0\x7f\x10\x00OB\0\0" + len(tail).to_bytes(4, "little") + tail


@pytest.fixture
def files(tmp_path: Path) -> Iterator[InstanceFiles]:
    files = InstanceFiles(tmp_path / "var")
    yield files
    assert list((tmp_path / "var" / "incoming").iterdir()) == []


def receive(
    files: InstanceFiles, content: bytes, *, piece: int = 1 << 20, uid: str = "1.2.3.4", maximum_bytes: int = 10_000_000
) -> Kept:
    incoming = Incoming(
        files,
        sop_class_uid=CT,
        sop_instance_uid=uid,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        calling_ae_title="SCANNER",
        maximum_bytes=maximum_bytes,
    )
    try:
        for at in range(0, len(content), piece):
            incoming.take(memoryview(content)[at : at + piece])
        return incoming.keep()
    finally:
        incoming.close()
        incoming.close()


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
def test_it_is_kept_byte_for_byte_however_it_comes_in_pieces(files: InstanceFiles, piece: int) -> None:
    assert receive(files, data_set(), piece=piece) is Kept.NEW
    assert files.path_of("1.2.3.4").read_bytes().endswith(data_set())
    assert dcmread(files.path_of("1.2.3.4")).SeriesInstanceUID == "1.2.3.5"


def test_uids_that_come_long_after_the_first_piece_are_found_in_the_file(files: InstanceFiles) -> None:
    content = data_set(private_bytes=700_000)
    assert receive(files, content, piece=1 << 18) is Kept.NEW
    with pytest.raises(DatasetUnfit, match=r"names instance 9\.9"):
        receive(files, content, piece=1 << 18, uid="9.9")


def test_another_instance_or_class_than_the_commands_is_unfit(files: InstanceFiles) -> None:
    with pytest.raises(DatasetUnfit, match=r"the command names instance 1\.2\.3\.5, the data set 1\.2\.3\.4"):
        receive(files, data_set(), uid="1.2.3.5")
    with pytest.raises(DatasetUnfit, match="class"):
        receive(files, data_set().replace(CT.encode(), b"1.2.840.10008.5.1.4.1.1.4"))
    assert files.arrivals() == []


def test_an_empty_data_set_is_unfit(files: InstanceFiles) -> None:
    with pytest.raises(DatasetUnfit):
        receive(files, b"")


def test_what_is_too_long_is_said_before_it_is_whole(files: InstanceFiles) -> None:
    content = data_set(tail=bytes(100_000))
    with pytest.raises(InstanceTooLong, match="maximum_instance_bytes"):
        receive(files, content, piece=1000, maximum_bytes=50_000)
    assert receive(files, content, maximum_bytes=len(content)) is Kept.NEW


def test_the_same_again_is_the_same_and_other_bytes_conflict(files: InstanceFiles) -> None:
    assert [receive(files, data_set()), receive(files, data_set(), piece=50)] == [Kept.NEW, Kept.SAME]
    with pytest.raises(InstanceConflict):
        receive(files, data_set(tail=b"others"))


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
@pytest.mark.parametrize("title", ["A", "SCANNER1"])
def test_the_head_is_file_meta_information_as_pydicom_reads_it(uid: str, title: str) -> None:
    head = part10_head(
        sop_class_uid=CT, sop_instance_uid=uid, transfer_syntax_uid=ExplicitVRLittleEndian, calling_ae_title=title
    )
    assert head[128:132] == b"DICM"
    assert 144 + int.from_bytes(head[140:144], "little") == len(head)
    meta = dcmread(io.BytesIO(head + data_set())).file_meta
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, uid)
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (meta.ImplementationClassUID, meta.ImplementationVersionName) == (
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION_NAME,
    )
    assert meta.SourceApplicationEntityTitle == title
    assert len(meta) == 8  # and its group length
