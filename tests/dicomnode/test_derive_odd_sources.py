"""Ordinary but odd sources, and outcomes that changed not every slice, give honest derived series."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from dicomnode.derive import derive_series
from dicomnode.load import load_volume
from inference.pipeline import Outcome
from tests.builders_dicom import card_for, ct_values, derived_datasets, job_facts, write_ct_series
from tests.validators import errors


def test_a_slice_passed_through_unchanged_says_so_and_the_others_do_not(tmp_path: Path) -> None:
    source, images = load_volume(write_ct_series(tmp_path))
    card = card_for("CT")
    outcome = Outcome(source, unchanged=frozenset({1}))
    made = [dcmread(BytesIO(one.content)) for one in derive_series(outcome, card, images, job=job_facts())]
    told = ["unchanged" in one.ImageComments and "unchanged" in one.DerivationDescription for one in made]
    assert told == [False, True, False, False]


def test_voxels_below_what_air_can_be_are_kept_where_the_source_has_them(tmp_path: Path) -> None:
    values = ct_values(4, 64, 64)
    values[1, 5, 5] = -1500
    made = derived_datasets(write_ct_series(tmp_path, values=values, intercept=-2048.0), card_for("CT"))
    assert min(int(one.pixel_array.min()) for one in made) == -1500


def test_a_big_endian_source_gives_a_derived_series(tmp_path: Path) -> None:
    made = derived_datasets(write_ct_series(tmp_path, transfer_syntax_uid=ExplicitVRBigEndian), card_for("CT"))
    assert [one.Rows for one in made] == [64] * 4
    assert all(errors_in(one, tmp_path) == [] for one in made)


def errors_in(dataset: Dataset, folder: Path) -> list[str]:
    path = folder / "derived.dcm"
    dataset.save_as(path)
    return errors(path)
