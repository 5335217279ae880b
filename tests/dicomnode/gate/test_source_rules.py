"""A derived image is held against its source: copied values byte by byte, history kept."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag

from dicomnode.gate.source_rules import is_same, rules_asked_of_source, rules_of_copies, source_findings
from dicomnode.load import load_volume
from dicomnode.source_image import SourceImage, read_source_image
from dicomnode.verbatim import verbatim_elements
from tests.builders_dicom import card_for, code, derived_datasets, write_ct_series
from tests.builders_faults import good_image


def broken(content: bytes, image: SourceImage) -> set[str]:
    dataset = dcmread(BytesIO(content))
    return {one.rule for one in source_findings(dataset, verbatim_elements(dataset), image) if not one.holds}


def raw(value: bytes, vr: str = "LO") -> RawDataElement:
    return RawDataElement(Tag("PatientID"), vr, len(value), value, 0, False, True)


@pytest.mark.parametrize("kind", ["CT", "PT", "MR", "SYN"])
def test_a_good_image_of_each_kind_keeps_what_it_must_of_its_source(kind: str) -> None:
    good = good_image(kind)
    assert not broken(good.content, good.image)


def test_the_image_of_another_patient_is_never_taken_for_the_source(tmp_path: Path) -> None:
    good = good_image("MR")
    other = read_source_image(write_ct_series(tmp_path, slices=1, PatientID="PHANTOM-2")[0])
    assert "C1" in broken(good.content, other)
    good = good_image("CT")
    assert {"C2", "C4", "C5", "C13", "C14", "C15"} <= broken(good.content, other)


def test_bytes_count_but_not_padding_nor_how_a_number_is_written() -> None:
    assert is_same(raw(b"A1 "), raw(b"A1\0")) and not is_same(raw(b"A1"), raw(b"a1"))
    assert is_same(raw(b"1.0\\2", "DS"), raw(b"1\\2.00", "DS")) and not is_same(raw(b"1", "DS"), raw(b"1.01", "DS"))
    assert not is_same(raw(b"x", "DS"), raw(b"y", "DS"))
    assert is_same(None, raw(b"")) and not is_same(None, raw(b"A"))


def test_sequences_are_the_same_item_by_item() -> None:
    def sequence(*items: Dataset) -> DataElement:
        return DataElement(Tag("AnatomicRegionSequence"), "SQ", DicomSequence(items))

    one, other = code("1", "DCM", "one"), code("2", "DCM", "two")
    assert is_same(sequence(one), sequence(code("1", "DCM", "one")))
    assert not is_same(sequence(one), sequence(other)) and not is_same(sequence(one, one), sequence(one))
    assert is_same(sequence(), None)


def test_a_chain_that_lost_its_history_is_found(tmp_path: Path) -> None:
    first = tmp_path / "first.dcm"
    made = derived_datasets(write_ct_series(tmp_path / "source"), card_for("CT", token="MAR"))
    made[0].save_as(first)
    image = read_source_image(first)
    good = good_image("CT")
    assert {"C10", "C11", "C12"} <= broken(good.content, image)


def test_c13_the_frame_of_a_multi_frame_source_is_asked() -> None:
    good = good_image("CT")
    assert "C13" in broken(good.content, replace(good.image, frame=2))


def test_c2_other_peoples_character_sets_are_compared_as_bytes(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName="Ján^Ďurica")
    (dataset, *_) = derived_datasets(files, card_for("CT"))
    out = BytesIO()
    dataset.save_as(out)
    _, images = load_volume(files)
    assert not broken(out.getvalue(), images[0])
    latin = replace(images[0], elements={**images[0].elements, 0x00100010: raw("Ján^Durica".encode("latin-1"), "PN")})
    assert broken(out.getvalue(), latin) == {"C2"}


def test_what_is_asked_of_the_source_depends_on_the_kind() -> None:
    assert {"P1", "P5", "P6"} <= set(rules_asked_of_source("PT")) and "T2" in rules_asked_of_source("CT")
    assert not {"P1", "T2"} & set(rules_asked_of_source("MR"))
    assert "T2" not in rules_of_copies("PT", "CT").values() and "T2" in rules_of_copies("CT", "CT").values()
