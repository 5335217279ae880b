"""What was done before stays said, byte for byte and in every character set."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from dicomnode.gate.source_rules import source_findings
from dicomnode.load import load_volume
from dicomnode.source_image import SourceImage, read_source_image
from dicomnode.verbatim import verbatim_elements
from tests.builders_dicom import card_for, code, derived_datasets, write_ct_series
from tests.builders_faults import good_image, sets, spoiled


def broken(content: bytes, image: SourceImage, **options: Any) -> set[str]:
    dataset = dcmread(BytesIO(content))
    found = source_findings(dataset, verbatim_elements(dataset), image, **options)
    return {one.rule for one in found if not one.holds}


def first_of(files: list[Path], **job: Any) -> tuple[bytes, SourceImage]:
    """The first derived image and its source."""
    _, images = load_volume(files)
    out = BytesIO()
    dcmwrite(out, derived_datasets(files, card_for("CT"), **job)[0])
    return out.getvalue(), images[0]


def equipment(**texts: str) -> Dataset:
    item = Dataset()
    item.Manufacturer, item.StationName = "Filter GmbH", "F1"
    for keyword, text in texts.items():
        setattr(item, keyword, text)
    item.PurposeOfReferenceCodeSequence = [code("109103", "DCM", "Modifying Equipment")]
    return item


@pytest.mark.parametrize("keyword", ["Manufacturer", "StationName"])
def test_c10_earlier_equipment_is_kept_to_the_last_byte(tmp_path: Path, keyword: str) -> None:
    content, image = first_of(write_ct_series(tmp_path, ContributingEquipmentSequence=[equipment()]))
    assert not broken(content, image)

    def spoil(dataset: Dataset) -> None:
        setattr(dataset.ContributingEquipmentSequence[0], keyword, "Filter Gmbh")

    assert broken(spoiled(content, spoil), image) == {"C10"}


def test_c12_an_earlier_description_cannot_be_rewritten(tmp_path: Path) -> None:
    content, image = first_of(write_ct_series(tmp_path, DerivationDescription="Resampled to 1 mm"))
    assert not broken(content, image)
    after = str(dcmread(BytesIO(content)).DerivationDescription)
    spoil = sets(DerivationDescription=after.replace("1 mm", "2 mm"))
    assert broken(spoiled(content, spoil), image) == {"C12"}


def test_c22_what_is_made_of_research_stays_research(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, ContentQualification="RESEARCH")
    content, image = first_of(files, content_qualification="PRODUCT")
    assert dcmread(BytesIO(content)).ContentQualification == "RESEARCH" and not broken(content, image)
    assert broken(spoiled(content, sets(ContentQualification="PRODUCT")), image) == {"C22"}


def test_c23_an_acquired_image_is_synthetic_only_beside_a_synthetic_one() -> None:
    good = good_image("CT")
    content = spoiled(good.content, sets(SyntheticData="YES"))
    assert broken(content, good.image) == {"C23"} and not broken(content, good.image, of_synthetic=True)


def test_a_chain_that_lost_its_history_is_found(tmp_path: Path) -> None:
    first = tmp_path / "first.dcm"
    made = derived_datasets(write_ct_series(tmp_path / "source"), card_for("CT", token="MAR"))
    made[0].save_as(first)
    image = read_source_image(first)
    good = good_image("CT")
    assert {"C10", "C11", "C12"} <= broken(good.content, image)
