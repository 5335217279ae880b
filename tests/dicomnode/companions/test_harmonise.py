"""Objects of the source's study: patient, study, equipment, times and marks."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.harmonise import ROLES, harmonise, neutral_dataset, neutral_derived, series_number
from dicomnode.companions.key_image import key_images
from dicomnode.companions.parametric_map import change_map
from dicomnode.companions.segmentation import segmentation
from dicomnode.derived_instance import DerivedInstance
from dicomnode.description import series_number as derived_series_number
from dicomnode.errors import OutputFault
from dicomnode.input_gate import Allowed
from dicomnode.iods import tags
from dicomnode.source_image import read_source_image
from dicomnode.uids import IMPLEMENTATION_CLASS_UID
from dicomnode.verbatim import encoded, verbatim_elements
from tests.builders_companions import derivation_from, phantom_derivation, read, written
from tests.builders_dicom import card_for, with_bytes, write_ct_series
from tests.validators import errors, unexpected

CHARACTER_SETS = {
    "ISO 2022 IR 58": (["", "ISO 2022 IR 58"], b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"),
    "\\ISO 2022 IR 87": (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
    "ISO 2022 IR 149": (["", "ISO 2022 IR 149"], b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
    "lone ISO 2022 IR 149": ("ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3"),
    "ISO_IR 6": ("ISO_IR 6", b"Plain^Name"),
    "GB18030": ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
    "ISO_IR 192": ("ISO_IR 192", "Wang^XiaoDong=\u738b^\u5c0f\u6771".encode()),
    "ISO_IR 100": ("ISO_IR 100", b"M\xfcller^J\xf6rg"),
    "none": (None, b"M\xfcller^J\xf6rg"),
}


def tag_of(keyword: str) -> int:
    (tag,) = tags([keyword])
    return tag


def written_in(folder: Path, character_set: Any, name: bytes) -> list[Path]:
    """A CT series with that name for patient and physician, also in a sequence of the study."""
    name = name.ljust(len(name) + len(name) % 2)
    placeholder = "P^" + "x" * (len(name) - 2)
    person = Dataset()
    person.InstitutionName = placeholder
    paths = write_ct_series(
        folder,
        slices=2,
        rows=16,
        columns=16,
        SpecificCharacterSet=character_set,
        PatientName=placeholder,
        ReferringPhysicianName=placeholder,
        ReferringPhysicianIdentificationSequence=[person],
        InstitutionName=placeholder,
    )
    for path in paths:
        with_bytes(path, placeholder.encode(), name)
    return paths


def made_picture(derivation: Derivation, **attributes: Any) -> Dataset:
    """What highdicom would hand over: a secondary capture over neutral headers."""
    made = neutral_derived(derivation.derived[0])
    made.SOPClassUID, made.Modality, made.SeriesDescription = SecondaryCaptureImageStorage, "OT", "none"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, derivation.derived[0].SOPInstanceUID
    made.SourceImageSequence = [item]
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def harmonised(derivation: Derivation, *, role: str = "key-image", **attributes: Any) -> Dataset:
    return read(harmonise(made_picture(derivation, **attributes), derivation, role=role, description="picture"))


@pytest.mark.parametrize("case", CHARACTER_SETS)
def test_k1_patient_and_study_keep_the_sources_bytes_in_every_character_set(tmp_path: Path, case: str) -> None:
    character_set, name = CHARACTER_SETS[case]
    files = written_in(tmp_path / "s", character_set, name)
    instance = segmentation(derivation_from(files), mask_name="metal")
    assert instance is not None
    source, made = (
        encoded(verbatim_elements(dcmread(file)).values()) for file in (files[0], BytesIO(instance.content))
    )
    kept = ["PatientName", "PatientID", "ReferringPhysicianName", "InstitutionName", "StudyInstanceUID", "StudyDate"]
    for tag in [tag_of(keyword) for keyword in kept]:
        assert made[tag] == source[tag]
    assert name in made[tag_of("ReferringPhysicianIdentificationSequence")]
    assert made.get(tag_of("SpecificCharacterSet")) == source.get(tag_of("SpecificCharacterSet"))
    (path,) = written(tmp_path / "made", instance)
    assert set(errors(path)) <= set(errors(files[0])), "what the source says wrongly is all that may be wrong"


def test_k3_a_neutral_header_keeps_places_and_uids_and_no_text(tmp_path: Path) -> None:
    character_set, name = CHARACTER_SETS["ISO 2022 IR 58"]
    derivation = derivation_from(written_in(tmp_path / "s", character_set, name))
    image = derivation.images[1]
    for neutral in (neutral_dataset(image), neutral_derived(derivation.derived[1])):
        assert neutral.ImagePositionPatient == image.dataset.ImagePositionPatient
        assert neutral.StudyInstanceUID == image.text("StudyInstanceUID")
        assert neutral.PixelSpacing == image.dataset.PixelSpacing
        assert "SpecificCharacterSet" not in neutral
        assert neutral.PatientName == "Neutral^Neutral"
        assert name not in str(neutral).encode("utf-8", "replace")
    assert neutral_dataset(image).SOPInstanceUID == image.sop_instance_uid
    assert neutral_derived(derivation.derived[1]).SOPInstanceUID == derivation.derived[1].SOPInstanceUID


def test_making_a_neutral_header_leaves_the_source_undecoded(tmp_path: Path) -> None:
    (path, *_) = written_in(tmp_path / "s", *CHARACTER_SETS["ISO 2022 IR 58"])
    image = read_source_image(path)
    neutral_dataset(image).ImagePositionPatient = [1, 2, 3]
    assert image.dataset.ImagePositionPatient != [1, 2, 3]
    assert isinstance(image.dataset.get_item("PatientName").value, bytes)


def test_c2_nothing_neutral_is_left_where_the_source_says_nothing(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", PatientName=None, StudyID=None, PatientBirthDate=None)
    made = harmonised(derivation)
    assert made.PatientName == made.StudyID == made.PatientBirthDate == ""
    assert "eutral" not in str(made)


def test_k4_a_declared_character_set_is_declared_here_as_in_the_derived_images(tmp_path: Path) -> None:
    files = written_in(tmp_path / "s", *CHARACTER_SETS["none"])
    derivation = derivation_from(files, declared_character_set="ISO_IR 100")
    assert harmonised(derivation).SpecificCharacterSet == derivation.derived[0].SpecificCharacterSet == "ISO_IR 100"
    assert harmonised(derivation).PatientName == "M\u00fcller^J\u00f6rg"


def test_c2_modules_of_the_study_come_whole_and_what_is_the_series_own_does_not(tmp_path: Path) -> None:
    derivation = phantom_derivation(
        tmp_path / "s",
        PatientAge="074Y",
        IssuerOfPatientID="HOSP",
        ClinicalTrialSponsorName="Sponsor",
        ClinicalTrialProtocolID="P1",
        EthnicGroup="X",
        ProtocolName="Head first",
        OperatorsName="Somebody",
    )
    made = harmonised(derivation)
    assert (made.PatientAge, made.IssuerOfPatientID, made.PatientWeight) == ("074Y", "HOSP", 70)
    assert (made.ClinicalTrialSponsorName, made.StudyDescription, made.EthnicGroup) == ("Sponsor", "Made-up study", "X")
    assert "OperatorsName" not in made
    assert "ProtocolName" not in made


def test_c7_no_two_series_of_a_job_share_a_number(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=1, rows=16, columns=16)
    first, numbers, stacks, frames = derivation.images[0], list[int](), 40, 60
    for stack in range(stacks):
        job = replace(derivation.job, stack=stack)
        numbers.append(derived_series_number(first, derivation.card, job))
        parts = [replace(derivation, job=job, part=part) for part in range(frames)]
        numbers += [series_number(part, role) for part in parts for role in ROLES]
    assert len(set(numbers)) == stacks * (1 + frames * len(ROLES))
    assert min(numbers) > 0 and max(numbers) <= 2**31 - 1
    assert numbers[: 1 + len(ROLES)] == [307, *range(307500, 307500 + len(ROLES))]


@pytest.mark.parametrize("number", [3, 2**31 - 1, None])
def test_c7_a_series_number_fits_whatever_the_sources_is(tmp_path: Path, number: int | None) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=1, rows=16, columns=16, SeriesNumber=number)
    assert 0 < harmonised(derivation).SeriesNumber < 2**31


@pytest.mark.parametrize("said", ["Abdomen", "A very long series description of exactly sixty-four characters.", None])
def test_c8_the_description_is_marked_and_short(tmp_path: Path, said: str | None) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=1, rows=16, columns=16, SeriesDescription=said)
    description = harmonised(derivation).SeriesDescription
    assert description.endswith("identity picture (AI)")
    assert len(description) <= 64
    assert description.startswith((said or "identity")[:20])


def test_c8_a_long_pipeline_label_never_costs_the_mark(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    long = replace(derivation, card=card_for("CT", label="a label with many words " * 3))
    description = harmonised(long).SeriesDescription
    assert description.endswith("picture (AI)")
    assert len(description) <= 64


def test_c9_c10_the_node_is_the_equipment_and_the_scanner_has_contributed(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", job={"station_name": "NODE1"})
    made = harmonised(derivation, Manufacturer="highdicom", DeviceSerialNumber="1")
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber", "DeviceUID"):
        assert made[keyword].value == derivation.derived[0][keyword].value
    assert (made.StationName, made.InstitutionName) == ("NODE1", "Hospital")
    assert [item.Manufacturer for item in made.ContributingEquipmentSequence] == ["Maker", "dicom-ai-node"]
    assert made.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID


def test_c17_c19_times_are_the_jobs_in_the_sources_time_zone(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", TimezoneOffsetFromUTC="+0530")
    made = harmonised(derivation, ContentDate="19990101", ContentTime="000000", InstanceCreationDate="19990101")
    assert made.TimezoneOffsetFromUTC == "+0530"
    for kind in ("Series", "Content", "InstanceCreation"):
        assert (made[f"{kind}Date"].value, made[f"{kind}Time"].value) == ("20250301", "150015")


def test_c20_lossy_history_of_any_slice_is_inherited(tmp_path: Path) -> None:
    def compressed_once(k: int, dataset: Dataset) -> None:
        if k == 2:
            dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", "7.5"
            dataset.LossyImageCompressionMethod = "ISO_10918_1"

    derivation = phantom_derivation(tmp_path / "s", each=compressed_once, allowed=Allowed(accept_lossy=True))
    made = harmonised(derivation, LossyImageCompression="00")
    assert (made.LossyImageCompression, made.LossyImageCompressionRatio) == ("01", 7.5)
    assert "LossyImageCompression" not in harmonised(phantom_derivation(tmp_path / "t"))


@pytest.mark.parametrize("said", ["YES", "NO", None])
def test_c21_masks_and_pictures_of_images_with_burned_in_annotation_say_so_and_stay_valid(
    tmp_path: Path, said: str | None
) -> None:
    derivation = phantom_derivation(tmp_path / "s", BurnedInAnnotation=said)
    mask = segmentation(derivation, mask_name="metal")
    assert mask is not None
    picture, _ = key_images(derivation)
    for path in written(tmp_path / "made", mask, picture):
        assert (dcmread(path).get("BurnedInAnnotation") == "YES") == (said == "YES")
        assert unexpected(path) == []


def test_c22_a_research_source_makes_all_beside_it_research_whatever_the_job_says(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", job={"content_qualification": "PRODUCT"})
    research = [Dataset(header) for header in derivation.derived]
    for header in research:
        header.ContentQualification = "RESEARCH"
    of_research = replace(derivation, derived=tuple(research))
    made = change_map(of_research)
    assert made is not None
    for dataset in (read(made), harmonised(of_research)):
        assert dataset.ContentQualification == "RESEARCH" and "For research only" in dataset.ImageComments


def test_c22_c23_c24_marks_are_those_of_the_derived_images(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", SyntheticData="YES", job={"content_qualification": "PRODUCT"})
    made = harmonised(derivation, ContentQualification="RESEARCH")
    assert (made.ContentQualification, made.SyntheticData) == ("PRODUCT", "YES")
    assert "Not for diagnosis" in made.ImageComments
    assert "SyntheticData" not in harmonised(phantom_derivation(tmp_path / "t"))


def test_what_an_object_cannot_have_is_not_written_to_it(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", BodyPartExamined="KNEE")
    made = made_picture(derivation, SOPClassUID=EnhancedSRStorage, Modality="SR")
    report = read(harmonise(made, derivation, role="text-report", description="report"))
    assert not {"ImageComments", "BodyPartExamined", "Laterality"} & {element.keyword for element in report}


def test_s2_an_unknown_side_is_empty_and_a_known_one_is_said(tmp_path: Path) -> None:
    def sides(**attributes: Any) -> tuple[Any, Any]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        made = harmonised(phantom_derivation(folder, slices=1, rows=16, columns=16, **attributes))
        return made.get("Laterality"), made.get("ImageLaterality")

    assert sides(BodyPartExamined="KNEE") == ("", None)
    assert sides(BodyPartExamined="KNEE", Laterality="L") == ("L", None)
    assert sides(BodyPartExamined="KNEE", ImageLaterality="R") == (None, "R")
    assert sides(BodyPartExamined="ABDOMEN") == (None, None)


@pytest.mark.parametrize(
    ("part", "side", "said"), [("KNEE", "R", "R"), ("KNEE", "B", ""), ("ABDOMEN", "U", None), ("KNEE", None, "")]
)
def test_s2_a_banner_has_no_image_laterality_and_says_the_side_of_its_series(
    tmp_path: Path, part: str, side: str | None, said: str | None
) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=1, BodyPartExamined=part, ImageLaterality=side)
    made = made_picture(derivation, SOPClassUID=GrayscaleSoftcopyPresentationStateStorage, Modality="PR")
    banner = read(harmonise(made, derivation, role="banner", description="banner"))
    assert banner.get("Laterality") == said
    assert "ImageLaterality" not in banner
    assert (banner.PresentationCreationDate, "ContentDate" in banner) == ("20250301", False)


def test_private_elements_are_not_written(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    made = made_picture(derivation)
    made.private_block(0x0011, "SOMEBODY", create=True).add_new(1, "LO", "secret")
    assert b"secret" not in harmonise(made, derivation, role="key-image", description="picture").content


def test_u5_the_same_object_gives_the_same_bytes(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    once, again = (
        harmonise(made_picture(derivation), derivation, role="key-image", description="picture") for _ in range(2)
    )
    assert once == again


def test_an_object_may_refer_to_a_companion_that_is_named_and_to_no_other(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    mask = segmentation(derivation, mask_name="metal")
    assert mask is not None
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SegmentationStorage, mask.sop_instance_uid

    def with_mask(companions: list[DerivedInstance]) -> DerivedInstance:
        made = made_picture(derivation, ReferencedImageSequence=[item])
        return harmonise(made, derivation, role="key-image", description="picture", companions=companions)

    assert read(with_mask([mask])).ReferencedImageSequence[0].ReferencedSOPInstanceUID == mask.sop_instance_uid
    with pytest.raises(OutputFault, match="C14"):
        with_mask([])


def test_c1_a_modality_that_is_not_the_class_own_is_a_fault(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    with pytest.raises(OutputFault, match="C1"):
        harmonised(derivation, Modality="CT")
