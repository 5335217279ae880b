"""What enters is one stack of images that may be processed, or is refused with a stable reason code."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid

from dicomnode.errors import SeriesUnusable
from dicomnode.input_gate import Allowed, fit_images
from dicomnode.load import load_volume
from dicomnode.reasons import REASONS
from dicomnode.source_image import SourceImage, read_source_image
from dicomnode.stacks import planned_stacks
from dicomnode.uids import MANUFACTURER, MODEL_NAME
from tests.builders_dicom import (
    card_for,
    code,
    derived_datasets,
    with_bytes,
    write_ct_series,
    write_instance,
    write_mr_series,
    write_pet_series,
)

Writer = Callable[..., list[Path]]
SECONDARY_CAPTURE, DOSE_SR = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.67"


def refusal_of(files: list[Path]) -> str:
    with pytest.raises(SeriesUnusable) as refusal:
        load_volume(files)
    message = str(refusal.value)
    assert re.fullmatch("[a-z]+(-[a-z]+)*", refusal.value.reason_code)
    assert len(message.split()) > 6, "the message must say what to do"
    assert "Phantom" not in message and "PHANTOM-1" not in message and "19500101" not in message
    return refusal.value.reason_code


def images_of(files: list[Path]) -> list[SourceImage]:
    return [read_source_image(path) for path in files]


def only_slice(which: int, **attributes: Any) -> Callable[[int, Dataset], None]:
    def spoil(k: int, dataset: Dataset) -> None:
        for keyword, value in attributes.items():
            if k == which and value is None:
                delattr(dataset, keyword)
            elif k == which:
                setattr(dataset, keyword, value)

    return spoil


REFUSED_EVERYWHERE: list[tuple[str, Writer, dict[str, Any]]] = [
    ("missing-uid", write_ct_series, {"StudyInstanceUID": ""}),
    ("missing-uid", write_ct_series, {"SOPClassUID": ""}),
    ("missing-uid", write_ct_series, {"SOPInstanceUID": ""}),
    ("missing-uid", write_ct_series, {"FrameOfReferenceUID": None}),
    ("uid-invalid", write_ct_series, {"StudyInstanceUID": "1." + "2" * 63}),
    ("uid-invalid", write_ct_series, {"FrameOfReferenceUID": "1.2.x"}),
    ("uid-invalid", write_mr_series, {"SeriesInstanceUID": ["1.2", "1.3"]}),
    ("patient-id-missing", write_ct_series, {"PatientID": None}),
    ("no-positions", write_ct_series, {"ImagePositionPatient": None}),
    ("no-positions", write_mr_series, {"ImageOrientationPatient": None}),
    ("pixel-spacing-missing", write_ct_series, {"PixelSpacing": None}),
    ("pixel-spacing-missing", write_ct_series, {"PixelSpacing": ["0", "1"]}),
    ("no-images", write_ct_series, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
    ("no-images", write_ct_series, {"SOPClassUID": SECONDARY_CAPTURE}),
    ("modality-contradicts", write_ct_series, {"Modality": "MR"}),
    ("not-grey", write_ct_series, {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}),
    ("not-grey", write_ct_series, {"PhotometricInterpretation": "PALETTE COLOR"}),
    ("not-grey", write_pet_series, {"PhotometricInterpretation": "MONOCHROME1"}),
    ("bits-allocated", write_mr_series, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}),
    ("bits-allocated", write_mr_series, {"BitsAllocated": 32}),
    ("pixel-layout", write_ct_series, {"HighBit": 15}),
    ("pixel-layout", write_ct_series, {"Rows": [64, 64]}),
    ("pixel-layout", write_ct_series, {"BitsStored": [12, 12]}),
    ("pixel-layout", write_ct_series, {"Rows": None}),
    ("pixel-layout", write_ct_series, {"PixelRepresentation": None}),
    ("temporal-incomplete", write_pet_series, {"SeriesType": ["DYNAMIC", "IMAGE"], "NumberOfTimeSlices": 3}),
    ("temporal-incomplete", write_pet_series, {"SeriesType": ["GATED", "IMAGE"], "NumberOfTimeSlots": 2}),
    ("not-magnitude", write_mr_series, {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}),
    ("calculated-map", write_mr_series, {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}),
    ("diffusion", write_mr_series, {"DiffusionBValue": 800.0}),
    ("multi-frame", write_ct_series, {"NumberOfFrames": 4}),
    ("multi-frame-groups", write_ct_series, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}),
    ("multi-frame-groups", write_mr_series, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1"}),
    ("multi-frame", write_mr_series, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.3"}),
    ("lossy", write_ct_series, {"LossyImageCompression": "01", "LossyImageCompressionRatio": "9"}),
    ("quality-control-image", write_ct_series, {"QualityControlImage": "YES"}),
    ("quality-control-image", write_ct_series, {"QualityControlImage": "yes"}),
    ("no-images", write_ct_series, {"ImageType": ["ORIGINAL", "PRIMARY", "Localizer"]}),
    ("not-emission", write_pet_series, {"CountsSource": "TRANSMISSION"}),
    ("modality-lut", write_pet_series, {"ModalityLUTSequence": [code("1", "2", "3")]}),
    ("series-time-missing", write_pet_series, {"SeriesTime": ""}),
    ("corrections-contradict", write_pet_series, {"DecayCorrection": "NONE"}),
    ("modality-lut", write_mr_series, {"ModalityLUTSequence": [code("1", "2", "3")]}),
    ("own-output", write_ct_series, {"ManufacturerModelName": MODEL_NAME}),
    ("own-output", write_ct_series, {"DerivationCodeSequence": [code("MAR", "99DCMNODE", "x")]}),
]


@pytest.mark.parametrize(("reason_code", "write", "changes"), REFUSED_EVERYWHERE)
def test_a_series_is_refused_with_its_reason(
    tmp_path: Path, reason_code: str, write: Writer, changes: dict[str, Any]
) -> None:
    assert refusal_of(write(tmp_path, **changes)) == reason_code


MIXED: list[tuple[str, Writer, dict[str, Any]]] = [
    ("mixed-study", write_ct_series, {"StudyInstanceUID": "1.2.3"}),
    ("mixed-series", write_ct_series, {"SeriesInstanceUID": "1.2.3"}),
    ("mixed-patient", write_ct_series, {"PatientID": "PHANTOM-2"}),
    ("mixed-frame-of-reference", write_ct_series, {"FrameOfReferenceUID": "1.2.3"}),
    ("mixed-orientation", write_ct_series, {"ImageOrientationPatient": ["1", "0", "0", "0", "0.99", "0.14"]}),
    ("mixed-spacing", write_ct_series, {"PixelSpacing": ["1.0", "1.1"]}),
    ("mixed-size", write_ct_series, {"Rows": 32}),
    ("mixed-kernel", write_ct_series, {"ConvolutionKernel": "B70f"}),
    ("mixed-image-type", write_ct_series, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}),
    ("mixed-units", write_pet_series, {"Units": "GML"}),
    ("mixed-corrections", write_pet_series, {"CorrectedImage": ["DECY", "ATTN"]}),
    ("mixed-series-time", write_pet_series, {"SeriesTime": "102001"}),
    ("mixed-echo", write_mr_series, {"EchoTime": "80"}),
    ("mixed-time", write_mr_series, {"TemporalPositionIdentifier": "2"}),
    ("mixed-photometric", write_mr_series, {"PhotometricInterpretation": "MONOCHROME1"}),
    ("quality-control-image", write_ct_series, {"QualityControlImage": "YES"}),
    ("multi-frame", write_ct_series, {"NumberOfFrames": 2}),
    ("lossy", write_ct_series, {"LossyImageCompression": "01"}),
    ("same-position", write_ct_series, {"ImagePositionPatient": ["-32", "-32", "100"]}),
]


@pytest.mark.parametrize(("reason_code", "write", "changes"), MIXED)
def test_i4_one_image_that_does_not_belong_refuses_the_series(
    tmp_path: Path, reason_code: str, write: Writer, changes: dict[str, Any]
) -> None:
    assert refusal_of(write(tmp_path, each=only_slice(2, **changes))) == reason_code


def test_i2_a_localizer_inside_a_series_is_left_out(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, slices=5, each=only_slice(4, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    volume, images = load_volume(files)
    assert volume.values.shape[0] == len(images) == 4


def test_i3_a_dose_report_is_left_out_and_a_stack_partly_without_place_is_refused(tmp_path: Path) -> None:
    def report(k: int, dataset: Dataset) -> None:
        if k == 5:
            dataset.SOPClassUID = DOSE_SR
            del dataset.PixelData

    def lose(k: int, dataset: Dataset) -> None:
        if k >= 4:
            del dataset.ImagePositionPatient

    assert len(load_volume(write_ct_series(tmp_path / "report", slices=6, each=report))[1]) == 5
    assert refusal_of(write_ct_series(tmp_path / "lost", slices=6, each=lose)) == "positions-missing"


@pytest.mark.parametrize(
    "keyword", ["PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"]
)
def test_a_second_patient_within_a_series_is_refused_whatever_tells_them_apart(tmp_path: Path, keyword: str) -> None:
    values = {"PatientBirthDate": "19600101", "PatientSex": "M"}
    change = {keyword: values.get(keyword, "ANOTHER")}
    assert refusal_of(write_ct_series(tmp_path, slices=4, each=only_slice(3, **change))) == "mixed-patient"


def test_a_weight_or_dose_that_varies_within_a_pet_is_refused_for_suv_would_be_wrong(tmp_path: Path) -> None:
    assert refusal_of(write_pet_series(tmp_path / "weight", each=only_slice(2, PatientWeight="90"))) == "mixed-weight"

    def other_dose(k: int, dataset: Dataset) -> None:
        if k == 2:
            dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = "1000000"

    assert refusal_of(write_pet_series(tmp_path / "dose", each=other_dose)) == "mixed-dose"


def test_i1_the_same_instance_twice_counts_once_and_other_content_under_its_uid_is_refused(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path)
    twin = tmp_path / "twin.dcm"
    twin.write_bytes(files[0].read_bytes())
    assert len(load_volume([*files, twin])[1]) == 4
    twin.write_bytes(files[0].read_bytes()[:-2] + b"\x07\x01")
    assert refusal_of([*files, twin]) == "instance-conflict"


def test_i12_a_lossy_source_is_taken_when_the_admin_allows_it(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, LossyImageCompression="01", LossyImageCompressionRatio="8")
    assert load_volume(files, accept_lossy=True)[0].values.shape[0] == 4


def test_i13_what_we_derived_is_never_processed_again(tmp_path: Path) -> None:
    paths = []
    for k, dataset in enumerate(derived_datasets(write_ct_series(tmp_path / "ct"), card_for("CT"))):
        paths.append(tmp_path / f"{k}.dcm")
        dataset.save_as(paths[-1])
    assert refusal_of(paths) == "own-output"


def test_i13_what_another_wrote_over_our_result_is_known_by_its_contributing_equipment(tmp_path: Path) -> None:
    ours = Dataset()
    ours.Manufacturer = MANUFACTURER
    assert refusal_of(write_ct_series(tmp_path, ContributingEquipmentSequence=[ours])) == "own-output"


def test_i13_a_multi_frame_object_that_another_made_of_ours_is_known_by_its_frames_derivation(tmp_path: Path) -> None:
    group = Dataset()
    group.DerivationCodeSequence = [code("MAR", "99DCMNODE", "x")]
    assert refusal_of(write_ct_series(tmp_path, DerivationImageSequence=[group])) == "own-output"


def test_i13_a_chain_takes_what_a_node_derived(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, ManufacturerModelName=MODEL_NAME)
    images, left_out = fit_images(images_of(files), allowed=Allowed(accept_own=True))
    assert len(images) == 4 and left_out == ()


def test_i1_frames_of_one_instance_are_images_apart_and_the_instance_twice_counts_once(tmp_path: Path) -> None:
    (path,) = write_ct_series(tmp_path, slices=1)
    twin = tmp_path / "twin.dcm"
    twin.write_bytes(path.read_bytes())
    frames = [replace(image, frame=frame) for image in images_of([path, twin]) for frame in (1, 2, 3)]
    images, _ = fit_images(frames, allowed=Allowed())
    assert [image.frame for image in images] == [1, 2, 3]
    with pytest.raises(SeriesUnusable, match="as one image and as several frames"):
        fit_images([*frames, *images_of([path])], allowed=Allowed())


def test_i14_a_quality_control_image_holds_the_whole_series_even_beside_others(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, each=only_slice(3, QualityControlImage="YES"))
    with pytest.raises(SeriesUnusable, match="quality control") as refusal:
        fit_images(images_of(files), allowed=Allowed(split_mixed=True, split_uneven=True))
    assert refusal.value.reason_code == "quality-control-image"


def test_i11_a_monochrome1_ct_is_taken(tmp_path: Path) -> None:
    assert load_volume(write_ct_series(tmp_path, PhotometricInterpretation="MONOCHROME1"))[0].values.shape[0] == 4


def test_i14_pixel_data_of_another_length_than_the_header_says_is_refused(tmp_path: Path) -> None:
    def cut(k: int, dataset: Dataset) -> None:
        if k == 1:
            dataset.PixelData = dataset.PixelData[:-2]

    assert refusal_of(write_ct_series(tmp_path, each=cut)) == "pixel-data-length"


def test_every_code_that_this_gate_gives_has_its_advice_in_the_table() -> None:
    assert {code for code, _, _ in [*REFUSED_EVERYWHERE, *MIXED]} <= set(REASONS)


def test_an_empty_patient_id_and_several_kernels_are_no_reason_to_refuse(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, PatientID="", PatientName="", ConvolutionKernel=["Br38f", "3"])
    volume, _ = load_volume(files)
    assert volume.acquisition.convolution_kernel == "Br38f\\3"


def test_i9_a_slope_that_varies_is_taken(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        dataset.RescaleIntercept = -1024 + k

    volume, _ = load_volume(write_ct_series(tmp_path, each=spoil))
    assert [float(volume.values[k, 0, 0]) for k in range(4)] == [-1000.0 + k for k in range(4)]


def encoded_as(syntax: str, files: list[Path]) -> list[Path]:
    """The files, as if their pixels had come in another transfer syntax: headers only are asked."""
    for path in files:
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        if UID(syntax).is_encapsulated:
            dataset.PixelData = encapsulate([dataset.PixelData])
            dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    return files


@pytest.mark.parametrize(
    ("syntax", "said", "code"),
    [
        ("1.2.840.10008.1.2.4.51", None, "lossy-unsaid"),
        ("1.2.840.10008.1.2.4.51", "00", "lossy-unsaid"),
        ("1.2.840.10008.1.2.4.81", None, "lossy-unsaid"),
        ("1.2.840.10008.1.2.4.91", None, "lossy-unsaid"),
        ("1.2.840.10008.1.2.4.91", "01", "lossy"),
        ("1.2.840.10008.1.2.4.91", "00", ""),
        ("1.2.840.10008.1.2.4.90", None, ""),
    ],
)
def test_i12_what_came_in_a_lossy_transfer_syntax_must_say_so(
    tmp_path: Path, syntax: str, said: str | None, code: str
) -> None:
    files = encoded_as(syntax, write_ct_series(tmp_path, LossyImageCompression=said))
    try:
        planned_stacks(files, allowed=Allowed())
        found = ""
    except SeriesUnusable as fault:
        found = fault.reason_code
    assert found == code


def test_i12_a_lossy_source_that_does_not_say_how_lossy_is_refused_even_then(tmp_path: Path) -> None:
    with pytest.raises(SeriesUnusable, match="ratio"):
        load_volume(write_ct_series(tmp_path, LossyImageCompression="01"), accept_lossy=True)


@pytest.mark.parametrize("write", [write_ct_series, write_pet_series, write_mr_series])
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_rescale_that_is_no_number_is_refused_and_never_taken_for_one_or_nought(
    tmp_path: Path, write: Writer, keyword: str
) -> None:
    files = write(tmp_path, **{keyword: "7654321"})
    for path in files:
        with_bytes(path, b"7654321", b"seven 1")
    assert refusal_of(files) in ("rescale-missing", "unreadable")


def test_an_empty_series_is_refused() -> None:
    with pytest.raises(SeriesUnusable, match="no CT, PET or MR"):
        fit_images([], allowed=Allowed())


def test_a_report_that_stands_alone_is_refused(tmp_path: Path) -> None:
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = DOSE_SR, generate_uid(), "SR"
    path = tmp_path / "report.dcm"
    write_instance(path, report)
    assert refusal_of([path]) == "no-images"


@pytest.mark.parametrize("tag", [0x0018A001, 0x00089215, 0x00089124], ids=lambda tag: f"{tag:08x}")
def test_a_text_where_a_sequence_belongs_is_a_refusal_and_no_failure(tmp_path: Path, tag: int) -> None:
    files = write_ct_series(tmp_path, each=lambda k, dataset: dataset.add_new(tag, "LO", "x"))
    assert refusal_of(files) == "unreadable"
