"""Every image of a series is in exactly one stack or named as left out, whatever the series holds."""

import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicomnode.errors import SeriesUnusable
from dicomnode.load import load_stack
from dicomnode.stacks import Allowed, StackPlan, planned_stacks
from inference.volume import Unit
from tests.builders_dicom import write_ct_series, write_instance, write_mr_series, write_pet_series
from tests.builders_enhanced import write_enhanced
from tests.builders_stacks import at_heights, by_slice, turned, write_ct_at

MIXED = Allowed(split_mixed=True)
UNEVEN = Allowed(split_uneven=True)
SLICEWISE = Allowed(slicewise=True)
SMALL = {"rows": 8, "columns": 8}


def refusal_of(files: list[Path], allowed: Allowed) -> str:
    with pytest.raises(SeriesUnusable) as refusal:
        planned_stacks(files, allowed=allowed)
    return refusal.value.reason_code


def uids(plan: StackPlan) -> list[str]:
    return [image.sop_instance_uid for image in plan.images]


def test_a_regular_series_is_one_stack_and_nothing_is_said_of_it(tmp_path: Path) -> None:
    (plan,) = planned_stacks(write_ct_series(tmp_path, **SMALL), allowed=Allowed())
    assert (plan.group, plan.frame, plan.apart, plan.left_out) == (0, 0, "", ())
    assert plan.unit == Unit.HU and plan.geometry.is_even
    assert [image.position_mm for image in plan.images] == [100.0, 103.0, 106.0, 109.0]


def test_i4_two_echoes_at_the_same_places_are_two_stacks_where_splitting_is_allowed(tmp_path: Path) -> None:
    each = at_heights([0, 3, 6] * 2, then=by_slice(of=3, EchoTime=["12", "80"]))
    files = write_mr_series(tmp_path, slices=6, each=each, **SMALL)
    assert refusal_of(files, Allowed()) == "mixed-echo"
    plans = planned_stacks(files, allowed=MIXED)
    assert [(plan.group, plan.apart) for plan in plans] == [(0, "EchoTime 12"), (1, "EchoTime 80")]
    first, second = (load_stack(plan)[0] for plan in plans)
    assert np.allclose(first.geometry.affine, second.geometry.affine) and not (first.values == second.values).all()


def test_i4_temporal_positions_of_an_mr_are_series_of_their_own(tmp_path: Path) -> None:
    each = at_heights([0, 3, 6] * 2, then=by_slice(of=3, TemporalPositionIdentifier=["1", "2"]))
    plans = planned_stacks(write_mr_series(tmp_path, slices=6, each=each, **SMALL), allowed=MIXED)
    assert [(plan.group, plan.frame) for plan in plans] == [(0, 0), (1, 0)]


def test_i4_two_orientations_are_two_stacks_each_with_its_own_geometry(tmp_path: Path) -> None:
    def turn(k: int, dataset: Dataset) -> None:
        if k >= 3:
            dataset.ImageOrientationPatient = ["0", "1", "0", "0", "0", "-1"]
            dataset.ImagePositionPatient = [str(-3 * k), "0", "0"]

    plans = planned_stacks(write_mr_series(tmp_path, slices=6, each=turn, **SMALL), allowed=MIXED)
    assert [len(plan.images) for plan in plans] == [3, 3]
    assert plans[1].geometry.affine[:3, 0] == pytest.approx([-3, 0, 0])
    assert plans[1].apart == "ImageOrientationPatient 0\\1\\0\\0\\0\\-1"


def test_i4_images_with_the_same_place_are_split_by_what_the_image_type_says_last(tmp_path: Path) -> None:
    kinds = [["ORIGINAL", "PRIMARY", "M", "ND"], ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]]
    each = at_heights([0, 3] * 2, then=by_slice(of=2, ImageType=kinds))
    files = write_mr_series(tmp_path, slices=4, each=each, **SMALL)
    assert refusal_of(files, Allowed()) == "same-position"
    assert len(planned_stacks(files, allowed=MIXED)) == 2


def test_i5_a_reconstruction_sent_twice_is_refused_even_where_splitting_is_allowed(tmp_path: Path) -> None:
    files = write_ct_at(tmp_path, [0, 3, 6, 0, 3, 6])
    assert refusal_of(files, Allowed(split_mixed=True, split_uneven=True, slicewise=True)) == "same-position"


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID", "AccessionNumber"])
def test_i4_a_second_patient_or_study_is_refused_whatever_is_allowed(tmp_path: Path, keyword: str) -> None:
    each = by_slice(of=2, **{keyword: ["1.2.3", "1.2.4"]})
    files = write_ct_series(tmp_path, each=each, **SMALL)
    everything = Allowed(accept_lossy=True, slicewise=True, split_mixed=True, split_uneven=True, accept_own=True)
    assert refusal_of(files, everything) in ("mixed-patient", "mixed-study")


