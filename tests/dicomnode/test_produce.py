"""Every stack becomes a series of its own, time frames stay one, and what stands beside is kept with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydicom import dcmread

from dicomnode.derived_instance import DerivedInstance
from dicomnode.errors import SeriesUnusable
from dicomnode.produce import Produced, produce, with_parameters
from inference.pipeline import build_pipeline
from storage.errors import StorageFull
from storage.job_states import State
from storage.jobs import Job
from tests.builders_dicom import card_for, ct_values, job_facts, write_ct_series
from tests.builders_enhanced import write_enhanced
from tests.builders_stacks import by_slice, write_dynamic_pet

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def job(**handling: Any) -> Job:
    return Job(
        1, "k", "1.2", "1.1", 1, "rule", "p", "1", {}, handling, "", 1, State.RUNNING, 1, 0, 0, 0, "w", None, None, "",
        "", NOW, NOW, None, "", None, (), ("rule",),
    )  # fmt: skip


class Shelf:
    """What was kept; of two that are kept at once either can be the first."""

    def __init__(self) -> None:
        self.made: list[DerivedInstance] = []

    def keep(self, instance: DerivedInstance) -> str:
        self.made.append(instance)
        return hashlib.sha256(instance.content).hexdigest()


def produced(
    files: Sequence[Path], pipeline: str = "ct_denoising", settings: Mapping[str, Any] | None = None, **handling: Any
) -> tuple[Produced, Shelf]:
    shelf, built = Shelf(), build_pipeline(pipeline, settings or {})
    facts = with_parameters(job_facts(), built.card)
    return produce(job(**handling), built, files, facts=facts, accept_lossy=False, keep=shelf.keep), shelf


def test_one_stack_is_one_series_and_every_instance_is_kept_before_it_is_named(tmp_path: Path) -> None:
    made, shelf = produced(write_ct_series(tmp_path, slices=3))
    (product,) = made.products
    kept = {one.sop_instance_uid: hashlib.sha256(one.content).hexdigest() for one in shelf.made}
    assert {one.sop_instance_uid: one.sha256 for one in product.images} == kept and len(kept) == 3
    assert product.images[0].header["Modality"] == "CT" and product.beside == ()
    assert set(product.pixels) == {one.sop_instance_uid for one in shelf.made}
    assert made.refused == ()


def test_instances_are_named_in_their_order_though_a_later_one_was_kept_before(tmp_path: Path) -> None:
    later, built = Event(), build_pipeline("ct_denoising", {})

    def keep(instance: DerivedInstance) -> str:
        if dcmread(BytesIO(instance.content)).InstanceNumber == 1:
            assert later.wait(60)
        else:
            later.set()
        return instance.sop_instance_uid

    files, facts = write_ct_series(tmp_path, slices=12), with_parameters(job_facts(), built.card)
    (product,) = produce(job(), built, files, facts=facts, accept_lossy=False, keep=keep).products
    assert [one.header["InstanceNumber"] for one in product.images] == list(range(1, 13))
    assert [one.sha256 for one in product.images] == [one.sop_instance_uid for one in product.images]


@pytest.mark.parametrize("number", [1, 12])
def test_what_cannot_be_kept_fails_the_whole_however_late_it_is_known(tmp_path: Path, number: int) -> None:
    built = build_pipeline("ct_denoising", {})

    def keep(instance: DerivedInstance) -> str:
        if dcmread(BytesIO(instance.content)).InstanceNumber == number:
            raise StorageFull("the disk is full")
        return ""

    files, facts = write_ct_series(tmp_path, slices=12), with_parameters(job_facts(), built.card)
    with pytest.raises(StorageFull):
        produce(job(), built, files, facts=facts, accept_lossy=False, keep=keep)


def test_a_split_series_gives_a_series_for_each_stack_and_says_which_is_which(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, slices=8, each=by_slice(of=4, ConvolutionKernel=["B30f", "B70f"]))
    made, _ = produced(files, split_mixed=True)
    assert len({product.series_instance_uid for product in made.products}) == 2
    assert [len(product.images) for product in made.products] == [4, 4]
    for kernel, product in zip(("B30f", "B70f"), made.products, strict=True):
        assert any(kernel in note for note in product.notes)


def test_a_mixed_series_is_refused_where_the_rule_does_not_split_it(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, slices=8, each=by_slice(of=4, ConvolutionKernel=["B30f", "B70f"]))
    with pytest.raises(SeriesUnusable, match="ConvolutionKernel varies"):
        produced(files)


def test_when_every_stack_is_refused_so_is_the_job_and_nothing_is_kept(tmp_path: Path) -> None:
    values = ct_values(8, 64, 64) * 0 - 1000
    files = write_ct_series(tmp_path, values=values, each=by_slice(of=4, ConvolutionKernel=["B30f", "B70f"]))
    shelf, built = Shelf(), build_pipeline("ct_denoising", {})
    with pytest.raises(Exception, match="no slice holds a body"):
        produce(
            job(split_mixed=True), built, files, facts=job_facts(parameters_sha256="x"), accept_lossy=False,
            keep=shelf.keep,
        )  # fmt: skip
    assert shelf.made == []


def test_the_time_frames_of_a_dynamic_pet_stay_one_series(tmp_path: Path) -> None:
    made, shelf = produced(write_dynamic_pet(tmp_path, frames=3, slices=4), "pet_denoising")
    (product,) = made.products
    assert len(product.images) == 12
    assert sorted(int(dcmread(BytesIO(one.content)).ImageIndex) for one in shelf.made) == list(range(1, 13))
    assert [one.header["ImageIndex"] for one in product.images] == list(range(1, 13))
    assert {name.rsplit("_", 1)[1] for name in product.measurements} == {"1", "2", "3"}


def test_a_multi_frame_image_becomes_single_images_with_a_reference_to_their_frame(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "enhanced.dcm", "CT")
    made, shelf = produced([path])
    (product,) = made.products
    frames = [dcmread(BytesIO(one.content)).SourceImageSequence[0].ReferencedFrameNumber for one in shelf.made]
    assert sorted(int(frame) for frame in frames) == list(range(1, len(product.images) + 1))


def test_what_stands_beside_is_kept_and_what_does_not_apply_is_said(tmp_path: Path) -> None:
    made, shelf = produced(write_ct_series(tmp_path, slices=2), also=["text_report", "segmentation"])
    (product,) = made.products
    assert [one.header["Modality"] for one in product.beside] == ["SR"]
    assert len(shelf.made) == 3
    assert any(note.startswith("no segmentation") for note in product.notes)


def test_everything_that_shapes_the_bytes_changes_the_parameters() -> None:
    card = build_pipeline("ct_denoising", {}).card
    facts = job_facts()
    other = [
        replace(facts, content_qualification="PRODUCT"),
        replace(facts, station_name="A"),
        replace(facts, udi="(01)1"),
        replace(facts, ct_pixels="unsigned-12"),
        replace(facts, declared_character_set="ISO_IR 100"),
        replace(facts, equipment_purpose=("Newcode1", "99IHE", "Processing Algorithm")),
        replace(facts, created_at=NOW),
    ]
    hashes = {with_parameters(one, card).parameters_sha256 for one in (facts, *other)}
    assert len(hashes) == len(other) + 1


def test_what_is_read_beside_the_source_makes_another_series_and_nothing_read_changes_none() -> None:
    card, plain = card_for("PT"), job_facts()
    read = replace(plain, inputs=(("ct", "1.2", "1.2.3", "a" * 64),))
    other = replace(plain, inputs=(("ct", "1.2", "1.2.3", "b" * 64),))
    shas = {with_parameters(facts, card).parameters_sha256 for facts in (plain, read, other)}
    assert len(shas) == 3
