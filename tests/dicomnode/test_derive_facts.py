"""What the admin decides shapes the derived image: UDI, equipment's purpose, declared character set, kind of pixels."""

from __future__ import annotations

import logging
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import FileDataset, dcmread
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset

from dicomnode.derive import derive_series
from dicomnode.errors import OutputFault
from dicomnode.load import load_volume
from dicomnode.verbatim import verbatim_elements
from inference.pipeline import Outcome
from tests.builders_dicom import (
    card_for,
    ct_values,
    derived_datasets,
    job_facts,
    with_bytes,
    write_ct_series,
    write_mr_series,
    write_pet_series,
)
from tests.validators import dciodvfy, errors

CT = card_for("CT")
SPECIFIC_CHARACTER_SET, PATIENT_NAME = 0x00080005, 0x00100010
SYNTHETIC = card_for("PT", to="CT")


def file_of(dataset: Dataset, folder: Path) -> Path:
    path = folder / "derived.dcm"
    dataset.save_as(path)
    return path


def test_c9_the_nodes_udi_is_told_when_the_admin_has_one(tmp_path: Path) -> None:
    scanner = Dataset()
    scanner.UniqueDeviceIdentifier = "scanner's"
    files = write_ct_series(tmp_path, slices=1, UDISequence=[scanner])
    (plain,) = derived_datasets(files, CT)
    assert "UDISequence" not in plain
    (told,) = derived_datasets(files, CT, udi="(01)09506000134352(11)250301")
    assert [item.UniqueDeviceIdentifier for item in told.UDISequence] == ["(01)09506000134352(11)250301"]
    acquired = told.ContributingEquipmentSequence[0]
    assert [item.UniqueDeviceIdentifier for item in acquired.UDISequence] == ["scanner's"]
    assert errors(file_of(told, tmp_path)) == []


def test_c10_the_models_purpose_is_the_admins_but_for_a_synthetic_image(tmp_path: Path) -> None:
    purpose = ("Newcode1", "99IHE", "Processing Algorithm")
    (one,) = derived_datasets(write_ct_series(tmp_path / "ct", slices=1), CT, equipment_purpose=purpose)
    code = one.ContributingEquipmentSequence[-1].PurposeOfReferenceCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == purpose
    assert one.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    files = write_pet_series(tmp_path / "pet", slices=1)
    (synthetic,) = derived_datasets(files, SYNTHETIC, equipment_purpose=purpose)
    assert synthetic.ContributingEquipmentSequence[-1].PurposeOfReferenceCodeSequence[0].CodeValue == "109100"


def unnamed_set(folder: Path, content: bytes) -> list[Path]:
    files = write_ct_series(folder, slices=2, PatientName="#" * len(content), SpecificCharacterSet=None)
    for path in files:
        with_bytes(path, b"#" * len(content), content)
    return files


def test_k4_a_set_is_declared_for_texts_that_name_none_and_need_one_and_that_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = unnamed_set(tmp_path, b"M\xfcller^J\xf6rg ")
    with caplog.at_level(logging.WARNING):
        made = derived_datasets(files, CT, declared_character_set="ISO_IR 100")
    assert [(one.SpecificCharacterSet, str(one.PatientName)) for one in made] == [("ISO_IR 100", "Müller^Jörg")] * 2
    assert len([line for line in caplog.messages if "ISO_IR 100" in line]) == 1
    assert "ller" not in caplog.text, "a log never holds a patient's name"
    assert errors(file_of(made[0], tmp_path)) == []
    several = derived_datasets(files, CT, declared_character_set="ISO_IR 100\\ISO 2022 IR 58")
    assert list(several[0].SpecificCharacterSet) == ["ISO_IR 100", "ISO 2022 IR 58"]


def test_k4_no_set_is_declared_unasked_nor_where_all_is_ascii_nor_over_the_sources_own(tmp_path: Path) -> None:
    bytes_of = b"M\xfcller^J\xf6rg "
    for one in derived_datasets(unnamed_set(tmp_path / "unasked", bytes_of), CT):
        assert "SpecificCharacterSet" not in one and one.get_item(0x00100010).value == bytes_of
    for one in derived_datasets(unnamed_set(tmp_path / "ascii", b"Miller^J"), CT, declared_character_set="ISO_IR 100"):
        assert "SpecificCharacterSet" not in one
    named = write_ct_series(tmp_path / "named", slices=1, SpecificCharacterSet="ISO_IR 192", PatientName="Müller")
    (kept,) = derived_datasets(named, CT, declared_character_set="ISO_IR 100")
    assert (kept.SpecificCharacterSet, str(kept.PatientName)) == ("ISO_IR 192", "Müller")