def test_m3_phase_images_are_left_out_by_name_where_splitting_is_allowed_and_refused_elsewhere(tmp_path: Path) -> None:
    kinds = [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]
    files = write_mr_series(
        tmp_path, slices=4, each=at_heights([0, 3] * 2, then=by_slice(of=2, ImageType=kinds)), **SMALL
    )
    assert refusal_of(files, Allowed()) == "not-magnitude"
    (plan,) = planned_stacks(files, allowed=MIXED)
    assert len(plan.images) == 2 and "2 images that no pipeline takes" in plan.left_out[0]


def test_m3_a_series_of_phase_images_alone_is_refused(tmp_path: Path) -> None:
    files = write_mr_series(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "P"], **SMALL)
    assert refusal_of(files, MIXED) == "not-magnitude"


def test_m3_the_weighted_images_of_a_diffusion_series_are_left_out_by_name(tmp_path: Path) -> None:
    each = at_heights([0, 3] * 2, then=by_slice(of=2, DiffusionBValue=[0.0, 800.0]))
    files = write_mr_series(tmp_path, slices=4, each=each, **SMALL)
    assert refusal_of(files, Allowed()) == "diffusion"
    (plan,) = planned_stacks(files, allowed=MIXED)
    assert [image.number("DiffusionBValue") for image in plan.images] == [0.0, 0.0]


def test_i2_i3_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    each = by_slice(of=1, ImageType=[["ORIGINAL", "PRIMARY", "AXIAL"]] * 3 + [["ORIGINAL", "PRIMARY", "LOCALIZER"]] * 2)
    files = write_ct_series(tmp_path, slices=5, each=each, **SMALL)
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.67", generate_uid(), "SR"
    write_instance(tmp_path / "report.dcm", report)
    (plan,) = planned_stacks([*files, tmp_path / "report.dcm"], allowed=Allowed())
    localizers, reports = plan.left_out
    assert localizers.startswith("2 localizers left out (")
    assert reports == f"1 instance that is no CT, PET or MR image left out ({report.SOPInstanceUID})"


def test_i6_a_series_with_a_gap_runs_whole_slice_by_slice_in_parts_or_not_at_all(tmp_path: Path) -> None:
    heights = [0, 3, 6, 30, 33]
    files = write_ct_at(tmp_path, heights)
    assert refusal_of(files, Allowed()) == "slices-missing"
    (whole,) = planned_stacks(files, allowed=SLICEWISE)
    volume, images = load_stack(whole)
    assert volume.geometry.corners_mm is not None and volume.geometry.corners_mm[:, 2].tolist() == [
        100 + height for height in heights
    ]
    assert "missing inside the series" in whole.left_out[0] and len(images) == 5
    low, high = planned_stacks(files, allowed=UNEVEN)
    assert (low.group, high.group) == (0, 1) and low.geometry.is_even and high.geometry.is_even
    assert (low.apart, high.apart) == ("slices from 100 to 106 mm", "slices from 130 to 133 mm")
    assert high.geometry.affine[2, 3] == 130.0 and "split into 2 evenly spaced parts" in high.left_out[0]


def test_i6_the_gap_between_lone_slices_is_never_taken_for_a_thick_slice(tmp_path: Path) -> None:
    plans = planned_stacks(write_ct_at(tmp_path, [0, 3, 6, 20, 60, 63, 66]), allowed=UNEVEN)
    assert [len(plan.images) for plan in plans] == [3, 1, 3]
    assert plans[1].geometry.spacing_mm[0] == 3.0, "a slice alone is as thick as it says"
    assert plans[1].apart == "slice at 120 mm"


def test_i6_a_lone_slice_that_does_not_say_how_thick_it_is_refuses_the_series(tmp_path: Path) -> None:
    files = write_ct_at(tmp_path, [0, 3, 6, 20], SliceThickness="")
    assert refusal_of(files, UNEVEN) == "slice-thickness-missing"


def test_i7_a_tilted_gantry_runs_slice_by_slice_and_is_refused_elsewhere(tmp_path: Path) -> None:
    files = write_ct_at(tmp_path, [0, 3, 6, 9], tilt=0.3)
    assert refusal_of(files, Allowed()) == refusal_of(files, UNEVEN) == "gantry-tilt"
    (plan,) = planned_stacks(files, allowed=SLICEWISE)
    assert plan.geometry.affine[:3, 0] == pytest.approx([0, 0, 3])
    assert plan.geometry.corners_mm is not None and plan.geometry.corners_mm[3, 1] == pytest.approx(-32 + 0.3 * 9)
    assert "16.70 degrees" in plan.left_out[0]


def test_i7_slices_that_run_along_themselves_are_no_stack(tmp_path: Path) -> None:
    assert refusal_of(write_ct_at(tmp_path, [0, 3, 6, 9], tilt=5.0), SLICEWISE) == "gantry-tilt"


