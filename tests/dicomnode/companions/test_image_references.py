"""References from companions to source and derived images."""

from dataclasses import replace
from pathlib import Path

from dicomnode.companions.derivation import Derivation
from dicomnode.companions.image_references import evidence, instances_of, series_items, source_items
from tests.builders_companions import phantom_derivation


def of_multi_frame(derivation: Derivation) -> Derivation:
    """The same derivation as if all slices were frames of the first instance, the last frame first."""
    first, total = derivation.images[0], len(derivation.images)
    return replace(derivation, images=tuple(replace(first, frame=total - k) for k in range(total)))


def test_every_single_frame_source_is_an_instance_without_frames(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    found = instances_of(derivation.images)
    assert [uid for _, uid in found] == [image.sop_instance_uid for image in derivation.images]
    assert set(found.values()) == {()}


def test_frames_of_one_instance_are_one_reference_that_lists_them(tmp_path: Path) -> None:
    derivation = of_multi_frame(phantom_derivation(tmp_path / "s"))
    assert list(instances_of(derivation.images).values()) == [(1, 2, 3, 4)]
    items = source_items(derivation, [0, 2])
    assert [item.get("ReferencedFrameNumber") for item in items] == [None, None, [2, 4]]


def test_what_is_referenced_is_listed_under_its_series(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    items, listed = source_items(derivation, [1, 3]), series_items(derivation, [1, 3])
    assert [series.SeriesInstanceUID for series in listed] == [
        derivation.derived[0].SeriesInstanceUID,
        derivation.images[0].text("SeriesInstanceUID"),
    ]
    under_series = {item.ReferencedSOPInstanceUID for series in listed for item in series.ReferencedInstanceSequence}
    assert under_series == {item.ReferencedSOPInstanceUID for item in items}
    expected = {derivation.derived[k].SOPInstanceUID for k in (1, 3)}
    assert under_series == expected | {derivation.images[k].sop_instance_uid for k in (1, 3)}


def test_the_evidence_holds_every_source_and_every_derived_image_once(tmp_path: Path) -> None:
    derivation = phantom_derivation(tmp_path / "s")
    uids = [str(dataset.SOPInstanceUID) for dataset in evidence(derivation)]
    assert sorted(uids) == sorted(
        [image.sop_instance_uid for image in derivation.images]
        + [str(image.SOPInstanceUID) for image in derivation.derived]
    )
    assert len(evidence(of_multi_frame(derivation))) == 1 + len(derivation.derived)
