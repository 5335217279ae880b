"""A derived series is right by the rules of DERIVED_SERIES.md and by the validators of other makers."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicomnode.derive import derive_series
from dicomnode.load import load_volume
from dicomnode.uids import IMPLEMENTATION_CLASS_UID, MODEL_NAME
from inference.pipeline import Card, Outcome
from inference.volume import Unit, Volume
from tests.builders import fixtures_folder
from tests.builders_dicom import (
    card_for,
    derived_datasets,
    job_facts,
    with_bytes,
    write_ct_series,
    write_mr_series,
    write_pet_series,
)
from tests.validators import dcentvfy, dciodvfy, dcmdump_complaints, dcmftest, errors

MAR = card_for("CT", name="ct_metal_artifact_reduction", token="MAR", label="metal artifact reduction", ordinal=1)
CT_DENOISED = card_for("CT", name="ct_denoising", token="DENOISED", label="denoised", ordinal=2)
PET_DENOISED = card_for("PT", name="pet_denoising", token="DENOISED", label="denoised", ordinal=3)
PET_TO_CT = card_for("PT", to="CT", name="pet_to_ct", label="synthetic CT", ordinal=4)
MOCO = card_for("MR", name="mr_motion_correction", token="MOCO", label="motion corrected", ordinal=5)
MR_TO_CT = card_for("MR", to="CT", name="mr_to_ct", label="synthetic CT", ordinal=6)

ALLOWED_WARNINGS = (
    "Device UID",  # the node's and the model's identity: 2026b lists them, the tool lags
    "Standard Extended SOP Class",  # follows from the Device UID
    "99DCMNODE",  # our private coding scheme
)
UNKNOWN_SIDE = (
    "Warning - is only permitted to be empty when actually unknown; should be absent (not empty) if an unpaired body "
    "part, and have a value if a paired body part - attribute <Laterality>"
)
"""Of a Laterality that is empty because the source says no side: that it is empty is right (DERIVED_SERIES C29)."""


def complaints(path: Path) -> set[str]:
    """The Error and Warning lines dciodvfy prints of a file, but for those of the node's own identity."""
    lines = {line for line in dciodvfy(path) if "Error" in line or "Warning" in line}
    if dcmread(path, stop_before_pixels=True).get("Laterality", "L") in (None, ""):
        lines -= {UNKNOWN_SIDE}
    return {line for line in lines if not any(known in line for known in ALLOWED_WARNINGS)}


def inconsistencies(files: list[Path], paths: list[Path]) -> list[str]:
    """What dcentvfy finds among sources and derived images, but for the empty Type 2 attributes no source has."""
    sources = [dcmread(path, stop_before_pixels=True) for path in files]
    return [
        line
        for line in dcentvfy([*files, *paths])
        if not any(
            f"present in one instance but not the other - Element=<{word}>" in line
            for word in ("PatientName", "StudyID")
            if all(word not in one for one in sources)
        )
    ]


def outcome_of(source: Volume, card: Card) -> Outcome:
    """The source itself, for a synthetic CT soft tissue where the source is bright."""
    if card.makes is None:
        return Outcome(source)
    body = (source.values > source.values.mean()).astype(np.float32)
    return Outcome(source.with_values(body * 1040 - 1000, card.makes))


def written(files: list[Path], card: Card, folder: Path) -> list[Path]:
    source, images = load_volume(files)
    folder.mkdir()
    paths = []
    for k, made in enumerate(derive_series(outcome_of(source, card), card, images, job=job_facts())):
        paths.append(folder / f"{k:03d}.dcm")
        paths[-1].write_bytes(made.content)
    return paths


