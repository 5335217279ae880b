"""Any derived series in a folder is held to the output gate's rules, with its sources and what stands beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from dicomnode.companions.companions import COMPANIONS, derive_companions
from dicomnode.input_gate import Allowed
from dicomnode.verify.folder import verify_folder
from dicomnode.verify.tally import RuleResult, Verdict, Verification
from inference.pipeline import Outcome
from inference.volume import Volume
from tests.builders_companions import derivation_from, derived_files, phantom_derivation, written
from tests.builders_dicom import card_for, write_ct_series, write_pet_series
from tests.builders_faults import sets, spoiled
from tests.builders_passports import write_all


def study(folder: Path, modality: str = "CT", **options: Any) -> Path:
    """A folder with a source series and the derived series."""
    write_all(folder, phantom_derivation(folder / "source", modality, **options))
    return folder


def rule(verification: Verification, name: str) -> RuleResult:
    return next(one for one in verification.rules if one.rule == name)


def missed(verification: Verification) -> set[str]:
    return {one.rule for one in verification.rules if one.missed}


def spoil(path: Path, fault: Callable[[Dataset], None]) -> str:
    path.write_bytes(spoiled(path.read_bytes(), fault))
    return str(dcmread(path).SOPInstanceUID)


@pytest.mark.parametrize("modality", ["CT", "PT", "MR"])
def test_a_good_series_with_its_sources_and_all_that_stands_beside_it_is_ok(tmp_path: Path, modality: str) -> None:
    derivation = phantom_derivation(tmp_path / "source", modality)
    write_all(tmp_path, derivation, COMPANIONS)
    verification = verify_folder(tmp_path)
    assert (verification.verdict, verification.exit_code, verification.missing) == (Verdict.OK, 0, ())
    assert verification.companions == len(list((tmp_path / "beside").iterdir())) > 4 and [
        count for _, count in verification.series
    ] == [4]
    assert rule(verification, "C5").met >= 4


def test_a_synthetic_ct_and_its_nac_pet_are_ok(tmp_path: Path) -> None:
    files = write_pet_series(tmp_path / "source", attenuation_corrected=False)
    card = card_for("PT", to="CT")

    def hounsfield(source: Volume) -> Outcome:
        return Outcome(source.with_values(np.minimum(source.values, 1000), card.makes))

    write_all(tmp_path, derivation_from(files, hounsfield, card))
    verification = verify_folder(tmp_path)
    assert verification.verdict == Verdict.OK
    assert rule(verification, "T3").met == 4


def test_sources_may_lie_in_other_folders(tmp_path: Path) -> None:
    study(tmp_path)
    verification = verify_folder(tmp_path / "derived", sources=[tmp_path / "source"])
    assert verification.exit_code == 2, "the passport lies elsewhere"
    (passport,) = tmp_path.glob("*.passport.json")
    passport.rename(tmp_path / "derived" / passport.name)
    verification = verify_folder(tmp_path / "derived", sources=[tmp_path / "source"])
    assert verification.verdict == Verdict.OK and verification.files == 9


def test_without_its_sources_a_series_is_incomplete_and_never_ok(tmp_path: Path) -> None:
    verification = verify_folder(study(tmp_path) / "derived")
    assert (verification.verdict, verification.exit_code) == (Verdict.INCOMPLETE, 2)
    assert len(verification.missing) == 4
    assert rule(verification, "C2").not_asked == 4 and rule(verification, "C2").state == "not asked"
    assert rule(verification, "C24").state == "met"


def test_one_missing_source_is_named_and_the_others_are_asked(tmp_path: Path) -> None:
    study(tmp_path)
    gone = tmp_path / "source" / "002.dcm"
    uid = str(dcmread(gone).SOPInstanceUID)
    gone.unlink()
    verification = verify_folder(tmp_path)
    assert verification.verdict == Verdict.INCOMPLETE and verification.missing == (uid,)
    assert (rule(verification, "C2").met, rule(verification, "C2").not_asked) == (3, 1)


def test_a_folder_without_a_derived_series_is_not_ok(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "source")
    (tmp_path / "notes.txt").write_text("nothing")
    verification = verify_folder(tmp_path)
    assert verification.exit_code == 2 and not verification.series
    assert "notes.txt" in verification.notes[0]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("C2", sets(PatientID="PHANTOM-2")),
        ("C5", sets(ImagePositionPatient=["-32", "-32", "250"])),
        ("C11", sets(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])),
        ("T1", sets(RescaleType="US")),
        ("C6", sets(InstanceNumber=9)),
    ],
)
def test_a_fault_in_one_instance_fails_the_series_and_names_it(
    tmp_path: Path, name: str, fault: Callable[[Dataset], None]
) -> None:
    path = sorted((study(tmp_path) / "derived").iterdir())[2]
    uid = spoil(path, fault)
    verification = verify_folder(tmp_path)
    assert verification.exit_code == 1 and name in missed(verification)
    assert uid in {one.first_subject for one in verification.rules if one.missed}
    assert "PHANTOM" not in str(verification)


def test_c13_a_slice_of_the_stack_without_a_derived_image_is_found(tmp_path: Path) -> None:
    path = sorted((study(tmp_path) / "derived").iterdir())[1]
    source = str(dcmread(path).SourceImageSequence[0].ReferencedSOPInstanceUID)
    path.unlink()
    verification = verify_folder(tmp_path)
    assert missed(verification) == {"C13"} and rule(verification, "C13").first_subject == source


def test_a_localizer_in_the_source_series_asks_for_no_derived_image(tmp_path: Path) -> None:
    series = {"series_instance_uid": "1.2.3", "study_instance_uid": "1.2.4", "frame_of_reference_uid": "1.2.5"}
    study(tmp_path, **series)
    write_ct_series(tmp_path / "localizer", slices=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **series)
    assert verify_folder(tmp_path).verdict == Verdict.OK


def test_t5_a_value_that_cannot_be_is_found_in_the_pixels(tmp_path: Path) -> None:
    def darken(dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<i2").copy()
        stored[2000] = -1500
        dataset.ImageComments = "Research only, not for diagnosis."
        dataset.PixelData = stored.tobytes()

    spoil(sorted((study(tmp_path) / "derived").iterdir())[0], darken)
    assert missed(verify_folder(tmp_path)) == {"T5", "PASSPORT"}


def test_t4_padding_that_was_not_restored_is_found(tmp_path: Path) -> None:
    values = np.full((2, 16, 16), 40)
    values[:, :4] = values[:, -4:] = -3024

    def brighten(dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<i2").copy()
        stored[:16] = -1000
        dataset.PixelData = stored.tobytes()

    study(tmp_path, values=values)
    assert verify_folder(tmp_path).verdict == Verdict.OK
    spoil(sorted((tmp_path / "derived").iterdir())[0], brighten)
    assert "T4" in missed(verify_folder(tmp_path))


def test_files_as_a_pacs_gives_them_back_are_no_fault(tmp_path: Path) -> None:
    for path in (study(tmp_path) / "derived").iterdir():
        dataset = dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.file_meta.ImplementationClassUID = "1.2.3"
        dataset.save_as(path)
    verification = verify_folder(tmp_path)
    assert verification.verdict == Verdict.OK
    assert "written again" in verification.notes[0] and "U6" not in {one.rule for one in verification.rules}


def test_u4_one_uid_with_two_contents_is_found_and_a_plain_copy_is_not(tmp_path: Path) -> None:
    first = sorted((study(tmp_path) / "derived").iterdir())[0]
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(first.read_bytes())
    assert verify_folder(tmp_path).verdict == Verdict.OK
    spoil(copy, sets(ImageComments="Research only, not for diagnosis. Another."))
    assert "U4" in missed(verify_folder(tmp_path))


def test_a_damaged_file_of_ours_is_named_and_stops_nothing(tmp_path: Path) -> None:
    path = sorted((study(tmp_path) / "derived").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-1000])
    verification = verify_folder(tmp_path)
    assert missed(verification) & {"T1", "READ"} and verification.series[0][1] == 4


def test_progress_is_told_to_its_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    verify_folder(study(tmp_path), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (13, 13) and [done for done, _ in told] == list(range(1, 14))


def test_a_folder_that_is_none_is_never_an_empty_success(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        verify_folder(tmp_path / "nowhere")


def test_a_broken_passport_fails_the_folder(tmp_path: Path) -> None:
    (study(tmp_path) / "a.passport.json").write_text("{}")
    verification = verify_folder(tmp_path)
    assert missed(verification) == {"PASSPORT"} and verification.passports == 2


def test_c2_a_companion_of_another_patient_is_found(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "source")
    derived_files(tmp_path / "derived", derivation)
    (path,) = written(tmp_path / "beside", *next(derive_companions(["segmentation"], derivation)).instances)
    uid = spoil(path, sets(PatientID="PHANTOM-2"))
    verification = verify_folder(tmp_path)
    assert rule(verification, "C2").first_subject == uid and "PatientID" in rule(verification, "C2").message


def test_a_chain_is_held_against_the_derived_series_it_was_made_of(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "source", card=card_for("CT", name="first", token="FIRST"))
    firsts = write_all(tmp_path / "first", derivation, COMPANIONS)
    chained = derivation_from(firsts, None, card_for("CT", name="second", ordinal=8), allowed=Allowed(accept_own=True))
    write_all(tmp_path / "second", chained, COMPANIONS)
    verification = verify_folder(tmp_path)
    assert len(verification.series) == 2 and verification.verdict == Verdict.OK


def test_without_a_passport_a_series_is_incomplete_and_never_ok(tmp_path: Path) -> None:
    write_all(tmp_path, phantom_derivation(tmp_path / "source"), ["banner"], passport=False)
    verification = verify_folder(tmp_path)
    assert (verification.verdict, verification.exit_code) == (Verdict.INCOMPLETE, 2)
    assert (rule(verification, "PASSPORT").not_asked, rule(verification, "PASSPORT").met) == (5, 0)
    assert not missed(verification)


def brighter(dataset: Dataset) -> None:
    dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2") + 50).astype("<i2").tobytes()


@pytest.mark.parametrize(("slice_number", "rules"), [(0, {"C12", "S3"}), (1, {"S3"})])
def test_c12_s3_a_slice_that_was_brightened_later_is_found_without_a_passport(
    tmp_path: Path, slice_number: int, rules: set[str]
) -> None:
    derivation = phantom_derivation(tmp_path / "source")
    paths = write_all(tmp_path, derivation, ["change_map"], passport=False)
    spoil(paths[slice_number], brighter)
    assert missed(verify_folder(tmp_path)) == rules


def test_two_pipelines_of_one_source_do_not_answer_for_each_other(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "source")
    for name, job in (("first", {}), ("second", {"content_qualification": "PRODUCT"})):
        write_all(tmp_path / name, derivation_from(files, card=card_for("CT", name=name), **job), COMPANIONS)
    assert verify_folder(tmp_path).verdict == Verdict.OK


@pytest.mark.parametrize("keyword", ["InstitutionName", "StudyTime", "ProtocolName", "PatientAge"])
def test_what_varies_from_slice_to_slice_of_the_source_is_no_fault(tmp_path: Path, keyword: str) -> None:
    values = {"InstitutionName": ("A", ""), "StudyTime": ("101500", "101500.000000"), "PatientAge": ("050Y", "051Y")}

    def vary(k: int, dataset: Dataset) -> None:
        setattr(dataset, keyword, values.get(keyword, ("P1", "P2"))[k % 2])

    write_all(tmp_path, phantom_derivation(tmp_path / "source", each=vary, slices=5), COMPANIONS)
    verification = verify_folder(tmp_path)
    assert (verification.verdict, missed(verification)) == (Verdict.OK, set())
