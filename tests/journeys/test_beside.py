"""What stands beside a derived series reaches the PACS too, all of it valid, and a site can verify it offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomnode.phantoms import write_metal_ct
from tests.builders_dicom import write_ct_series, write_mr_series, write_pet_series
from tests.peers import Orthanc, RunningNode, storescu
from tests.validators import dcentvfy, dcmftest, errors

pytestmark = pytest.mark.peer

CHAIN = """
[[rules]]
name = "metal"
when = 'Modality == "CT"'
run = "ct_metal_artifact_reduction"
send_to = ["pacs"]
[[rules]]
name = "then quieter"
after = "metal"
when = '"MAR" in ImageType'
run = "ct_denoising"
send_to = ["pacs"]
"""
BESIDE = """
[pipelines.ct_metal_artifact_reduction]
method = "nmar"
also = ["segmentation", "change_map", "measurement_report", "text_report", "key_images", "banner"]
"""
SPLIT = """
[[rules]]
name = "noise"
when = 'Modality == "CT"'
run = "ct_denoising"
send_to = ["pacs"]
mixed = "split"
[[rules]]
name = "PET"
when = 'Modality == "PT"'
run = "pet_denoising"
send_to = ["pacs"]
"""
ACCESSION = "AccessionNumber"
"""SR and KO carry it in a sequence of their own as well; dcentvfy compares it with the images' (DERIVED_SERIES G2)."""


def sent(node: RunningNode, files: list[Path]) -> None:
    answer = storescu(node.port, files)
    assert answer.returncode == 0, answer.stderr + answer.stdout