MADE_UP: list[tuple[str, Callable[..., list[Path]], dict[str, Any], Card]] = [
    ("MAR", write_ct_series, {}, MAR),
    ("denoised CT", write_ct_series, {"BodyPartExamined": "KNEE", "TimezoneOffsetFromUTC": "+0100"}, CT_DENOISED),
    ("one slice", write_ct_series, {"slices": 1, "rows": 9, "columns": 7}, MAR),
    ("denoised PET", write_pet_series, {}, PET_DENOISED),
    ("denoised NAC PET", write_pet_series, {"attenuation_corrected": False}, PET_DENOISED),
    ("synthetic CT of a real NAC header", write_pet_series, {"attenuation_corrected": False}, PET_TO_CT),
    ("corrected MR", write_mr_series, {"InversionTime": "0", "TriggerTime": ""}, MOCO),
    ("synthetic CT of MR", write_mr_series, {}, MR_TO_CT),
    ("PET with no orientation codes", write_pet_series, {"PatientOrientationCodeSequence": None}, PET_DENOISED),
    ("PET with forbidden counts", write_pet_series, {"NumberOfTimeSlices": 4, "PatientPosition": "HFS"}, PET_DENOISED),
    ("little said of the patient", write_ct_series, {"PatientName": None, "StudyID": None, "KVP": ""}, MAR),
]


@pytest.mark.parametrize(
    ("write", "options", "card"), [case[1:] for case in MADE_UP], ids=[case[0] for case in MADE_UP]
)
def test_g1_g2_g4_validators_of_other_makers_find_no_error(
    tmp_path: Path, write: Callable[..., list[Path]], options: dict[str, Any], card: Card
) -> None:
    files = write(tmp_path / "source", **options)
    paths = written(files, card, tmp_path / "derived")
    assert len(paths) == len(files)
    own = {line for path in files for line in complaints(path)}
    for path in paths:
        assert complaints(path) - own == set()
        assert dcmftest(path) and dcmdump_complaints(path) == []
    assert inconsistencies(files, paths) == []


REAL = [
    ("ct_chest_C3N-00249", MAR),
    ("ct_dental_metal_TCGA-E3-A3E5", MAR),
    ("ct_lowdose_petct_TCGA-DE-A4MA", CT_DENOISED),
    ("ct_jpeg2000_totalseg", CT_DENOISED),
    ("pet_wholebody_ac_STS_001", PET_DENOISED),
    ("pet_wholebody_ac_STS_001", PET_TO_CT),
    ("triple_STS_013/CT", MAR),
    ("triple_STS_013/PET", PET_DENOISED),
    ("triple_STS_013/PET", PET_TO_CT),
    ("triple_STS_013/MR_T1", MOCO),
    ("triple_STS_013/MR_T1", MR_TO_CT),
]


def real_files(name: str, folder: Path) -> list[Path]:
    """A real series; the one whose study, series and instance UIDs were emptied gets some, or no node could take it."""
    files = sorted((fixtures_folder() / name).glob("*.dcm"))
    if name != "ct_jpeg2000_totalseg":
        return files
    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    for path in files:
        dataset = dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.save_as(folder / path.name)
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("name", "card"), REAL, ids=[f"{name}-{card.token}" for name, card in REAL])
def test_real_series_give_derived_ones_without_an_error_of_ours(tmp_path: Path, name: str, card: Card) -> None:
    files = real_files(name, tmp_path / "mended")
    paths = written(files, card, tmp_path / "derived")
    own = {line for path in files for line in complaints(path)}
    for path in paths:
        assert complaints(path) - own == set()
        assert dcmftest(path) and dcmdump_complaints(path) == []
    if not name.startswith("triple"):
        assert errors(paths[0]) == []
    missing = "Missing SOPInstanceUID that was referenced"  # the source's references to objects outside the series
    known = {line.split(" for file")[0] for line in dcentvfy(files) if missing in line}
    found = {line.split(" for file")[0] for line in dcentvfy([*files, *paths])}
    assert found <= known