def test_k4_a_text_inside_a_sequence_needs_a_set_too(tmp_path: Path) -> None:
    request = Dataset()
    request.RequestedProcedureDescription = "######"
    files = write_ct_series(tmp_path, slices=1, RequestAttributesSequence=[request], SpecificCharacterSet=None)
    with_bytes(files[0], b"######", b"H\xfcfte ")
    (one,) = derived_datasets(files, CT, declared_character_set="ISO_IR 100")
    assert one.RequestAttributesSequence[0].RequestedProcedureDescription == "Hüfte"


def test_k1_images_of_one_series_in_several_character_sets_are_each_read_in_their_own(tmp_path: Path) -> None:
    def mix(k: int, dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = ["ISO_IR 100", "ISO_IR 192"][k % 2]

    for one in derived_datasets(write_ct_series(tmp_path, StudyDescription="Hüfte", each=mix), CT):
        assert one.StudyDescription == "Hüfte"


def test_k1_g8_the_name_of_every_character_set_file_reaches_the_derived_image_byte_for_byte(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path, slices=1))
    files = [Path(name) for name in get_charset_files("chr*.dcm")]
    assert len(files) >= 10
    for path in files:
        elements = verbatim_elements(dcmread(path))
        texts = {tag: elements[tag] for tag in (SPECIFIC_CHARACTER_SET, PATIENT_NAME) if tag in elements}
        image = replace(images[0], elements=images[0].elements | texts)
        (made,) = derive_series(Outcome(source), CT, [image], job=job_facts())
        after = dcmread(BytesIO(made.content))
        for tag, element in texts.items():
            assert after.get_item(tag).value == element.value, path.name


def stored(one: FileDataset) -> tuple[int, ...]:
    return one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation, int(one.RescaleIntercept)


def test_t1_old_receivers_get_twelve_unsigned_bits_and_are_told_how_much_was_cut(tmp_path: Path) -> None:
    values = ct_values(2, 32, 32)
    values[0, 16, 16:20] = [3071, 3072, 9000, -1050]
    source, images = load_volume(write_ct_series(tmp_path, values=values, intercept=-2048.0))
    made = list(derive_series(Outcome(source), CT, images, job=job_facts(ct_pixels="unsigned-12")))
    assert [one.clipped_voxels for one in made] == [3, 0]
    first = dcmread(BytesIO(made[0].content))
    shown = first.pixel_array.astype(int) - 1024
    assert stored(first) == (16, 12, 11, 0, -1024) and first.RescaleType == "HU"
    assert shown[16, 16:20].tolist() == [3071, 3071, 3071, -1024]
    assert (shown == np.clip(values[0], -1024, 3071)).all()
    assert errors(file_of(first, tmp_path)) == []
    (plain, *_) = derived_datasets(write_ct_series(tmp_path / "plain"), CT)
    assert stored(plain) == (16, 16, 15, 1, 0)


def test_t1_padding_that_is_cut_is_not_counted_and_a_synthetic_ct_takes_the_old_form_too(tmp_path: Path) -> None:
    values = np.full((1, 32, 32), 40)
    values[:, :6], values[:, -6:] = -2000, -2000
    source, images = load_volume(write_ct_series(tmp_path / "ct", values=values))
    (made,) = derive_series(Outcome(source), CT, images, job=job_facts(ct_pixels="unsigned-12"))
    dataset = dcmread(BytesIO(made.content))
    assert made.clipped_voxels == 0 and dataset.pixel_array[0, 0] == 0
    assert dataset.PixelPaddingValue == 0 and dataset["PixelPaddingValue"].VR == "US"
    assert errors(file_of(dataset, tmp_path)) == []
    (synthetic,) = derived_datasets(write_pet_series(tmp_path / "pet", slices=1), SYNTHETIC, ct_pixels="unsigned-12")
    assert stored(synthetic) == (16, 12, 11, 0, -1024)


def test_t5_a_value_that_no_ct_can_have_is_never_cut_to_one_that_it_can(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path, slices=1))
    values = source.values.copy()
    values[0, 30, 30] = 40000
    for pixels in ("signed-16", "unsigned-12"):
        with pytest.raises(OutputFault, match="T5"):
            list(derive_series(Outcome(source.with_values(values)), CT, images, job=job_facts(ct_pixels=pixels)))