def test_a_chain_with_everything_beside_it_reaches_the_pacs_valid_and_can_be_verified_offline(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    sources = list(write_metal_ct(tmp_path / "source", seed=7).files)
    node = make_node(pacs.dicom_port, rules=CHAIN, more=BESIDE).start()
    sent(node, sources)
    jobs = {job["rule"]: job for job in node.wait_for_jobs({"delivered"}, count=2, seconds=180)}
    first, second = jobs["metal"], jobs["then quieter"]
    assert second["series_instance_uid"] == first["derived_series_instance_uid"]

    files = pacs.download(tmp_path / "from_pacs")
    held: dict[str, list[Dataset]] = {}
    for path in files:
        dataset = dcmread(path)
        held.setdefault(dataset.Modality, []).append(dataset)
        assert dcmftest(path) and errors(path) == []
    assert {kind: len(found) for kind, found in held.items() if kind != "PM"} | {"OT": 0} == {
        "CT": 2 * len(sources), "SEG": 1, "SR": 2, "OT": 0, "KO": 1, "PR": 1,
    }  # fmt: skip
    assert held["OT"]
    assert [line for line in dcentvfy([*sources, *files]) if ACCESSION not in line] == []
    (chained,) = {tuple(one.ImageType) for one in held["CT"] if "DENOISED" in one.ImageType}
    assert chained == ("DERIVED", "SECONDARY", "AXIAL", "", "MAR", "DENOISED")
    models = [
        item.ManufacturerModelName for item in next(
            one for one in held["CT"] if "DENOISED" in one.ImageType
        ).ContributingEquipmentSequence
    ]  # fmt: skip
    assert models[-1] == "ct_denoising" and "ct_metal_artifact_reduction" in models

    for name, job in jobs.items():
        passport = tmp_path / "from_pacs" / f"{name}.passport.json"
        answer = node.command("passport", job["derived_series_instance_uid"], "--output", str(passport))
        assert answer.returncode == 0, answer.stderr
    verified = node.verify(tmp_path / "from_pacs", "--sources", tmp_path / "source", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["verdict"] == "OK"
    # One voxel changed by somebody: the pixels are no longer those of the passport.
    spoilt = next(path for path in files if dcmread(path).Modality == "CT")
    dataset = dcmread(spoilt)
    pixels = np.frombuffer(dataset.PixelData, "<i2").copy()
    pixels[100] += 1
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(spoilt)
    answer = node.verify(tmp_path / "from_pacs", "--sources", tmp_path / "source")
    assert answer.returncode == 1 and "PASSPORT" in answer.stdout
    assert node.stop() == 0


def test_a_mixed_series_is_split_by_its_rule_and_each_stack_comes_back(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    def two_kernels(k: int, dataset: Any) -> None:
        dataset.ConvolutionKernel = "B30f" if k < 4 else "B70f"
        if k >= 4:
            dataset.ImagePositionPatient[2] -= 12

    node = make_node(pacs.dicom_port, rules=SPLIT).start()
    sources = write_ct_series(tmp_path / "source", slices=8, each=two_kernels)
    sent(node, sources)
    (job,) = node.wait_for_jobs({"delivered"}, count=1)
    derived = pacs.series()
    assert sorted(len(one["instances"]) for one in derived.values()) == [4, 4]
    made = [row for row in node.audit(job["series_instance_uid"]) if row["event"] == "derived"]
    assert {row["details"]["derived_series_instance_uid"] for row in made} == set(derived)
    assert all("ConvolutionKernel" in " ".join(row["details"]["notes"]) for row in made)
    pacs.download(tmp_path / "from_pacs")
    numbers = {dcmread(path, stop_before_pixels=True).SeriesNumber for path in (tmp_path / "from_pacs").glob("*.dcm")}
    assert len(numbers) == 2
    for number, series_uid in enumerate(derived):
        passport = tmp_path / "from_pacs" / f"{number}.passport.json"
        assert node.command("passport", series_uid, "--output", str(passport)).returncode == 0
    verified = node.verify(tmp_path / "from_pacs", "--sources", tmp_path / "source")
    assert verified.returncode == 0, verified.stdout


def test_a_dynamic_pet_stays_one_series_and_keeps_its_indices(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    def frame(k: int, dataset: Any) -> None:
        dataset.SeriesType, dataset.NumberOfTimeSlices, dataset.NumberOfSlices = ["DYNAMIC", "IMAGE"], 2, 4
        dataset.ImageIndex, dataset.FrameReferenceTime = k + 1, str(1000 * (1 + k // 4))
        dataset.FrameTime = "120000"
        dataset.ImagePositionPatient[2] = 100 + 3 * (k % 4)

    rng = np.random.default_rng(3)
    values = 2000 + 400 * rng.random((8, 32, 32))
    node = make_node(pacs.dicom_port, rules=SPLIT).start()
    sent(node, write_pet_series(tmp_path / "source", values=values, each=frame))
    node.wait_for_jobs({"delivered"}, count=1)
    files = pacs.download(tmp_path / "from_pacs")
    images = sorted((dcmread(path) for path in files), key=lambda one: int(one.ImageIndex))
    assert [int(one.ImageIndex) for one in images] == list(range(1, 9))
    assert {(one.SeriesInstanceUID, one.NumberOfSlices, one.NumberOfTimeSlices) for one in images} == {
        (images[0].SeriesInstanceUID, 4, 2)
    }
    assert [line for path in files for line in errors(path)] == []


def test_a_refusal_says_in_jobs_and_audit_why_and_what_to_do(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    def echoes(k: int, dataset: Any) -> None:
        dataset.EchoTime = str(10 + k % 2)

    rule = '[[rules]]\nname = "PET"\nwhen = \'Modality == "MR"\'\nrun = "pet_denoising"\nsend_to = ["pacs"]\n'
    node = make_node(pacs.dicom_port, rules=rule).start()
    files = write_mr_series(tmp_path / "source", slices=4, each=echoes)
    sent(node, files)
    (job,) = node.wait_for_jobs({"refused"}, count=1)
    assert job["reason_code"] == "mixed-echo" and "EchoTime varies" in job["reason"]
    assert "mixed-echo" in json.dumps(node.audit(job["series_instance_uid"]))
    assert pacs.series() == {}
