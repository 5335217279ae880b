"""What pixels can be asked without the pipeline that made them."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import FileDataset, dcmread

from dicomnode.source_image import read_source_image
from dicomnode.verify.pixels import PixelAnswers, difference, pixel_answers, range_answers
from tests.builders_dicom import card_for, derived_datasets, write_ct_series, write_mr_series, write_pet_series
from tests.builders_faults import good_image


def good(kind: str) -> FileDataset:
    return dcmread(BytesIO(good_image(kind).content))


def broken(answers: PixelAnswers) -> list[str]:
    return [finding.rule for finding in answers.findings if not finding.holds]


def test_pixels_that_cannot_be_read_miss_the_rule_of_their_kind() -> None:
    for kind, rule in (("CT", "T1"), ("PT", "P3"), ("MR", "M2")):
        dataset = good(kind)
        assert not broken(pixel_answers(dataset, None))
        dataset.PixelData = b""
        assert broken(pixel_answers(dataset, None)) == [rule]


def test_beside_its_source_a_ct_is_asked_for_padding_and_reach(tmp_path: Path) -> None:
    values = np.full((2, 16, 16), 40)
    values[:, :4] = values[:, -4:] = -3024
    files = write_ct_series(tmp_path, values=values)
    dataset = derived_datasets(files, card_for("CT"))[0]
    answers = pixel_answers(dataset, read_source_image(files[0]))
    assert not broken(answers) and {one.rule for one in answers.findings} >= {"T1", "T4"}
    assert answers.reach == answers.source_reach == (40.0, 40.0)
    alone = pixel_answers(dataset, None)
    assert "T4" in alone.not_asked and not alone.is_sourced


def test_t5_a_range_that_the_source_has_too_is_no_fault_and_without_it_nothing_is_said() -> None:
    low = PixelAnswers([], reach=(-2000.0, 10.0), source_reach=(-1000.0, 10.0))
    wide = PixelAnswers([], reach=(-1000.0, 10.0), source_reach=(-2000.0, 10.0))
    holds = {uid: finding and finding.holds for uid, finding in range_answers([("1", low), ("2", wide)])}
    assert holds == {"1": True, "2": True}
    ((_, alone),) = range_answers([("1", low)])
    assert alone is not None and not alone.holds
    ((_, unknown),) = range_answers([("1", PixelAnswers([], reach=(-2000.0, 10.0), is_sourced=False))])
    assert unknown is None


@pytest.mark.parametrize("write", [write_ct_series, write_pet_series, write_mr_series])
def test_what_storing_cannot_explain_is_a_change(tmp_path: Path, write: Callable[..., list[Path]]) -> None:
    files = write(tmp_path)
    source = read_source_image(files[1])
    dataset = derived_datasets(files, card_for(source.text("Modality")))[1]
    assert difference(dataset, source).is_said_by(0.0) and pixel_answers(dataset, source).is_unchanged
    stored = dataset.pixel_array.copy()
    stored[10, 10] += 2
    dataset.PixelData = stored.tobytes()
    found = difference(dataset, source)
    assert not found.is_said_by(0.0) and pixel_answers(dataset, source).is_unchanged is False
    assert found.is_said_by(found.change)


def test_a_value_that_was_cut_may_have_been_more_and_never_less(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, values=np.full((1, 8, 8), 3071))
    (dataset,) = derived_datasets(files, card_for("CT"), ct_pixels="unsigned-12")
    found = difference(dataset, read_source_image(files[0]))
    assert found.is_highest.all() and not found.is_lowest.any()
    assert found.is_said_by(0.0) and found.is_said_by(500.0) and not found.is_said_by(-2.0)
