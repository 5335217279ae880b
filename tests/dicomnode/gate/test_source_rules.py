"""A derived image is held against its source: copied values byte by byte, history kept."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.gate.source_rules import rules_asked_of_source, source_findings
from dicomnode.load import load_volume
from dicomnode.source_image import SourceImage, read_source_image
from dicomnode.verbatim import verbatim_elements
from tests.builders_dicom import card_for, code, derived_datasets, write_ct_series, write_mr_series, write_pet_series
from tests.builders_faults import good_image, sets, spoiled

OTHER = code("1", "99X", "Schritt \u00e4")


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


@pytest.mark.parametrize(
    ("write", "window"),
    [(write_ct_series, {"WindowCenter": "50"}), (write_pet_series, {"WindowCenter": "7"}), (write_mr_series, None)],
)
def test_c27_the_window_of_a_source_without_one_is_the_nodes(tmp_path: Path, write: object, window: object) -> None:
    assert callable(write)
    files = write(tmp_path, WindowCenter=None, WindowWidth=None)
    source, images = load_volume(files)
    (dataset, *_) = derived_datasets(files, card_for(source.acquisition.modality))
    out = BytesIO()
    dataset.save_as(out)
    assert not broken(out.getvalue(), images[0])
    spoil = sets(**window) if isinstance(window, dict) else sets(WindowCenter="1", WindowWidth="2")
    assert broken(spoiled(out.getvalue(), spoil), images[0]) == {"C27"}


def test_k1_asking_decodes_nothing_of_the_source(tmp_path: Path) -> None:
    item = Dataset()
    item.Manufacturer, item.InstitutionName = "Fabrik", "H\u00f4pital"
    item.PurposeOfReferenceCodeSequence = [code("109103", "DCM", "Modifying Equipment")]
    files = write_ct_series(tmp_path, ContributingEquipmentSequence=[item], DerivationCodeSequence=[OTHER])
    _, images = load_volume(files)
    (dataset, *_) = derived_datasets(files, card_for("CT"))
    out = BytesIO()
    dataset.save_as(out)
    assert not broken(out.getvalue(), images[0])

    def undecoded(one: Dataset) -> bool:
        found = (one.get_item(tag) for tag in one.keys())  # noqa: SIM118 - iterating over a Dataset decodes it
        return all(
            all(map(undecoded, element.value)) if element.VR == "SQ" else isinstance(element, RawDataElement)
            for element in found
            if element is not None
        )

    for keyword in ("ContributingEquipmentSequence", "DerivationCodeSequence"):
        assert all(map(undecoded, images[0].elements[Tag(keyword)].value)), keyword
