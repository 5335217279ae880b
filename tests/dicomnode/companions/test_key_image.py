"""Before and after: Secondary Captures and the document that points at them."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.companions.key_image import key_images, key_picture
from inference.pipeline import Outcome
from inference.volume import Unit, Volume
from tests.builders_companions import phantom_derivation, read, written
from tests.builders_dicom import card_for
from tests.validators import dcmdump_complaints, dcmftest, dsrdump, unexpected


def changed_everywhere(source: Volume) -> Outcome:
    """Each slice is changed, the later the more."""
    values = source.values.copy()
    for k in range(len(values)):
        values[k, 20:40, 10:30] += 30 * (k + 1)
    return Outcome(source.with_values(values))


def soft_tissue(source: Volume) -> Outcome:
    values = np.full_like(source.values, -1000)
    values[1, 5:20, 5:20] = 40
    return Outcome(source.with_values(values, Unit.HU))


def middle(picture: np.ndarray, panel: int, panels: int, at: tuple[float, float]) -> int:
    """The grey at a place of a panel, given as a part of its height and width; panels are 256 wide and high."""
    left = 6 + panel * (256 + 6)
    top = 2 * 18 + 6
    assert picture.shape[1] == panels * 256 + (panels + 1) * 6
    red, green, blue = picture[top + round(at[0] * 256), left + round(at[1] * 256)].tolist()
    assert red == green == blue
    return int(red)


def test_source_result_and_difference_stand_side_by_side_in_the_sources_window(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", outcome_of=changed_everywhere)
    picture = key_picture(derivation, 3)
    inside, outside = (0.45, 0.3), (0.75, 0.5)
    before, after = derivation.source.values[3], derivation.outcome.volume.values[3]
    row, column = round(0.45 * 64), round(0.3 * 64)
    assert (before[row, column], after[row, column]) == (-850, -730)
    body = (before[48, 32] + 160) / 400 * 255
    assert middle(picture, 0, 3, outside) == middle(picture, 1, 3, outside) == round(float(body))
    assert middle(picture, 2, 3, outside) == 128, "no change is the middle grey"
    assert middle(picture, 2, 3, inside) == round((120 / 400 + 0.5) * 255)


def test_up_to_three_slices_are_shown_the_one_of_the_largest_change_first(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=8, outcome_of=changed_everywhere)
    *pictures, document = (read(instance) for instance in key_images(derivation))
    assert [picture.InstanceNumber for picture in pictures] == [1, 2, 3]
    shown = [picture.SourceImageSequence[0].ReferencedSOPInstanceUID for picture in pictures]
    assert shown == [derivation.derived[k].SOPInstanceUID for k in (7, 5, 3)]
    assert document.Modality == "KO"


def test_a_picture_is_a_secondary_capture_of_rgb_without_burned_in_identity(tmp_path: Path) -> None:
    picture, document = (read(instance) for instance in key_images(phantom_derivation(tmp_path / "s")))
    assert (picture.SOPClassUID.name, picture.Modality) == ("Secondary Capture Image Storage", "OT")
    assert (picture.PhotometricInterpretation, picture.BitsStored, picture.SamplesPerPixel) == ("RGB", 8, 3)
    assert list(picture.ImageType) == ["DERIVED", "SECONDARY"]
    assert (picture.ConversionType, picture.BurnedInAnnotation) == ("WSD", "NO")
    assert list(picture.PatientOrientation) == ["L", "P"]
    assert (picture.DateOfSecondaryCapture, picture.TimeOfSecondaryCapture) == (
        document.ContentDate,
        document.ContentTime,
    )


def test_c21_a_picture_of_an_image_with_burned_in_annotation_says_so_and_another_does_not(tmp_path: Path) -> None:
    def burned_in(k: int, dataset: Dataset) -> None:
        dataset.BurnedInAnnotation = "YES" if k == 7 else "NO"

    derivation = phantom_derivation(tmp_path / "s", slices=8, outcome_of=changed_everywhere, each=burned_in)
    *pictures, _ = (read(instance) for instance in key_images(derivation))
    assert [picture.BurnedInAnnotation for picture in pictures] == ["YES", "NO", "NO"]


def test_nothing_that_names_the_patient_is_drawn(tmp_path: Path) -> None:
    one = phantom_derivation(tmp_path / "a", study_instance_uid="1.2.3", series_instance_uid="1.2.4")
    other = phantom_derivation(
        tmp_path / "b",
        study_instance_uid="1.2.5",
        series_instance_uid="1.2.6",
        PatientName="Somebody^Else",
        PatientID="OTHER",
        PatientBirthDate="19991231",
        PatientSex="F",
        AccessionNumber="B2",
        StudyDate="20200101",
        StudyDescription="other",
    )
    assert np.array_equal(key_picture(one, 1), key_picture(other, 1))


def test_the_document_points_at_the_derived_images_and_their_pictures(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=8, outcome_of=changed_everywhere)
    *pictures, document = key_images(derivation)
    (path,) = written(tmp_path / "made", document)
    text = "\n".join(dsrdump(path))
    expected = [str(derivation.derived[k].SOPInstanceUID) for k in (7, 5, 3)]
    expected += [picture.sop_instance_uid for picture in pictures]
    for uid in expected:
        assert uid in text
    assert text.count("<contains IMAGE") == len(expected)
    assert 'CONTAINER:(,,"Of Interest")' in text and "RESEARCH, not for diagnosis" in text


def test_without_a_common_unit_no_difference_is_shown_and_the_picture_says_so(tmp_path: Path) -> None:
    card = card_for("PT", to="CT")
    derivation = phantom_derivation(tmp_path / "s", "PT", outcome_of=soft_tissue, card=card)
    picture = key_picture(derivation, 1)
    assert picture.shape[1] == 2 * 256 + 3 * 6
    assert middle(picture, 1, 2, (0.4, 0.4)) == 128, "40 HU is the middle of the window 40/400"


def test_pixels_that_are_not_square_are_shown_in_the_patients_proportions(tmp_path: Path) -> None:
    square = phantom_derivation(tmp_path / "a", rows=64, columns=64)
    flat = phantom_derivation(tmp_path / "b", rows=32, columns=64, spacing_mm=(3.0, 2.0, 1.0))
    assert key_picture(square, 1).shape == key_picture(flat, 1).shape


def test_an_mr_that_is_dark_where_high_is_shown_as_its_viewer_shows_it(tmp_path: Path) -> None:
    plain = phantom_derivation(tmp_path / "a", "MR")
    inverted = phantom_derivation(tmp_path / "b", "MR", PhotometricInterpretation="MONOCHROME1")
    at = (0.5, 0.2)
    assert middle(key_picture(plain, 1), 0, 3, at) + middle(key_picture(inverted, 1), 0, 3, at) == 255


@pytest.mark.parametrize(
    ("modality", "to", "options"),
    [
        ("CT", "", {}),
        ("CT", "", {"slices": 1, "rows": 9, "columns": 7, "BodyPartExamined": "KNEE", "Laterality": "L"}),
        ("CT", "", {"orientation": (0, 1, 0, 0, 0, -1)}),
        ("PT", "", {}),
        ("MR", "", {"WindowCenter": None, "WindowWidth": None}),
        ("PT", "CT", {}),
    ],
    ids=["CT", "one tiny slice", "sagittal", "PET", "MR without a window", "synthetic CT"],
)
def test_validators_find_nothing_in_pictures_and_document(
    tmp_path: Path, modality: str, to: str, options: dict[str, object]
) -> None:
    outcome_of = soft_tissue if to else None
    card = card_for(modality, to=to)
    derivation = phantom_derivation(tmp_path / "s", modality, outcome_of=outcome_of, card=card, **options)
    for path in written(tmp_path / "made", *key_images(derivation)):
        assert unexpected(path) == [] and dcmftest(path) and dcmdump_complaints(path) == []


def test_the_same_work_gives_the_same_bytes(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    assert key_images(derivation) == key_images(derivation)
