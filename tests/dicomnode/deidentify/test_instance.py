"""One instance: nothing of the patient is left, pixels and physics are, and the file says what was done."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, SecondaryCaptureImageStorage, UltrasoundImageStorage

from dicomnode.deidentify.burned_in import PixelPolicy
from dicomnode.deidentify.instance import Policy, deidentify
from dicomnode.deidentify.profile import Option
from dicomnode.deidentify.secret import Secret
from dicomnode.deidentify.walk import NotExported
from tests.builders import fixtures_folder
from tests.builders_dicom import write_ct_series, write_pet_series
from tests.builders_identity import BIRTH, WORDS, element, item, write_elements, write_naming_instance
from tests.validators import errors

SECRET = Secret(b"k" * 32)
BASIC = Policy(frozenset(), SECRET)
LOOSEST = frozenset(Option) - {Option.UIDS, Option.FULL_DATES}
NAMELESS = LOOSEST - {Option.DEVICE, Option.INSTITUTION}


def read(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


@pytest.mark.parametrize("options", [frozenset(), NAMELESS], ids=["basic", "options"])
def test_an_instance_that_names_its_patient_in_every_attribute_names_nobody_afterwards(
    tmp_path: Path, options: frozenset[Option]
) -> None:
    source = write_naming_instance(tmp_path / "one.dcm")
    assert all(word in source.read_bytes().lower() for word in WORDS)
    made = deidentify(source, Policy(options, SECRET, PixelPolicy.ALL))
    lower = made.content.lower()
    assert [word for word in WORDS if word in lower] == []
    assert sum(made.done.values()) > 4000


def test_whatever_is_retained_no_person_is_named(tmp_path: Path) -> None:
    options = frozenset(Option) - {Option.MODIFIED_DATES}
    made = deidentify(write_naming_instance(tmp_path / "one.dcm"), Policy(options, SECRET, PixelPolicy.ALL))
    lower = made.content.lower()
    assert [word for word in (b"zwingli", b"huldrych", b"pid-4711", BIRTH.encode()) if word in lower] == []


def test_pixels_and_geometry_stay_byte_for_byte(tmp_path: Path) -> None:
    source = write_ct_series(tmp_path, slices=1)[0]
    before, after = dcmread(source), read(deidentify(source, BASIC).content)
    for keyword in ("PixelData", "ImagePositionPatient", "PixelSpacing", "RescaleSlope", "KVP", "ConvolutionKernel"):
        assert after[keyword].value == before[keyword].value


def test_the_stored_file_is_only_read(tmp_path: Path) -> None:
    source = write_ct_series(tmp_path, slices=1)[0]
    before = source.read_bytes(), source.stat().st_mtime_ns
    deidentify(source, BASIC)
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before


def test_the_same_key_gives_the_same_file_and_another_key_another(tmp_path: Path) -> None:
    source = write_ct_series(tmp_path, slices=1)[0]
    first = deidentify(source, BASIC)
    assert deidentify(source, BASIC).content == first.content
    other = deidentify(source, Policy(frozenset(), Secret(b"o" * 32)))
    assert not set(other.new) & set(first.new)
    assert other.patient.pseudonym != first.patient.pseudonym


def test_references_between_instances_hold_after_de_identification(tmp_path: Path) -> None:
    def refer(k: int, dataset: Dataset) -> None:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, "1.2.3.4.5"
        dataset.SourceImageSequence, dataset.ReferencedImageSequence = [item], [item]

    source = write_ct_series(tmp_path, slices=1, each=refer)[0]
    after = read(deidentify(source, BASIC).content)
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == SECRET.uid("1.2.3.4.5")
    assert after.SourceImageSequence[0].ReferencedSOPClassUID == after.SOPClassUID


def test_dates_move_by_the_same_days_for_all_of_a_patient_and_distances_stay(tmp_path: Path) -> None:
    policy = Policy(frozenset({Option.MODIFIED_DATES}), SECRET)
    pet = write_pet_series(tmp_path / "pet", slices=1)[0]
    made = deidentify(pet, policy)
    before, after = dcmread(pet), read(made.content)
    assert after.StudyDate != before.StudyDate
    assert after.StudyTime == before.StudyTime
    assert after.AcquisitionDate == after.StudyDate == after.SeriesDate
    assert after.PatientBirthDate == ""
    assert after.LongitudinalTemporalInformationModified == "MODIFIED"
    assert 1 <= made.patient.days_earlier <= 3650


def test_full_dates_stay_only_when_asked_for(tmp_path: Path) -> None:
    source = write_ct_series(tmp_path, slices=1)[0]
    full = read(deidentify(source, Policy(frozenset({Option.FULL_DATES}), SECRET)).content)
    assert (full.StudyDate, full.LongitudinalTemporalInformationModified) == ("20240229", "UNMODIFIED")
    basic = read(deidentify(source, BASIC).content)
    assert (basic.StudyDate, basic.LongitudinalTemporalInformationModified) == ("", "REMOVED")
    assert "AcquisitionDate" not in basic or basic.AcquisitionDate == ""


def test_the_file_says_by_which_options_it_was_de_identified(tmp_path: Path) -> None:
    source = write_ct_series(tmp_path, slices=1)[0]
    options = frozenset({Option.PATIENT, Option.DEVICE})
    after = read(deidentify(source, Policy(options, SECRET)).content)
    assert after.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in after.DeidentificationMethodCodeSequence] == ["113100", "113108", "113109"]
    assert all(len(text) <= 64 for text in after.DeidentificationMethod)
    assert after.PatientID == after.PatientName == SECRET.pseudonym("", "PHANTOM-1")


def test_the_file_meta_information_is_made_anew(tmp_path: Path) -> None:
    made = deidentify(write_elements(tmp_path / "one.dcm", {}), BASIC)
    meta = read(made.content).file_meta
    assert made.content[:128] == bytes(128)
    assert meta.MediaStorageSOPInstanceUID == made.new[2]
    assert "SourceApplicationEntityTitle" not in meta
    assert "PrivateInformation" not in meta


def test_pixels_that_show_names_are_refused_and_unknown_ones_too_unless_allowed(tmp_path: Path) -> None:
    def burned(k: int, dataset: Dataset) -> None:
        dataset.BurnedInAnnotation = "YES"

    def captured(k: int, dataset: Dataset) -> None:
        dataset.SOPClassUID = SecondaryCaptureImageStorage

    said = write_ct_series(tmp_path / "said", slices=1, each=burned)[0]
    unknown = write_ct_series(tmp_path / "unknown", slices=1, each=captured)[0]
    for path in (said, unknown):
        with pytest.raises(NotExported, match="pixels may name the patient"):
            deidentify(path, BASIC)
    with pytest.raises(NotExported):
        deidentify(said, Policy(frozenset(), SECRET, PixelPolicy.UNKNOWN))
    assert deidentify(unknown, Policy(frozenset(), SECRET, PixelPolicy.UNKNOWN)).warnings
    assert deidentify(said, Policy(frozenset(), SECRET, PixelPolicy.ALL)).warnings


def test_ultrasound_that_denies_burned_in_names_is_exported(tmp_path: Path) -> None:
    def denied(k: int, dataset: Dataset) -> None:
        dataset.SOPClassUID, dataset.BurnedInAnnotation = UltrasoundImageStorage, "NO"

    assert deidentify(write_ct_series(tmp_path, slices=1, each=denied)[0], BASIC).warnings == ()


def test_a_document_is_never_exported(tmp_path: Path) -> None:
    path = write_elements(tmp_path / "one.dcm", {0x00420011: element(0x00420011, "OB", b"%PDF Zwingli")})
    with pytest.raises(NotExported, match="document"):
        deidentify(path, BASIC)


def test_a_name_in_a_comment_of_compressed_pixels_is_found(tmp_path: Path) -> None:
    def named(k: int, dataset: Dataset) -> None:
        dataset.PatientName = "Zwingli^Huldrych"

    source = write_ct_series(tmp_path, slices=1, transfer_syntax_uid=JPEG2000Lossless, each=named)[0]
    deidentify(source, BASIC)
    dataset = dcmread(source)
    dataset.PixelData = dataset.PixelData[:-16] + b"Huldrych Zwingli"
    dataset.save_as(source)
    with pytest.raises(NotExported, match="comment that names somebody"):
        deidentify(source, BASIC)


def test_items_within_items_without_end_are_refused_at_once(tmp_path: Path) -> None:
    inner = b""
    for _ in range(300):
        inner = item({0x00082218: element(0x00082218, "SQ", inner)})
    path = write_elements(tmp_path / "one.dcm", {0x00082218: element(0x00082218, "SQ", inner)})
    with pytest.raises(NotExported, match="too deep"):
        deidentify(path, BASIC)


def test_what_is_no_dicom_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.dcm").write_bytes(b"no dicom")
    with pytest.raises(NotExported, match="cannot be read"):
        deidentify(tmp_path / "one.dcm", BASIC)


def test_an_age_above_89_is_told_as_90(tmp_path: Path) -> None:
    path = write_elements(tmp_path / "one.dcm", {0x00101010: element(0x00101010, "AS", b"097Y")})
    assert read(deidentify(path, Policy(frozenset({Option.PATIENT}), SECRET)).content).PatientAge == "090Y"


@pytest.mark.parametrize("options", [frozenset(), LOOSEST], ids=["basic", "options"])
def test_dciodvfy_finds_no_error_in_real_images_that_the_original_did_not_have(
    tmp_path: Path, options: frozenset[Option]
) -> None:
    folders = sorted({path.parent for path in fixtures_folder().rglob("*.dcm")})
    judged = 0
    for folder in folders:
        source = min(folder.glob("*.dcm"))
        if not dcmread(source, stop_before_pixels=True).get("StudyInstanceUID"):
            continue
        made = deidentify(source, Policy(options, SECRET))
        (tmp_path / "made.dcm").write_bytes(made.content)
        assert set(errors(tmp_path / "made.dcm")) <= set(errors(source)), folder.name
        patient = str(dcmread(source, stop_before_pixels=True).PatientID)
        assert patient.encode() not in made.content
        judged += 1
    assert judged >= 5
