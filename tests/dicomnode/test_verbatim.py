"""Elements keep their bytes, whatever the transfer syntax and the character set."""

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_charset_files
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.uids import IMPLEMENTATION_CLASS_UID
from dicomnode.verbatim import content_of, encoded, holds_more_than_ascii, part10_file, raw_element, verbatim_elements
from tests.builders_dicom import with_bytes, write_ct_series

IR_58 = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab= "
NAME, DESCRIPTION = 0x00100010, 0x00081030


def through(path: Path) -> Dataset:
    content = part10_file(
        encoded(verbatim_elements(dcmread(path)).values()), sop_class_uid="1.2.3", sop_instance_uid="1.2.4"
    )
    return dcmread(BytesIO(content))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_value_survives_every_transfer_syntax(tmp_path: Path, syntax: str) -> None:
    path = write_ct_series(tmp_path, slices=1, transfer_syntax_uid=syntax, FrameTime="1.500", PatientWeight="070.10")[0]
    before, after = dcmread(path), through(path)
    assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert after.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert after.get_item(0x00101030).value == b"070.10"
    assert [element for element in before if element.keyword != "PixelData"] == list(after)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_k2_names_in_a_set_that_pydicom_cannot_decode_keep_their_bytes_also_in_sequences(
    tmp_path: Path, syntax: str
) -> None:
    item = Dataset()
    item.RequestedProcedureDescription = "#" * len(IR_58)
    path = write_ct_series(
        tmp_path,
        slices=1,
        transfer_syntax_uid=syntax,
        PatientName="#" * len(IR_58),
        StudyDescription="#" * len(IR_58),
        RequestAttributesSequence=[item],
    )[0]
    with_bytes(path, b"#" * len(IR_58), IR_58)
    with_bytes(path, b"ISO_IR 100", b"ISO 2022 I")
    after = through(path)
    assert after.get_item(NAME).value == IR_58
    assert after.get_item(DESCRIPTION).value == IR_58
    assert after.RequestAttributesSequence[0].get_item(0x00321060).value == IR_58


def test_g8_the_names_of_all_character_set_files_keep_their_bytes() -> None:
    files = [Path(name) for name in get_charset_files("chr*.dcm")]
    assert len(files) >= 10
    for path in files:
        before, after = dcmread(path), through(path)
        if NAME in before:
            assert after.get_item(NAME).value.strip() == before.get_item(NAME).value.strip(), path.name
        public = [tag for tag in before if tag.tag.element and not tag.tag.is_private and tag.tag.group < 0x5000]
        assert public == list(after), path.name


def test_k4_bytes_without_a_declared_set_stay_and_none_is_declared(tmp_path: Path) -> None:
    path = write_ct_series(tmp_path, slices=1, PatientName="####", SpecificCharacterSet=None)[0]
    with_bytes(path, b"####", b"\xc4\xd6\xdc ")
    after = through(path)
    assert after.get_item(NAME).value == b"\xc4\xd6\xdc "
    assert "SpecificCharacterSet" not in after


@pytest.mark.parametrize(
    ("content", "expected"), [(b"Mueller ", False), (b"M\xfcller^J", True), (b"\x1b$)C^Hon", True), (b"", False)]
)
def test_k4_texts_that_only_a_character_set_explains_are_found_also_in_sequences(
    tmp_path: Path, content: bytes, expected: bool
) -> None:
    item = Dataset()
    item.RequestedProcedureDescription = "########"
    path = write_ct_series(tmp_path, slices=1, RequestAttributesSequence=[item], SpecificCharacterSet=None)[0]
    with_bytes(path, b"########", content.ljust(8))
    elements = verbatim_elements(dcmread(path))
    assert holds_more_than_ascii(elements.values()) == expected
    del elements[0x00400275]
    assert not holds_more_than_ascii(elements.values())


def test_a_text_under_a_wrong_text_vr_gets_the_dictionarys(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        dataset.add_new(0x00280303, "SH", "MODIFIED")

    path = write_ct_series(tmp_path, slices=1, each=spoil)[0]
    assert through(path)["LongitudinalTemporalInformationModified"].VR == "CS"


def test_p6_only_philips_scale_factors_of_all_private_elements_are_kept(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        philips = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        philips.add_new(0x00, "DS", "0.000551")
        philips.add_new(0x09, "DS", "1.5")
        philips.add_new(0x01, "LO", "other")
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", b"secret")

    after = through(write_ct_series(tmp_path, slices=1, each=spoil)[0])
    assert [element.tag for element in after if element.tag.is_private] == [0x70530010, 0x70531000, 0x70531009]
    assert after[0x70531000].value == 0.000551


def test_the_content_of_an_element_is_its_bytes_without_a_texts_padding() -> None:
    assert content_of(None) == b"" and content_of(raw_element(0x00100020, "LO", b"A1 ")) == b"A1"
    assert content_of(raw_element(0x00280106, "US", b"\x20\x00")) == b"\x20\x00"
    assert content_of(DataElement(0x00280106, "US", 32)) == b"\x20\x00"
    assert content_of(DataElement(0x00282000, "OB", b"\x01\x02")) == b"\x01\x02", "a long VR has a longer head"