@pytest.mark.parametrize(("thickness", "words"), [("5", "they overlap"), ("1.5", "they do not reach each other")])
def test_i8_overlap_and_gaps_between_slices_are_allowed_and_noted(tmp_path: Path, thickness: str, words: str) -> None:
    (plan,) = planned_stacks(write_ct_series(tmp_path, SliceThickness=thickness, **SMALL), allowed=Allowed())
    assert plan.geometry.spacing_mm[0] == 3.0
    assert plan.left_out == (f"slices of {thickness} mm lie 3 mm apart: {words}",)


def test_i9_an_intercept_slope_or_depth_that_varies_is_converted_slice_by_slice_and_noted(tmp_path: Path) -> None:
    def spoil(k: int, dataset: Dataset) -> None:
        dataset.RescaleIntercept = str(-1024 + 10 * k)
        if k == 2:
            dataset.BitsStored, dataset.HighBit = 16, 15

    (plan,) = planned_stacks(write_ct_series(tmp_path, each=spoil, **SMALL), allowed=Allowed())
    assert [sentence.split()[0] for sentence in plan.left_out] == ["RescaleIntercept", "BitsStored"]
    volume, images = load_stack(plan)
    assert [image.intercept for image in images] == [-1024, -1014, -1004, -994]
    assert [float(values[0, 0]) for values in volume.values] == [-1000, -990, -980, -970]
    assert volume.acquisition.bits_stored == 16


def test_i9_the_slopes_of_a_pet_vary_and_nothing_is_said_of_it(tmp_path: Path) -> None:
    (plan,) = planned_stacks(write_pet_series(tmp_path, **SMALL), allowed=Allowed())
    assert plan.left_out == ()


def test_i10_the_frames_of_an_enhanced_ct_are_stacked_like_images_gaps_and_all(tmp_path: Path) -> None:
    def apart(k: int, groups: dict[str, Dataset]) -> None:
        groups["PlanePositionSequence"].ImagePositionPatient = ["-32", "-30", str(100 + 3 * k + (30 if k > 2 else 0))]

    path = write_enhanced(tmp_path / "ct.dcm", "CT", slices=5, each=apart, order=[3, 1, 4, 0, 2])
    assert refusal_of([path], Allowed()) == "slices-missing"
    (whole,) = planned_stacks([path], allowed=SLICEWISE)
    assert [image.frame for image in whole.images] == [4, 2, 5, 1, 3]
    assert [[image.frame for image in plan.images] for plan in planned_stacks([path], allowed=UNEVEN)] == [
        [4, 2, 5],
        [1, 3],
    ]


def test_a_chain_runs_on_what_this_node_derived_and_nothing_else_does(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, ManufacturerModelName="dicom-ai-node", **SMALL)
    assert refusal_of(files, Allowed()) == "own-output"
    assert len(planned_stacks(files, allowed=Allowed(accept_own=True))) == 1


