"""All objects beside a derived series, together."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from struct import unpack
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from dicomnode.companions.companions import COMPANIONS, RULE_OF, Companion, derive_companions
from dicomnode.companions.derivation import Derivation
from dicomnode.errors import OutputFault
from dicomnode.outgoing import outbound, store_instances
from dicomnode.peer import Peer
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from storage.ledger import LedgerState
from tests.builders import fixtures_folder
from tests.builders_companions import changed_block, derivation_from, derived_files, phantom_derivation, stacks, written
from tests.builders_dicom import card_for, write_ct_series
from tests.builders_enhanced import write_enhanced
from tests.peers import Orthanc
from tests.validators import dcmdump_complaints, dcmftest, dcmpschk, dsrdump, inconsistent, unexpected

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
    assert inconsistent([*derived_files(folder / "derived", derivation), *paths], sources=files) == []


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
    stacks_of_job = [derivation_from(files[4 * stack : 4 * stack + 4], stack=stack) for stack in (0, 1)]
    instances = [i for one in stacks_of_job for companion in made(one).values() for i in companion.instances]
    assert len({instance.sop_instance_uid for instance in instances}) == len(instances) == 2 * 8
    numbers: dict[int, set[str]] = {}
    headers = [dcmread(BytesIO(instance.content), stop_before_pixels=True) for instance in instances]
    for header in (*headers, *(header for one in stacks_of_job for header in one.derived)):
        numbers.setdefault(int(header.SeriesNumber), set()).add(str(header.SeriesInstanceUID))
    assert all(len(series) == 1 for series in numbers.values()) and len(numbers) == 2 * (1 + 8)


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
        (
            "PT",
            "",
            changed_block,
            {"banner": "no banner: the images' rescale slopes differ; viewers would show one presentation state diff"},
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


def test_a_map_that_would_be_too_large_is_left_out_with_a_sentence_and_the_rest_is_made(tmp_path: Path) -> None:
    small = phantom_derivation(tmp_path / "s", slices=2, rows=16, columns=16)
    side = 8200  # 2 x 8200 x 8200 values of 4 bytes are 513 MB; one value stands for all of them in memory
    zero, one = (np.broadcast_to(np.float32(value), (2, side, side)) for value in (0, 1))
    source = replace(small.source, values=zero)
    large = replace(small, source=source, outcome=replace(small.outcome, uncertainty=one))
    (companion,) = derive_companions(["uncertainty_map"], large)
    assert companion.instances == ()
    assert companion.why_left_out == "no uncertainty map: its 513 MB are more than the 512 MB that are made"


def test_c21_a_map_of_burned_in_annotation_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    companions = made(phantom_derivation(tmp_path / "s", BurnedInAnnotation="YES"))
    sentence = "map: an image has burned in annotation, and a Parametric Map cannot say so"
    for name, words in (("change_map", f"no change {sentence}"), ("uncertainty_map", f"no uncertainty {sentence}")):
        assert (companions[name].instances, companions[name].why_left_out) == ((), words)
    assert all(companion.instances for name, companion in companions.items() if not name.endswith("_map"))


class Odd(str):
    """A pipeline's note that cannot be cut to a sentence: what nobody foresaw."""

    def __iter__(self) -> Iterator[str]:
        raise ValueError("Doe^John")


FORESEEN_BY_NOBODY = {"measurement_report": "S5", "text_report": "S7"}


@pytest.mark.parametrize(("name", "rule"), FORESEEN_BY_NOBODY.items())
def test_an_unforeseen_error_is_a_fault_of_the_companion_by_its_rule_and_quotes_nothing(
    tmp_path: Path, name: str, rule: str
) -> None:
    derivation = phantom_derivation(tmp_path / "s", outcome_of=lambda source: Outcome(source, notes=(Odd("odd"),)))
    with pytest.raises(
        OutputFault, match=rf"^{rule}: the {name.replace('_', ' ')} cannot be made: ValueError at "
    ) as e:
        list(derive_companions([name], derivation))
    assert e.value.rule == rule and "Doe" not in str(e.value)
    assert set(RULE_OF) == set(COMPANIONS)


def test_a_fault_that_is_named_already_keeps_its_name(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    wrong = replace(derivation, outcome=replace(derivation.outcome, masks={"metal": np.ones((4, 4, 4), np.bool_)}))
    with pytest.raises(OutputFault, match="not on the source's grid"):
        list(derive_companions(["segmentation"], wrong))


@pytest.mark.peer
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_all_companions_of_a_job_come_back_from_orthanc_byte_for_byte(tmp_path: Path, modality: str) -> None:
    derivation = phantom_derivation(tmp_path / "source", modality)
    instances = [i for companion in made(derivation).values() for i in companion.instances]
    paths = written(tmp_path / "made", *instances)
    orthanc = Orthanc(tmp_path / "orthanc").start()
    try:
        peer = Peer(name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port, may={"store"})
        results = list(store_instances(peer, [outbound(path) for path in paths], ae_title="DICOMNODE"))
        assert {result.state for result in results} == {LedgerState.DONE} and len(results) == len(instances) == 8
        back = orthanc.download(tmp_path / "back")
    finally:
        orthanc.stop()
    assert sorted(map(data_set_bytes, back)) == sorted(map(data_set_bytes, paths))


def data_set_bytes(path: Path) -> bytes:
    """What follows the file meta group, which every archive writes anew."""
    content = path.read_bytes()
    (length,) = unpack("<L", content[140:144])  # FileMetaInformationGroupLength
    return content[144 + length :]


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
