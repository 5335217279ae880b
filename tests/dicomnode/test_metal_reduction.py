"""What says that metal artifacts were reduced already is found as a word, and nothing else is taken for it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sequence import Sequence as DicomSequence

from dicomnode.load import load_volume
from dicomnode.metal_reduction import metal_reduction_words
from dicomnode.source_image import SourceImage, read_source_image
from tests.builders_dicom import card_for, code, derived_datasets, write_ct_series

ORIGINAL = ["ORIGINAL", "PRIMARY", "AXIAL"]


def image_with(folder: Path, **attributes: Any) -> SourceImage:
    return read_source_image(write_ct_series(folder, slices=1, rows=8, columns=8, **attributes)[0])


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"ImageType": [*ORIGINAL, "MAR"]}, "ImageType MAR"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "", "MAR", "DENOISED"]}, "ImageType MAR"),
        ({"ImageType": [*ORIGINAL, "CT_SOM5 IMAR"]}, "ImageType IMAR"),
        ({"ConvolutionKernel": ["Br40f", "iMAR"]}, "ConvolutionKernel IMAR"),
        ({"ConvolutionKernel": "Hr40d_iMAR"}, "ConvolutionKernel IMAR"),
        ({"FilterType": "O-MAR"}, "FilterType O-MAR"),
        ({"SeriesDescription": "Abdomen iMAR 3.0 Br40"}, "SeriesDescription IMAR"),
        ({"SeriesDescription": "O-MAR, Pelvis"}, "SeriesDescription O-MAR"),
        ({"SeriesDescription": "HIP OMAR"}, "SeriesDescription OMAR"),
        ({"SeriesDescription": "PELVIS SEMAR VOL"}, "SeriesDescription SEMAR"),
        ({"SeriesDescription": "Smart MAR 1.25"}, "SeriesDescription SMART MAR"),
        ({"SeriesDescription": "SmartMAR"}, "SeriesDescription SMARTMAR"),
        ({"SeriesDescription": "GSI MARS 70keV"}, "SeriesDescription GSI MARS"),
        ({"SeriesDescription": "70KEV MARS"}, "SeriesDescription MARS"),
        ({"SeriesDescription": "CT HEAD W/O IMAR"}, "SeriesDescription IMAR"),
        ({"SeriesDescription": "2 MAR 40"}, "SeriesDescription MAR"),
        ({"SeriesDescription": "Head non-OMAR and O-MAR"}, "SeriesDescription O-MAR"),
        ({"SeriesDescription": "iMAR 0.6 no contrast"}, "SeriesDescription IMAR"),
        ({"SeriesDescription": "Smart MAR 12 2024"}, "SeriesDescription SMART MAR"),
        ({"SeriesDescription": "MAR 2023"}, "SeriesDescription MAR"),
        ({"SeriesDescription": "2024-03 12 MAR 2024 iMAR"}, "SeriesDescription IMAR"),
        ({"SeriesDescription": "IMARHIP"}, "SeriesDescription IMARHIP"),
        ({"SeriesDescription": "Br40 iMARneuro"}, "SeriesDescription IMARNEURO"),
        ({"SeriesDescription": "Metal Art. Red."}, "SeriesDescription METAL ART. RED"),
        ({"SeriesDescription": "Metallartefaktreduktion"}, "SeriesDescription METALLARTEFAKTREDUKTION"),
        ({"ProtocolName": "DENTAL_MAR"}, "ProtocolName MAR"),
        (
            {"DerivationDescription": "Metal artefact reduction applied"},
            "DerivationDescription METAL ARTEFACT REDUCTION",
        ),
        (
            {"DerivationDescription": "Metal artifacts reduced by interpolation"},
            "DerivationDescription METAL ARTIFACTS REDUCED",
        ),
        (
            {"DerivationCodeSequence": DicomSequence([code("1", "99MAKER", "Metal Artifact Reduction")])},
            "DerivationCodeSequence METAL ARTIFACT REDUCTION",
        ),
    ],
)
def test_each_makers_name_is_found_where_it_may_stand(tmp_path: Path, attributes: dict[str, Any], words: str) -> None:
    assert metal_reduction_words(image_with(tmp_path, **attributes)) == words


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"SeriesDescription": "BONE MARROW"},
        {"SeriesDescription": "MARCH 3.0 Br40"},
        {"SeriesDescription": "GRAMAR"},
        {"SeriesDescription": "MARKER LOCALISATION, PRIMARY, MARGIN, LAMARCK, TAMAR"},
        {"SeriesDescription": "Thorax 12 MAR 2024"},
        {"SeriesDescription": "Thorax 12-MAR-24"},
        {"SeriesDescription": "12MAR2024 Abd"},
        {"SeriesDescription": "2024-MAR-12"},
        {"SeriesDescription": "protocol of MAR 12, 2024"},
        {"SeriesDescription": "le 3 MARS 2024"},
        {"SeriesDescription": "Hip no MAR"},
        {"SeriesDescription": "Pelvis non-OMAR"},
        {"SeriesDescription": "Becken ohne iMAR"},
        {"SeriesDescription": "iMAR off"},
        {"SeriesDescription": "METAL ARTIFACTS"},
        {
            "PatientName": "MAR^IMAR",
            "PatientID": "O-MAR",
            "StudyDescription": "MAR study",
            "InstitutionName": "Del MAR",
        },
        {"ConvolutionKernel": "STANDARD", "FilterType": "HEAD FILTER"},
    ],
)
def test_words_that_only_hold_the_letters_dates_and_denials_are_no_reduction(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    assert metal_reduction_words(image_with(tmp_path, **attributes)) == ""


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=4), st.sampled_from(["MAR", "SEMAR", "OMAR"]))
def test_a_name_grown_together_with_letters_is_no_name(tmp_path_factory: Any, letters: str, name: str) -> None:
    grown = f"{name}{letters}"
    if grown != "MARS":
        image = image_with(tmp_path_factory.mktemp("grown"), SeriesDescription=f"CT {grown} X")
        assert metal_reduction_words(image) == ""


def test_one_slice_that_says_so_is_enough_for_the_series(tmp_path: Path) -> None:
    def last(k: int, dataset: Any) -> None:
        if k == 3:
            dataset.SeriesDescription = "Pelvis iMAR"

    volume, _ = load_volume(write_ct_series(tmp_path, rows=8, columns=8, each=last))
    assert volume.acquisition.metal_artifact_reduction == "SeriesDescription IMAR"


def test_what_this_nodes_own_reduction_writes_is_known_again_also_behind_a_further_step(tmp_path: Path) -> None:
    reduction = card_for("CT", token="MAR", purpose="Metal artifacts reduced", label="metal artifact reduction")
    derived = derived_datasets(write_ct_series(tmp_path / "source", rows=16, columns=16), reduction)
    path = tmp_path / "derived.dcm"
    derived[0].save_as(path)
    assert metal_reduction_words(read_source_image(path)) == "ImageType MAR"