def left_out_count(plans: tuple[StackPlan, ...]) -> int:
    counts = [re.match(r"(\d+) .*left out \(", sentence) for sentence in plans[0].left_out]
    return sum(int(found[1]) for found in counts if found)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_image_is_in_exactly_one_stack_or_named_as_left_out_in_whatever_order_it_came(
    data: Any, tmp_path_factory: Any
) -> None:
    """Echoes, kinds, gaps and localizers thrown together: nothing is lost, nothing is there twice, order is nothing."""
    draw = data.draw
    echoes = draw(st.integers(1, 3), label="echoes")
    heights = sorted(draw(st.sets(st.integers(0, 12), min_size=1, max_size=6), label="heights"))
    localizers, phases = draw(st.integers(0, 2)), draw(st.integers(0, 1)) * len(heights)
    total = echoes * len(heights) + localizers + phases
    number_of = draw(st.permutations(range(1, total + 1)), label="instance numbers")

    def put(index: int, dataset: Dataset) -> None:
        echo, k = divmod(index, len(heights))
        dataset.EchoTime, dataset.InstanceNumber = str(10 + 20 * echo), number_of[index]
        dataset.ImagePositionPatient = ["-4", "-4", str(2.5 * heights[k])]
        if index >= total - localizers:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        elif index >= total - localizers - phases:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "P"]

    files = write_mr_series(tmp_path_factory.mktemp("any"), slices=total, each=put, rows=2, columns=2)
    allowed = Allowed(split_mixed=True, split_uneven=True, slicewise=draw(st.booleans(), label="slicewise"))
    plans = planned_stacks(files, allowed=allowed)
    placed = [uid for plan in plans for uid in uids(plan)]
    assert len(placed) == len(set(placed)) == echoes * len(heights)
    assert left_out_count(plans) == localizers + phases
    assert len({plan.apart for plan in plans}) == len(plans) == len({plan.group for plan in plans})
    for plan in plans:
        places = [image.position_mm for image in plan.images]
        assert places == sorted(set(places)) and len({image.text("EchoTime") for image in plan.images}) == 1
        corners = [image.numbers("ImagePositionPatient") for image in plan.images]
        kept = plan.geometry.corners_mm
        known = [plan.geometry.affine[:3, 3] + k * plan.geometry.affine[:3, 0] for k in range(len(corners))]
        assert np.allclose(known if kept is None else kept, corners, atol=1e-6)
    random.Random(draw(st.integers(0, 9))).shuffle(files)
    again = planned_stacks(files, allowed=allowed)
    assert [(uids(plan), plan.apart, plan.group) for plan in again] == [
        (uids(plan), plan.apart, plan.group) for plan in plans
    ]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from([1.0, 2.0, 3.0, 7.5, 40.0]), min_size=1, max_size=9),
    st.tuples(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1)),
    st.sampled_from([511, 568, 616]),
    st.sampled_from([(1.0, -1024.0), (0.5, -1000.0), (2.0, -8192.0)]),
    st.booleans(),
)
def test_any_oblique_series_with_any_gaps_matrix_slope_and_padding_is_read_slice_by_slice_in_its_place(
    tmp_path_factory: Any,
    gaps: list[float],
    angles: tuple[float, float, float],
    columns: int,
    rescale: tuple[float, float],
    padded: bool,
) -> None:
    orientation = turned(angles)
    normal = np.cross(orientation[:3], orientation[3:])
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    values = np.full((len(heights), 3, columns), 40, np.int32) + 2 * np.arange(len(heights))[:, None, None]
    slope, intercept = rescale
    if padded:
        values[:, :, [0, -1]] = int(intercept)

    def place(k: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [
            f"{value:.6f}" for value in np.array([10.0, -20.0, 300.0]) + heights[k] * normal
        ]
        if padded:
            dataset.PixelPaddingValue = 0

    files = write_ct_series(
        tmp_path_factory.mktemp("odd"),
        values=values,
        slope=slope,
        intercept=intercept,
        orientation=orientation,
        each=place,
    )
    for allowed in (SLICEWISE, UNEVEN):
        plans = planned_stacks(files, allowed=allowed)
        read = []
        for plan in plans:
            volume, images = load_stack(plan)
            assert [image.path for image in images] == [image.path for image in plan.images]
            assert (volume.values[:, 1, 5] == [values[files.index(image.path), 1, 5] for image in images]).all()
            assert (volume.outside is not None) == padded
            assert all(before.position_mm < after.position_mm for before, after in pairwise(images))
            read += [image.path for image in images]
        assert read == files
        assert len(plans) == 1 or allowed is UNEVEN
        for plan in plans:
            if plan.geometry.is_even and len(plan.images) > 2:
                assert np.ptp(np.diff([image.position_mm for image in plan.images])) < 0.1


@pytest.mark.parametrize(
    ("write", "values"),
    [
        (write_ct_series, {"AcquisitionNumber": ["1", "2", "3", "4"]}),
        (write_pet_series, {"AcquisitionNumber": ["1", "1", "2", "2"]}),
        (write_mr_series, {"TriggerTime": ["0", "100", "200", "300"]}),
        (write_ct_series, {"ImageType": [["ORIGINAL", "PRIMARY", "AXIAL", f"CT_SOM5 {k % 2}"] for k in range(4)]}),
    ],
    ids=["axial CT", "PET of two beds", "gated MR", "CT with a varying word"],
)
def test_i4_a_series_that_is_one_stack_is_never_torn_apart(
    tmp_path: Path, write: Any, values: dict[str, list[Any]]
) -> None:
    (plan,) = planned_stacks(write(tmp_path, each=by_slice(of=1, **values), **SMALL), allowed=MIXED)
    assert len(plan.images) == 4 and plan.left_out == () and plan.apart == ""


def test_i6_a_pet_that_counts_more_slices_than_are_there_runs_and_the_audit_is_told(tmp_path: Path) -> None:
    files = write_pet_series(tmp_path, slices=6, **SMALL)
    (plan,) = planned_stacks(files[:4], allowed=Allowed())
    assert plan.left_out == ("NumberOfSlices counts 6 slices and 4 are there: see whether the ends are complete",)
    assert planned_stacks(files, allowed=Allowed())[0].left_out == ()


def test_i8_a_slice_thickness_that_varies_is_told(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, each=by_slice(of=1, SliceThickness=["3", "3.0", "5", ""]), **SMALL)
    (plan,) = planned_stacks(files, allowed=Allowed())
    note = (
        "SliceThickness varies between slices (3 mm and 5 mm, and absent in some): the distance between them was used"
    )
    assert plan.left_out == (note,)
