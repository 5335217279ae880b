"""Phantom files are what a scanner would write: valid, of one patient, and right to half a stored step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from dicomnode import uids
from dicomnode.load import load_volume
from dicomnode.phantom_files import write_ct, write_pet
from tests.validators import dcentvfy, errors, warnings


def written(folder: Path, kind: str) -> tuple[NDArray[np.float32], tuple[Path, ...]]:
    """A small series of that kind, and what was written."""
    random = np.random.default_rng(1)
    if kind == "ct":
        values = random.uniform(-1000, 3000, (4, 32, 32)).astype(np.float32)
        return values, write_ct(folder, values, "Hip metal implant", part="PELVIS", spacing_mm=(3.0, 1.5), seed=1)
    values = (random.random((4, 32, 32)) * np.array([1, 20, 0, 3])[:, None, None]).astype(np.float32)
    return values, write_pet(folder, values, "Whole torso NAC", spacing_mm=(5.0, 4.0), seed=1)


@pytest.mark.parametrize("kind", ["ct", "pet"])
def test_validators_find_nothing(tmp_path: Path, kind: str) -> None:
    _, files = written(tmp_path, kind)
    for path in files:
        assert errors(path) == []
        assert warnings(path) == []
    assert dcentvfy(files) == []


@pytest.mark.parametrize("kind", ["ct", "pet"])
def test_what_is_read_back_is_what_was_written(tmp_path: Path, kind: str) -> None:
    values, files = written(tmp_path, kind)
    volume, _ = load_volume(files)
    # HU are stored as whole numbers, a PET slice in 32000 steps up to its maximum
    step = 1.0 if kind == "ct" else values.max(axis=(1, 2), keepdims=True) / 32000 + 1e-9
    assert (np.abs(volume.values - values) <= 0.51 * step).all()
    assert volume.geometry.spacing_mm == pytest.approx((3.0, 1.5, 1.5) if kind == "ct" else (5.0, 4.0, 4.0))


def test_slices_of_a_pet_have_slopes_of_their_own(tmp_path: Path) -> None:
    _, files = written(tmp_path, "pet")
    assert len({float(dcmread(path).RescaleSlope) for path in files}) == len(files)


def test_no_uid_is_used_twice_and_none_is_the_nodes_own(tmp_path: Path) -> None:
    headers = [dcmread(path) for kind in ("ct", "pet") for path in written(tmp_path / kind, kind)[1]]
    instances = {str(header.SOPInstanceUID) for header in headers}
    assert len(instances) == len(headers)
    assert len({str(header.SeriesInstanceUID) for header in headers}) == 2
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in instances)
    # what the node made is never routed; a phantom must be
    assert all(header.file_meta.ImplementationClassUID != uids.IMPLEMENTATION_CLASS_UID for header in headers)
    assert all(header.ManufacturerModelName != uids.MODEL_NAME for header in headers)
