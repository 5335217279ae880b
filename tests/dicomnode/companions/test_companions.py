"""All objects beside a derived series, together."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from dicomnode.companions.companions import COMPANIONS, Companion, derive_companions
from dicomnode.companions.derivation import Derivation
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from tests.builders import fixtures_folder
from tests.builders_companions import changed_block, derivation_from, derived_files, phantom_derivation, stacks, written
from tests.builders_dicom import card_for, write_ct_series
from tests.builders_enhanced import write_enhanced
from tests.validators import dcentvfy, dcmdump_complaints, dcmftest, dcmpschk, dsrdump, unexpected

COUNTED_ELSEWHERE = ("Element=<AccessionNumber>", "Element=<ReferencedStudySequence>")
"""dcentvfy counts these to the study in reports and key objects and to the series in images (DERIVED_SERIES G2)."""


SOURCES_OWN = (
    "needed to build DICOMDIR",  # no StudyID
    "Retired Person Name form",
    "only permitted to be empty when actually unknown",  # a side that the source does not say
    "patientName absent or empty",
)
"""Of patient and study, which every object copies as they are (C2)."""


def soft_tissue(source: Volume) -> Outcome:
    body = source.values > source.values.mean()
    values = np.where(body, np.float32(40), np.float32(-1000))
    return Outcome(
        source.with_values(values, Unit.HU),
        masks={"body": body, "lungs": np.zeros_like(body)},
        measurements={"body_ml": 61.5, "rim_contrast": 2.0},
        notes=("lungs are filled with soft tissue",),
    )


def made(derivation: Derivation, *wanted: str) -> dict[str, Companion]:
    return {companion.name: companion for companion in derive_companions(wanted or COMPANIONS, derivation)}


def check(
    folder: Path,
    files: list[Path],
    derivation: Derivation,
    companions: dict[str, Companion],
    sources_own: Sequence[str] = (),
) -> None:
    """Every validator over every object, and over all of the study together; sources_own: faults the source has."""
    paths = []
    for companion in companions.values():
        for path in written(folder / companion.name, *companion.instances):
            ours = [line for line in unexpected(path) if not any(own in line for own in sources_own)]
            assert ours == [] and dcmftest(path) and dcmdump_complaints(path) == []
            if companion.name in ("measurement_report", "text_report"):
                assert any("<contains NUM" in line for line in dsrdump(path))
            if companion.name == "banner":
                said = dcmpschk(path)
                own = {line for line in said if any(fault in line for fault in sources_own)}
                assert said == [] or (own and set(said) - own == {"W: Test failed - one or more errors."}), said
            paths.append(path)
    study = [*files, *derived_files(folder / "derived", derivation), *paths]
    of_the_sources = {line.partition(" for file ")[0] for line in dcentvfy(files)}
    found = [line for line in dcentvfy(study) if line.partition(" for file ")[0] not in of_the_sources]
    assert [line for line in found if not any(known in line for known in COUNTED_ELSEWHERE)] == []


CASES: list[tuple[str, str, str, Callable[[Volume], Outcome], dict[str, Any]]] = [
    ("CT", "CT", "", changed_block, {}),
    ("PET", "PT", "", changed_block, {}),
    ("MR", "MR", "", changed_block, {}),
    ("synthetic CT of PET", "PT", "CT", soft_tissue, {"attenuation_corrected": False}),
    ("synthetic CT of MR", "MR", "CT", soft_tissue, {}),
    ("one slice", "CT", "", changed_block, {"slices": 1, "rows": 16, "columns": 12}),
    ("Chinese", "CT", "", changed_block, {"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东"}),
    ("little said of the patient", "CT", "", changed_block, {"PatientName": "", "StudyID": "", "PatientSex": ""}),
]


@pytest.mark.parametrize(
    ("modality", "to", "outcome_of", "options"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_all_companions_of_a_job_pass_every_validator_together(
    tmp_path: Path, modality: str, to: str, outcome_of: Callable[[Volume], Outcome], options: dict[str, Any]
) -> None:
    folder, card = tmp_path / "source", card_for(modality, to=to)
    derivation = phantom_derivation(folder, modality, outcome_of=outcome_of, card=card, **options)
    check(tmp_path / "made", sorted(folder.glob("*.dcm")), derivation, made(derivation), SOURCES_OWN)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_all_companions_of_a_multi_frame_source_pass_every_validator_together(tmp_path: Path, modality: str) -> None:
    files = [write_enhanced(tmp_path / "enhanced.dcm", modality)]
    derivation = derivation_from(files, changed_block, card_for(modality))
    assert [image.frame for image in derivation.images] == [1, 2, 3, 4]
    check(tmp_path / "made", files, derivation, made(derivation), SOURCES_OWN)


@pytest.mark.parametrize("name", ["oblique", "gantry tilt", "gap"])
def test_all_companions_of_an_odd_stack_pass_every_validator_together(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "source"
    derivation = phantom_derivation(folder, card=card_for("CT", slicewise=True), **stacks()[name])
    assert derivation.source.geometry.is_even == (name == "oblique")
    check(tmp_path / "made", sorted(folder.glob("*.dcm")), derivation, made(derivation), SOURCES_OWN)


def with_short_study_id(files: list[Path], folder: Path) -> list[Path]:
    """Copies with a StudyID that SH can hold: one real study has a longer one, which every object would copy (C2)."""
    folder.mkdir()
    for path in files:
        dataset = dcmread(path)
        dataset.StudyID = str(dataset.get("StudyID") or "")[:16]
        dataset.save_as(folder / path.name)
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    ("name", "modality"),
    [("ct_dental_metal_TCGA-E3-A3E5", "CT"), ("ct_chest_C3N-00249", "CT"), ("pet_wholebody_ac_STS_001", "PT"),
     ("triple_STS_013/MR_T1", "MR")],
)  # fmt: skip
def test_all_companions_of_real_series_pass_every_validator_together(tmp_path: Path, name: str, modality: str) -> None:
    files = with_short_study_id(sorted((fixtures_folder() / name).glob("*.dcm")), tmp_path / "source")
    derivation = derivation_from(files, changed_block, card_for(modality))
    check(tmp_path / "made", files, derivation, made(derivation), SOURCES_OWN)


def test_two_stacks_of_one_series_give_companions_that_never_collide(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "source", slices=8)
    parts = [replace(derivation_from(files[4 * part : 4 * part + 4]), part=part) for part in (0, 1)]
    instances = [i for part in parts for companion in made(part).values() for i in companion.instances]
    assert len({instance.sop_instance_uid for instance in instances}) == len(instances) == 2 * 8
    numbers: dict[int, set[str]] = {}
    for instance in instances:
        header = dcmread(BytesIO(instance.content), stop_before_pixels=True)
        numbers.setdefault(int(header.SeriesNumber), set()).add(instance.series_instance_uid)
    assert all(len(series) == 1 for series in numbers.values()) and len(numbers) == 2 * 8


def test_the_words_of_an_admin_stay_the_same_and_in_order() -> None:
    words = "segmentation change_map uncertainty_map measurement_report text_report key_images banner"
    assert words.split() == list(COMPANIONS)


def test_companions_come_in_a_fixed_order_and_only_those_that_are_wanted(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    wanted = ("banner", "text_report", "segmentation")
    assert [each.name for each in derive_companions(wanted, derivation)] == ["segmentation", "text_report", "banner"]
    assert list(derive_companions((), derivation)) == []


def test_the_report_refers_to_the_segmentation_when_both_are_wanted(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    both = made(derivation, "measurement_report", "segmentation")
    (mask,), (report,) = both["segmentation"].instances, both["measurement_report"].instances
    assert mask.sop_instance_uid.encode() in report.content
    alone = made(derivation, "measurement_report")["measurement_report"].instances[0]
    assert mask.sop_instance_uid.encode() not in alone.content


@pytest.mark.parametrize(
    ("modality", "to", "outcome_of", "sentences"),
    [
        (
            "CT",
            "",
            lambda source: Outcome(source),
            {
                "segmentation": "no segmentation: the pipeline makes no mask",
                "change_map": "no change map: no value was changed",
                "uncertainty_map": "no uncertainty map: the pipeline gives no uncertainty",
            },
        ),
        ("CT", "", lambda source: replace(changed_block(source), uncertainty=None), {"uncertainty_map": "no unc"}),
        (
            "CT",
            "",
            lambda source: replace(changed_block(source), masks={"metal": np.zeros(source.values.shape, np.bool_)}),
            {"segmentation": "no segmentation: the mask is empty (metal)"},
        ),
        ("PT", "CT", soft_tissue, {"change_map": "different units", "uncertainty_map": "no uncertainty"}),
    ],
)
def test_what_does_not_apply_is_left_out_with_a_sentence_that_says_why(
    tmp_path: Path, modality: str, to: str, outcome_of: Callable[[Volume], Outcome], sentences: dict[str, str]
) -> None:
    derivation = phantom_derivation(tmp_path / "s", modality, outcome_of=outcome_of, card=card_for(modality, to=to))
    companions = made(derivation)
    assert list(companions) == list(COMPANIONS)
    for name, companion in companions.items():
        assert bool(companion.instances) == (name not in sentences) == (not companion.why_left_out)
        assert sentences.get(name, "") in companion.why_left_out


def test_a_word_that_is_no_companion_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    with pytest.raises(ValueError, match="no companion 'report'; there are segmentation, change_map"):
        derive_companions(["segmentation", "report"], derivation)


def test_the_same_work_gives_the_same_bytes(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "source")
    assert made(derivation_from(files)) == made(derivation_from(files))


def test_the_words_can_be_read_without_loading_the_standards_tables() -> None:
    code = "import sys; import dicomnode.companions.companions; print('highdicom' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