@pytest.mark.parametrize(
    ("name", "card"), [(name, card) for name, card in REAL if card.makes is None and name != "ct_jpeg2000_totalseg"]
)
def test_g5_an_identity_pipeline_gives_the_source_back_to_an_independent_reader(name: str, card: Card) -> None:
    source, images = load_volume(sorted((fixtures_folder() / name).glob("*.dcm")))
    made = [dcmread(BytesIO(m.content)) for m in derive_series(Outcome(source), card, images, job=job_facts())]
    volume = highdicom.get_volume_from_series(made, rtol=1e-2, apply_real_world_transform=False)
    affine, values = volume.affine, volume.array
    if affine[:3, 0] @ source.geometry.affine[:3, 0] < 0:
        affine = affine @ np.array([[-1, 0, 0, len(values) - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        values = values[::-1]
    assert np.allclose(affine, source.geometry.affine, atol=1e-3)
    half_step = {
        "CT": 0.5,
        "PT": np.array([float(dataset.get("RescaleSlope", 1)) for dataset in made])[:, None, None] / 2,
        "MR": 0.0,
    }
    off = np.abs(values - source.values.astype(np.float64))
    assert (off <= half_step[card.modality] * 1.0001 + 1e-6 * source.values.max()).all()


@pytest.mark.parametrize("write", [write_ct_series, write_pet_series, write_mr_series])
def test_g7_u5_two_runs_give_the_same_bytes(tmp_path: Path, write: Callable[..., list[Path]]) -> None:
    files = write(tmp_path)
    source, images = load_volume(files)
    card = card_for(source.acquisition.modality)
    runs = []
    for order in (files, files[::-1]):
        source, images = load_volume(order)
        runs.append([made.content for made in derive_series(Outcome(source), card, images, job=job_facts())])
    assert runs[0] == runs[1]


def test_c3_uids_are_new_and_follow_from_generation_sources_and_pipeline(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path)
    first = derived_datasets(files, MAR)
    others = [
        derived_datasets(files, MAR, generation=2),
        derived_datasets(files[:3], MAR),
        derived_datasets(files, CT_DENOISED),
        derived_datasets(files, replace(MAR, settings={"strength": 0.5})),
    ]
    series = {run[0].SeriesInstanceUID for run in [first, *others]}
    instances = {dataset.SOPInstanceUID for run in [first, *others] for dataset in run}
    sources = {dcmread(path).SOPInstanceUID for path in files}
    assert len(series) == 5 and len(instances) == 4 * 4 + 3 and not instances & sources
    assert dcmread(files[0]).SeriesInstanceUID not in series
    assert {dataset.SeriesInstanceUID for dataset in first} == {first[0].SeriesInstanceUID}


def test_c5_c13_every_slice_lies_where_its_source_lies_and_names_it(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        dataset.InstanceNumber, dataset.SliceLocation = 40 - k, f"{100 + 3 * k}"

    files = write_ct_series(tmp_path, each=spoil)
    for path, derived in zip(files, derived_datasets([files[2], files[0], files[3], files[1]], MAR), strict=True):
        source = dcmread(path)
        assert derived.ImagePositionPatient == source.ImagePositionPatient
        assert (derived.InstanceNumber, derived.SliceLocation) == (source.InstanceNumber, source.SliceLocation)
        (item,) = derived.SourceImageSequence
        assert (item.ReferencedSOPInstanceUID, item.SpatialLocationsPreserved) == (source.SOPInstanceUID, "YES")
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert derived.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
        assert derived.RelatedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID


def test_c9_c16_c17_c22_the_node_the_job_and_the_research_mark_are_told(tmp_path: Path) -> None:
    derived = derived_datasets(write_ct_series(tmp_path, TimezoneOffsetFromUTC="+0100"), MAR)[0]
    assert (derived.ManufacturerModelName, derived.InstitutionName) == (MODEL_NAME, "Hospital")
    assert derived.SoftwareVersions[1] == "ct_metal_artifact_reduction 1.0"
    assert (derived.ContentQualification, derived.BurnedInAnnotation) == ("RESEARCH", "NO")
    assert (derived.ContentDate, derived.ContentTime) == ("20250301", "103015")
    assert (derived.SeriesDate, derived.SeriesTime) == ("20250301", "103015")
    assert (derived.SeriesNumber, derived.SeriesDescription) == (301, "Abdomen 3.0 B30f metal artifact reduction (AI)")
    assert derived.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    product = derived_datasets(write_ct_series(tmp_path), MAR, content_qualification="PRODUCT")[0]
    assert product.ContentQualification == "PRODUCT"


def test_c18_c29_the_acquisition_and_the_request_stay_and_c25_the_old_pixels_facts_go(tmp_path: Path) -> None:
    request = Dataset()
    request.ScheduledProcedureStepID = "SPS1"
    files = write_ct_series(
        tmp_path,
        RequestAttributesSequence=[request],
        ProtocolName="Hip",
        IrradiationEventUID="1.2.3",
        OperatorsName="Op^Erator",
        SmallestImagePixelValue=0,
        LargestImagePixelValue=900,
        WaterEquivalentDiameter=300.0,
        PerformedProcedureStepID="PPS1",
        each=lambda k, dataset: dataset.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(1, "OB", b"xx"),
    )
    derived = derived_datasets(files, MAR)[0]
    assert derived.RequestAttributesSequence[0].ScheduledProcedureStepID == "SPS1"
    assert (derived.ProtocolName, derived.IrradiationEventUID, derived.KVP) == ("Hip", "1.2.3", 120)
    assert (derived.AcquisitionTime, derived.AccessionNumber) == ("102010", "A1")
    gone = (
        "OperatorsName SmallestImagePixelValue LargestImagePixelValue WaterEquivalentDiameter PerformedProcedureStepID"
    )
    assert not [keyword for keyword in gone.split() if keyword in derived]
    assert not [element for element in derived if element.tag.is_private]


def test_c20_lossy_history_is_inherited(tmp_path: Path) -> None:
    files = write_ct_series(
        tmp_path,
        LossyImageCompression="01",
        LossyImageCompressionRatio="8.5",
        LossyImageCompressionMethod="ISO_10918_1",
    )
    source, images = load_volume(files, accept_lossy=True)
    for made in derive_series(Outcome(source), MAR, images, job=job_facts()):
        derived = dcmread(BytesIO(made.content))
        assert (derived.LossyImageCompression, derived.LossyImageCompressionRatio) == ("01", 8.5)


def test_c21_text_burned_into_the_source_is_still_there(tmp_path: Path) -> None:
    assert derived_datasets(write_ct_series(tmp_path, BurnedInAnnotation="YES"), MAR)[0].BurnedInAnnotation == "YES"


def test_c23_t3_a_synthetic_ct_says_so_and_claims_no_acquisition_of_its_own(tmp_path: Path) -> None:
    for folder, write, card in (("pet", write_pet_series, PET_TO_CT), ("mr", write_mr_series, MR_TO_CT)):
        derived = derived_datasets(write(tmp_path / folder), card)[0]
        assert (derived.Modality, derived.SyntheticData, derived.PatientPosition) == ("CT", "YES", "HFS")
        assert (derived.KVP, derived.AcquisitionNumber) == (None, None)
        for keyword in ("ConvolutionKernel", "Exposure", "Units", "EchoTime", "RadiopharmaceuticalInformationSequence"):
            assert keyword not in derived
        assert (derived.WindowCenter, derived.WindowWidth) == (40, 400)
    assert "SyntheticData" not in derived_datasets(write_ct_series(tmp_path / "ct"), MAR)[0]
    again = derived_datasets(write_ct_series(tmp_path / "again", SyntheticData="YES"), CT_DENOISED)[0]
    assert again.SyntheticData == "YES", "what is derived of synthetic data is synthetic"


def test_t1_a_ct_is_written_in_signed_16_bits_of_hu(tmp_path: Path) -> None:
    derived = derived_datasets(write_ct_series(tmp_path, PhotometricInterpretation="MONOCHROME1"), MAR)[0]
    shape = (derived.BitsAllocated, derived.BitsStored, derived.HighBit, derived.PixelRepresentation)
    assert shape == (16, 16, 15, 1) and derived.PhotometricInterpretation == "MONOCHROME2"
    assert (derived.RescaleSlope, derived.RescaleIntercept, derived.RescaleType) == (1, 0, "HU")


def test_t4_what_lies_outside_the_field_of_view_keeps_the_sources_value(tmp_path: Path) -> None:
    values = np.full((3, 32, 32), 40)
    values[:, :6], values[:, -6:] = -2000, -2000
    source, images = load_volume(write_ct_series(tmp_path, values=values))
    blurred = Outcome(source.with_values(np.full_like(source.values, 7.0)))
    for made in derive_series(blurred, CT_DENOISED, images, job=job_facts()):
        derived = dcmread(BytesIO(made.content))
        assert (derived.pixel_array[:6] == -2000).all() and (derived.pixel_array[6:-6] == 7).all()
        assert derived.PixelPaddingValue == -2000 and derived["PixelPaddingValue"].VR == "SS"


def test_p1_p2_p5_a_pet_keeps_its_time_base_units_and_tracer(tmp_path: Path) -> None:
    files = write_pet_series(tmp_path, PatientSize="1.75")
    source = dcmread(files[0])
    derived = derived_datasets(files, PET_DENOISED)[0]
    kept = """SeriesDate SeriesTime AcquisitionDate AcquisitionTime FrameReferenceTime ActualFrameDuration DecayFactor
    DecayCorrection Units CountsSource SeriesType CorrectedImage AttenuationCorrectionMethod FrameOfReferenceUID
    ScatterCorrectionMethod ReconstructionMethod RadiopharmaceuticalInformationSequence PatientWeight PatientSize"""
    for keyword in kept.split():
        assert derived[keyword].value == source[keyword].value, keyword
    assert derived.ContentDate == "20250301"


def test_p4_slices_are_counted_as_they_are(tmp_path: Path) -> None:
    files = write_pet_series(tmp_path, slices=6)
    derived = derived_datasets(files[2:5], PET_DENOISED)
    assert {dataset.NumberOfSlices for dataset in derived} == {3}
    assert [dataset.ImageIndex for dataset in derived] == [1, 2, 3]


def test_m1_m2_an_mr_keeps_its_sequence_its_rescale_and_its_sign(tmp_path: Path) -> None:
    plain = derived_datasets(write_mr_series(tmp_path / "plain"), MOCO)[0]
    assert "RescaleSlope" not in plain and plain.PixelRepresentation == 0
    assert (plain.ScanningSequence, plain.RepetitionTime, plain.EchoTime) == ("SE", 500, 12)
    assert (plain.WindowCenter, plain.WindowWidth) == (300, 600)
    files = write_mr_series(tmp_path / "rescaled", RescaleSlope="2.44", RescaleIntercept="-3", RescaleType="normalized")
    for source, derived in zip(map(dcmread, files), derived_datasets(files, MOCO), strict=True):
        assert (derived.RescaleSlope, derived.RescaleIntercept, derived.RescaleType) == (2.44, -3, "normalized")
        assert (derived.pixel_array == source.pixel_array).all()


def test_k1_k2_a_name_nobody_here_can_decode_reaches_the_derived_image_byte_for_byte(tmp_path: Path) -> None:
    name = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab= "
    files = write_ct_series(tmp_path, PatientName="#" * len(name), SpecificCharacterSet="################")
    for path in files:
        with_bytes(path, b"#" * len(name), name)
        with_bytes(path, b"################", b"\\ISO 2022 IR 58 ")
    for derived in derived_datasets(files, MAR):
        assert derived.get_item(0x00100010).value == name
        assert list(derived.SpecificCharacterSet) == ["", "ISO 2022 IR 58"]
        assert derived.SeriesDescription == "Abdomen 3.0 B30f metal artifact reduction (AI)"


def test_a_derived_series_is_made_instance_by_instance(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    made = derive_series(Outcome(source), MAR, images, job=job_facts())
    assert iter(made) is made
    first = next(made)
    dataset = dcmread(BytesIO(first.content))
    assert (first.sop_instance_uid, first.series_instance_uid) == (dataset.SOPInstanceUID, dataset.SeriesInstanceUID)
    assert (first.sop_class_uid, first.transfer_syntax_uid) == (dataset.SOPClassUID, "1.2.840.10008.1.2.1")


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([(511, 511), (17, 31), (1, 1), (96, 616)]),
    st.floats(0.001, 1e6),
    st.integers(1, 3),
    st.booleans(),
)
def test_any_pet_comes_back_within_half_a_slope(
    tmp_path_factory: Any, size: tuple[int, int], peak: float, slices: int, has_empty_slice: bool
) -> None:
    values = np.random.default_rng(1).random((slices, *size)) * peak
    if has_empty_slice:
        values[0] = 0
    files = write_pet_series(tmp_path_factory.mktemp("pet"), values=values)
    source, _ = load_volume(files)
    for k, derived in enumerate(derived_datasets(files, PET_DENOISED)):
        slope = float(derived.RescaleSlope)
        off = np.abs(derived.pixel_array * slope - source.values[k])
        assert off.max() <= slope * 0.5001 + 1e-7 * peak and source.unit == Unit.BQ_PER_ML
