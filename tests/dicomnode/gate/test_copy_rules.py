"""Every attribute that is copied is held against the source's byte for byte, and nothing is decoded for it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag

from dicomnode.derive import derive_series
from dicomnode.errors import OutputFault
from dicomnode.gate.copy_rules import is_same, rules_of_copies
from dicomnode.gate.output_gate import check_instance
from dicomnode.load import load_volume
from inference.pipeline import Outcome
from tests.builders_dicom import card_for, code, job_facts, write_ct_series, write_mr_series, write_pet_series
from tests.builders_faults import lacks, sets, spoiled

WRITERS: dict[str, Callable[..., list[Path]]] = {"CT": write_ct_series, "PT": write_pet_series, "MR": write_mr_series}
RICH: dict[str, Any] = {
    "InstitutionAddress": "Street 1",
    "ContrastBolusAgent": "Agent",
    "ImageLaterality": "U",
    "LossyImageCompression": "00",
    "ReconstructionDiameter": "400",
    "HeartRate": "60",
}
OF_KIND: dict[str, dict[str, Any]] = {
    "CT": {"GantryDetectorTilt": "0", "TableHeight": "100", "CTDIvol": 10.0},
    "PT": {"DoseCalibrationFactor": "1", "WindowCenter": None, "WindowWidth": None},
    "MR": {"InversionTime": "100", "ImagingFrequency": "63.8", "TriggerTime": "3", "DiffusionBValue": 0.0},
}


def raw(value: bytes, vr: str = "LO") -> RawDataElement:
    return RawDataElement(Tag("PatientID"), vr, len(value), value, 0, False, True)


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
def test_no_copied_attribute_can_be_changed_or_taken_away_unseen(tmp_path: Path, modality: str) -> None:
    source, images = load_volume(WRITERS[modality](tmp_path, slices=2, **RICH, **OF_KIND[modality]))
    card = card_for(modality)
    content = list(derive_series(Outcome(source), card, images, job=job_facts()))[1].content
    check_instance(content, card, images[1], values=source.values[1])

    def is_seen(spoil: Callable[[Dataset], None]) -> bool:
        try:
            check_instance(spoiled(content, spoil), card, images[1], values=source.values[1])
        except (OutputFault, ValueError):
            return True
        return False

    numbers = (
        "SeriesNumber",
        "InstanceNumber",
        "NumberOfSlices",
    )  # only the series as a whole shows what these should be
    for element in dcmread(BytesIO(content)):
        keyword = element.keyword
        if keyword in ("PixelData", "SpecificCharacterSet"):  # C28 has its own faults
            continue
        assert is_seen(lacks(keyword)), f"{keyword} was taken away"
        if element.VR != "SQ" and keyword not in numbers:
            assert is_seen(sets(**{keyword: other_value(element)})), f"{keyword} was changed"


def other_value(element: DataElement) -> Any:
    texts = {
        "DA": "19990101",
        "TM": "010101",
        "DT": "19990101010101",
        "UI": "1.2.3.9.9",
        "AS": "001Y",
        "PN": "An^Other",
    }
    if element.VR in ("DS", "IS", "US", "SS", "FD", "FL"):
        kind = float if element.VR in ("DS", "FD", "FL") else int
        return [kind(value) + 1 for value in (element.value if element.VM > 1 else [element.value or 0])]
    return texts.get(element.VR, "ZZZ")


def test_a_number_of_bytes_that_are_blanks_is_a_number() -> None:
    assert not is_same(raw(b"\x20\x00", "US"), None) and not is_same(raw(b"\x00\x00", "US"), None)
    assert not is_same(raw(b"\x20\x00", "US"), raw(b"\x00\x20", "US"))


def test_what_a_synthetic_ct_keeps_says_nothing_of_the_acquisition() -> None:
    assert "T2" not in rules_of_copies("PT", "CT").values() and "T2" in rules_of_copies("CT", "CT").values()


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
