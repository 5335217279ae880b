"""A header is read without pixels, and what cannot be read is refused with a reason."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, EnhancedMRColorImageStorage

from dicomnode.errors import SeriesUnusable
from dicomnode.source_image import read_source_image
from tests.builders_dicom import write_ct_series


def test_the_pixels_stay_on_the_disk(tmp_path: Path) -> None:
    image = read_source_image(write_ct_series(tmp_path, slices=1)[0])
    assert "PixelData" not in image.dataset
    assert 0x7FE00010 not in image.elements


def test_values_are_read_as_text_and_number_and_absent_ones_as_none(tmp_path: Path) -> None:
    path = write_ct_series(tmp_path, slices=1, PatientAge="", ConvolutionKernel=["Br38f", "3"])[0]
    image = read_source_image(path)
    assert image.texts("ConvolutionKernel") == ("Br38f", "3")
    assert image.number("KVP") == 120.0
    assert (image.text("PatientAge"), image.number("PatientAge"), image.number("EchoTime")) == ("", None, None)
    assert image.numbers("PixelSpacing") == (1.0, 1.0)
    assert image.raw("PatientID") == b"PHANTOM-1"


@pytest.mark.parametrize("content", [b"", b"not a DICOM file at all" * 20])
def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    with pytest.raises(SeriesUnusable) as refusal:
        read_source_image(path)
    assert refusal.value.reason_code == "unreadable"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\x02\x00\x00\x00UL\x04\x00", b"\x02\x00\x00\x00UL\x05\x00"),  # a length that is no number's
        (b"\x08\x00\x60\x00CS\x02\x00CT", b"\x08\x00\x60\x00SQ\0\0\xff\xff\xff\xff"),  # a sequence without end
    ],
)
def test_a_spoiled_header_is_refused_and_not_taken_for_a_fault_of_the_disk(
    tmp_path: Path, before: bytes, after: bytes
) -> None:
    path = write_ct_series(tmp_path, slices=1, PixelData=None)[0]
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after))
    with pytest.raises(SeriesUnusable) as refusal:
        read_source_image(path)
    assert refusal.value.reason_code == "unreadable"


def test_a_file_that_is_gone_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_source_image(tmp_path / "gone.dcm")


def test_a_frame_of_an_enhanced_class_stands_for_the_single_frame_class(tmp_path: Path) -> None:
    enhanced = read_source_image(write_ct_series(tmp_path, slices=1, SOPClassUID=EnhancedCTImageStorage)[0])
    assert enhanced.image_class_uid == CTImageStorage and enhanced.text("SOPClassUID") == EnhancedCTImageStorage
    other = read_source_image(write_ct_series(tmp_path, slices=1, SOPClassUID=EnhancedMRColorImageStorage)[0])
    assert other.image_class_uid == EnhancedMRColorImageStorage


def test_a_deeply_nested_sequence_is_refused_and_not_a_crash(tmp_path: Path) -> None:
    depth = 3000
    path = write_ct_series(tmp_path, slices=1, PatientComments="#" * 8)[0]
    head = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    before = path.read_bytes()
    at = before.index(b"\x08\x00\x60\x00CS")  # Modality; the nest sorts in a little late, which readers forgive
    path.write_bytes(before[:at] + head * depth + before[at:])
    with pytest.raises(SeriesUnusable) as refusal:
        read_source_image(path)
    assert refusal.value.reason_code == "unreadable"


def test_the_items_of_a_sequence_are_read_and_what_is_no_sequence_is_refused(tmp_path: Path) -> None:
    item = Dataset()
    item.Manufacturer, item.SoftwareVersions = "Maker", ["a", "b"]
    files = write_ct_series(tmp_path, slices=1, ContributingEquipmentSequence=[item], DerivationCodeSequence=[])
    image = read_source_image(files[0])
    (read,) = image.items("ContributingEquipmentSequence")
    keywords = ("Manufacturer", "SoftwareVersions", "StationName")
    assert [image.of_item(read, keyword) for keyword in keywords] == ["Maker", "a", ""]
    assert image.items("DerivationCodeSequence") == image.items("SourceImageSequence") == ()
    for value in ("x", ["x", "y"]):
        spoil = lambda k, dataset, value=value: dataset.add_new(0x0018A001, "LO", value)  # noqa: E731
        (path,) = write_ct_series(tmp_path, slices=1, each=spoil)
        with pytest.raises(SeriesUnusable, match="ContributingEquipmentSequence") as refusal:
            read_source_image(path).items("ContributingEquipmentSequence")
        assert refusal.value.reason_code == "unreadable"