def test_pixels_of_an_unknown_kind_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="unsigned-12"):
        job_facts(ct_pixels="unsigned-16")


@pytest.mark.parametrize(("offset", "time"), [("+1400", "233015"), ("-0030", "090015")])
def test_c19_every_time_we_write_is_in_the_zone_that_stays_declared(tmp_path: Path, offset: str, time: str) -> None:
    (one,) = derived_datasets(write_ct_series(tmp_path, slices=1, TimezoneOffsetFromUTC=offset), CT)
    assert one.TimezoneOffsetFromUTC == offset
    assert {one.SeriesTime, one.ContentTime, one.InstanceCreationTime} == {time}
    assert one.ContributingEquipmentSequence[-1].ContributionDateTime == f"20250301{time}{offset}"


def test_c19_an_offset_that_no_place_has_shifts_nothing(tmp_path: Path) -> None:
    plain = derived_datasets(write_ct_series(tmp_path / "plain", slices=1), CT)[0]
    assert "TimezoneOffsetFromUTC" not in plain
    for offset in ("+9900", "+0160"):
        (one,) = derived_datasets(write_ct_series(tmp_path / offset, slices=1, TimezoneOffsetFromUTC=offset), CT)
        assert one.SeriesTime == plain.SeriesTime


def test_m1_a_diffusion_mr_keeps_its_weighting_image_by_image(tmp_path: Path) -> None:
    source, images = load_volume(write_mr_series(tmp_path, slices=2, FlipAngle="90"))
    for image, direction in zip(images, ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]), strict=True):  # no pipeline takes them yet
        for keyword, value in (("DiffusionBValue", 800.0), ("DiffusionGradientOrientation", direction)):
            setattr(image.dataset, keyword, value)
            image.elements[int(image.dataset[keyword].tag)] = image.dataset[keyword]
    card = card_for("MR")
    made = [dcmread(BytesIO(one.content)) for one in derive_series(Outcome(source), card, images, job=job_facts())]
    assert [one.DiffusionBValue for one in made] == [800.0, 800.0]
    assert [list(one.DiffusionGradientOrientation) for one in made] == [[1, 0, 0], [0, 1, 0]]
    assert made[0].FlipAngle == 90
    path = file_of(made[0], tmp_path)
    assert errors(path) == [] and any("MRImage" in line for line in dciodvfy(path))


def test_p6_philips_scale_factors_are_each_images_own(tmp_path: Path) -> None:
    def philips(k: int, dataset: Dataset) -> None:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", "0.000551")
        block.add_new(0x09, "DS", f"{k + 1}.5")
        block.add_new(0x10, "LO", "something else")
        dataset.Units, dataset.SUVType = "CNTS", ""

    made = derived_datasets(write_pet_series(tmp_path / "pet", slices=2, each=philips), card_for("PT"))
    assert [one[0x70531009].value for one in made] == [1.5, 2.5]
    for one in made:
        private = [element.tag for element in one if element.tag.is_private]
        assert private == [0x70530010, 0x70531000, 0x70531009]
    assert errors(file_of(made[0], tmp_path)) == []


def test_c15_a_pet_still_names_the_ct_that_corrected_it_and_a_synthetic_ct_does_not(tmp_path: Path) -> None:
    def relate(k: int, dataset: Dataset) -> None:
        items = []
        for uid, code in (("1.2.3.4", "122403"), ("1.2.3.5", "121323")):
            item, purpose = Dataset(), Dataset()
            purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code, "DCM", "Purpose"
            item.StudyInstanceUID, item.SeriesInstanceUID = dataset.StudyInstanceUID, uid
            item.PurposeOfReferenceCodeSequence = [purpose]
            items.append(item)
        dataset.RelatedSeriesSequence = items

    files = write_pet_series(tmp_path / "pet", slices=1, each=relate)
    (one,) = derived_datasets(files, card_for("PT"))
    own = dcmread(files[0]).SeriesInstanceUID
    assert [item.SeriesInstanceUID for item in one.RelatedSeriesSequence] == [own, "1.2.3.4"]
    (synthetic,) = derived_datasets(files, SYNTHETIC)
    assert [item.SeriesInstanceUID for item in synthetic.RelatedSeriesSequence] == [own]
