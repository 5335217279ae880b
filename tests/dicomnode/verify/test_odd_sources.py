"""Sources as hospitals send them: what the node rightly derives of them, gate and verification take for right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicomnode.companions.companions import COMPANIONS
from dicomnode.derive import derive_frames
from dicomnode.input_gate import Allowed
from dicomnode.load import load_stack, planned_stacks
from dicomnode.verify.folder import verify_folder
from dicomnode.verify.tally import Verdict, Verification
from inference.pipeline import Card, Outcome
from tests.builders_companions import derivation_from, stacks, written
from tests.builders_dicom import card_for, job_facts, write_ct_series, write_mr_series, write_pet_series
from tests.builders_enhanced import write_enhanced
from tests.builders_passports import write_all

ANY = Allowed(accept_lossy=True, slicewise=True)
WRITERS: dict[str, Callable[..., list[Path]]] = {"CT": write_ct_series, "PT": write_pet_series, "MR": write_mr_series}


def verified(
    folder: Path, files: list[Path], card: Card | None = None, also: tuple[str, ...] = (), **job: Any
) -> Verification:
    """The folder, with all that is derived of the files in it, verified."""
    derivation = derivation_from(files, None, card, allowed=ANY, **job)
    write_all(folder, derivation, also)
    return verify_folder(folder)


def faults(verification: Verification) -> list[tuple[str, str]]:
    return [(rule.rule, rule.message) for rule in verification.rules if rule.state != "met"]


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_every_frame_of_a_multi_frame_source_is_a_source(tmp_path: Path, modality: str) -> None:
    (tmp_path / "source").mkdir()
    verification = verified(tmp_path, [write_enhanced(tmp_path / "source" / "1.dcm", modality)], also=COMPANIONS)
    assert faults(verification) == [] and verification.verdict == Verdict.OK


@pytest.mark.parametrize("name", sorted(stacks()))
def test_stacks_lie_as_patients_lie(tmp_path: Path, name: str) -> None:
    options = {key: value for key, value in stacks()[name].items() if key != "allowed"}
    verification = verified(tmp_path, write_ct_series(tmp_path / "source", **options), card_for("CT", slicewise=True))
    assert faults(verification) == [] and verification.verdict == Verdict.OK


def test_p4_a_dynamic_pet_is_one_series_of_several_volumes(tmp_path: Path) -> None:
    shared: dict[str, Any] = {
        "series_instance_uid": "1.2.3",
        "study_instance_uid": "1.2.4",
        "frame_of_reference_uid": "1.2.5",
        "SeriesType": ["DYNAMIC", "IMAGE"],
        "NumberOfTimeSlices": 2,
    }
    files: list[Path] = []
    for frame in range(2):

        def each(k: int, dataset: Any, frame: int = frame) -> None:
            dataset.ImageIndex = dataset.InstanceNumber = 4 * frame + k + 1
            dataset.FrameReferenceTime, dataset.AcquisitionTime = str(60000 * frame), f"10{20 + frame}00"

        files += write_pet_series(tmp_path / "source" / str(frame), each=each, **shared)
    loaded = [load_stack(plan) for plan in planned_stacks(files, allowed=ANY)]
    frames = [(Outcome(source), images) for source, images in loaded]
    written(tmp_path / "derived", *derive_frames(frames, card_for("PT"), job=job_facts()))
    verification = verify_folder(tmp_path)
    assert [count for _, count in verification.series] == [8]
    assert [rule for rule, _ in faults(verification)] == ["PASSPORT"], "it was made without one"


def test_neighbours_padding_cut_voxels_and_an_admins_words_are_right(tmp_path: Path) -> None:
    values = np.full((3, 32, 32), 40)
    values[:, :4] = values[:, -4:] = -3024
    values[1, 10:12, 10:12] = 9000
    for name, card, job in (
        ("context", card_for("CT", context_slices=1), {}),
        ("12 bits", card_for("CT"), {"ct_pixels": "unsigned-12"}),
        ("product", card_for("CT"), {"content_qualification": "PRODUCT", "udi": "(01)123", "station_name": "NODE"}),
        ("ihe", card_for("CT"), {"equipment_purpose": ("Newcode1", "99IHE", "Processing Algorithm")}),
    ):
        folder = tmp_path / name
        verification = verified(folder, write_ct_series(folder / "source", values=values), card, **job)
        assert faults(verification) == [], name


def test_k4_a_declared_character_set_is_right(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "source", SpecificCharacterSet=None, PatientName="Plain^Name")
    assert faults(verified(tmp_path, files, declared_character_set="ISO_IR 192")) == []


@pytest.mark.parametrize(
    ("modality", "attributes"),
    [
        ("CT", {"study_instance_uid": "1.2.0840.01", "frame_of_reference_uid": "1.2.0840.02"}),
        ("CT", {"TimezoneOffsetFromUTC": "-0000"}),
        ("CT", {"TimezoneOffsetFromUTC": "+9999"}),
        ("CT", {"Manufacturer": ["A", "B"]}),
        ("CT", {"SpecificCharacterSet": "ISO_IR 192", "Manufacturer": "M\u00e4ker"}),
        ("CT", {"Manufacturer": ""}),
        ("CT", {"SeriesNumber": None}),
        ("CT", {"SeriesNumber": "-3"}),
        ("CT", {"WindowCenter": ["40", "400"], "WindowWidth": ["400"]}),
        ("CT", {"KVP": None, "AcquisitionNumber": None}),
        ("CT", {"BurnedInAnnotation": "YES", "SyntheticData": "YES"}),
        ("CT", {"SeriesDescription": "A  B   C   " + "x" * 60}),
        ("CT", {"ImageType": ["DERIVED", "SECONDARY", "MPR", "CT_SOM5 MPR", "X"]}),
        ("CT", {"LossyImageCompression": "01", "LossyImageCompressionRatio": "10"}),
        ("CT", {"IrradiationEventUID": ["1.2.3", "1.2.4"]}),
        ("MR", {"Laterality": "L", "BodyPartExamined": "KNEE"}),
        ("MR", {"RescaleSlope": "-2.5", "RescaleIntercept": "10", "RescaleType": "US"}),
        ("MR", {"RescaleSlope": "2"}),
        ("MR", {"RescaleIntercept": "-3"}),
        ("MR", {"RescaleSlope": "", "RescaleIntercept": ""}),
        ("PT", {"attenuation_corrected": False, "AttenuationCorrectionMethod": "none, no AC"}),
        ("MR", {"PhotometricInterpretation": "MONOCHROME1", "SequenceVariant": None}),
        ("PT", {"SeriesType": ["DYNAMIC", "IMAGE"]}),
        ("PT", {"DecayCorrection": "NONE", "CorrectedImage": ["NORM", "ATTN"]}),
        ("PT", {"ImageIndex": 7, "NumberOfSlices": 200}),
        ("PT", {"PatientPosition": "HFS", "PatientOrientationCodeSequence": None}),
    ],
)
def test_an_odd_source_gives_no_false_alarm(tmp_path: Path, modality: str, attributes: dict[str, Any]) -> None:
    files = WRITERS[modality](tmp_path / "source", **attributes)
    verification = verified(tmp_path, files)
    assert faults(verification) == [] and verification.verdict == Verdict.OK
