"""A derived image names its sources, its makers in order, and its times."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode import provenance
from dicomnode.source_image import SourceImage, read_source_image
from tests.builders_dicom import card_for, code, job_facts, with_bytes, write_ct_series


def image_of(folder: Path, **changes: Any) -> SourceImage:
    return read_source_image(write_ct_series(folder, slices=1, **changes)[0])


def equipment(name: str) -> Dataset:
    item = Dataset()
    item.Manufacturer, item.PurposeOfReferenceCodeSequence = name, [code("109101", "DCM", "Acquisition Equipment")]
    return item


def test_c10_equipment_is_named_first_to_last(tmp_path: Path) -> None:
    image = image_of(
        tmp_path,
        ImageType=["DERIVED", "SECONDARY", "AXIAL"],
        ContributingEquipmentSequence=[equipment("First"), equipment("Second")],
    )
    items = provenance.contributing_equipment(image, card_for("CT"), job_facts())
    assert [str(item["Manufacturer"].value) for item in items] == ["First", "Second", "Maker", "dicom-ai-node"]
    purposes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in items]
    assert purposes == ["109101", "109101", "109102", "109102"]
    model = items[-1]
    assert (model.ManufacturerModelName, model.SoftwareVersions) == ("identity", "1.0")
    assert "parameters sha256" in model.ContributionDescription and model.DeviceUID.startswith("2.25.")


def test_c10_an_original_was_acquired_and_a_synthetic_image_synthesized(tmp_path: Path) -> None:
    items = provenance.contributing_equipment(image_of(tmp_path), card_for("PT", to="CT"), job_facts())
    assert [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in items] == ["109101", "109100"]


def test_c10_a_source_without_manufacturer_is_of_an_unknown_one(tmp_path: Path) -> None:
    image = image_of(tmp_path, Manufacturer="")
    assert provenance.contributing_equipment(image, card_for("CT"), job_facts())[0].Manufacturer == "Unknown"


def test_c12_earlier_steps_come_first(tmp_path: Path) -> None:
    image = image_of(
        tmp_path,
        DerivationCodeSequence=[code("113085", "DCM", "Spatial resampling")],
        DerivationDescription="Resampled to 1 mm",
    )
    codes = provenance.derivation_codes(image, card_for("CT", token="MAR"))
    assert [item.CodeValue for item in codes] == ["113085", "MAR"]
    text = provenance.derivation_text(image, card_for("CT"))
    assert text == "Resampled to 1 mm; identity 1.0, method none: Nothing is changed."
    noted = provenance.derivation_text(image, card_for("CT"), note="Passed through.")
    assert noted == "Resampled to 1 mm; identity 1.0, method none: Nothing is changed. Passed through."


def test_c12_our_coding_scheme_is_declared_once_beside_those_of_the_source(tmp_path: Path) -> None:
    schemes = [Dataset() for _ in range(2)]
    schemes[0].CodingSchemeDesignator, schemes[1].CodingSchemeDesignator = "99DCMNODE", "99OTHER"
    image = image_of(tmp_path, CodingSchemeIdentificationSequence=schemes)
    declared = [item.CodingSchemeDesignator for item in provenance.coding_schemes(image)]
    assert declared == ["99OTHER", "99DCMNODE"]


def test_k1_what_we_add_is_ascii_though_the_source_is_not(tmp_path: Path) -> None:
    path = write_ct_series(tmp_path, slices=1, DerivationDescription="######")[0]
    with_bytes(path, b"######", b"\xe4\xf6\xfc\xdf\xe9 ")
    card = card_for("CT", purpose="Denoising à la Müller, 日本.", label="ünder")
    text = provenance.derivation_text(read_source_image(path), card)
    assert text.isascii() and text.startswith("(an earlier description, not in ASCII, is left out); identity 1.0")
    assert provenance.ascii_source_text(read_source_image(path), "DerivationDescription") == ""
    assert provenance.ascii_text("a\\b\n c  d" + "x" * 90, longest=10) == "ab c dxxxx"


@pytest.mark.parametrize(("offset", "expected"), [("+0000", "093015"), ("-0500", "043015"), ("+0530", "150015")])
def test_c19_times_are_in_the_zone_the_source_declares(tmp_path: Path, offset: str, expected: str) -> None:
    image = image_of(tmp_path, TimezoneOffsetFromUTC=offset)
    moment = provenance.local_moment(image, datetime(2025, 3, 1, 9, 30, 15, tzinfo=UTC))
    assert moment.strftime("%H%M%S") == expected


def test_the_parameters_have_one_hash_whatever_their_order() -> None:
    one = provenance.parameters_sha256(card_for("CT", settings={"a": 1, "b": 2}), job_facts())
    assert provenance.parameters_sha256(card_for("CT", settings={"b": 2, "a": 1}), job_facts()) == one
    assert provenance.parameters_sha256(card_for("CT", settings={"a": 1, "b": 3}), job_facts()) != one
    assert provenance.parameters_sha256(card_for("CT", method="other", settings={"a": 1, "b": 2}), job_facts()) != one
    assert provenance.parameters_sha256(card_for("CT"), job_facts(parameters_sha256="given")) == "given"


def test_a_naive_time_and_an_unknown_qualification_are_mistakes() -> None:
    with pytest.raises(ValueError, match="aware"):
        job_facts(created_at=datetime(2025, 1, 1))
    with pytest.raises(ValueError, match="RESEARCH"):
        job_facts(content_qualification="SERVICE")
