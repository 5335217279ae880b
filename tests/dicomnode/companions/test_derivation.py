"""The UIDs of the objects beside a derived series."""

from dataclasses import replace
from pathlib import Path

from tests.builders_companions import derivation_from, phantom_derivation
from tests.builders_dicom import write_ct_series


def test_every_role_has_a_series_of_its_own_beside_the_derived_one(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    uids = {derivation.series_uid(role) for role in ("image", "mask", "report")}
    assert len(uids) == 3
    assert derivation.derived[0].SeriesInstanceUID in uids, "the derived series itself is the role image"


def test_the_same_work_gives_the_same_uids_and_a_late_slice_gives_others(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "s", slices=5)
    first, again, fewer = derivation_from(files), derivation_from(files), derivation_from(files[:4])
    assert first.series_uid("mask") == again.series_uid("mask")
    assert first.instance_uid("mask") == again.instance_uid("mask")
    assert first.series_uid("mask") != fewer.series_uid("mask")


def test_a_raised_generation_gives_other_uids(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    anew = replace(derivation, job=replace(derivation.job, generation=2))
    assert derivation.series_uid("mask") != anew.series_uid("mask")


def test_the_objects_of_one_series_have_uids_of_their_own(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    assert derivation.instance_uid("mask", number=1) != derivation.instance_uid("mask", number=2)


def test_two_frames_of_one_multi_frame_instance_are_two_sources(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s", slices=2)
    one, other = derivation.images
    framed = replace(derivation, images=(replace(one, frame=1), replace(other, frame=2)))
    swapped = replace(derivation, images=(replace(one, frame=1), replace(other, frame=3)))
    assert framed.series_uid("mask") != swapped.series_uid("mask")
