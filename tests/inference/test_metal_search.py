"""Metal by threshold and metal by network pass the same doubts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import SourceRefused
from inference.metal_search import metal_by_network, metal_by_threshold
from inference.model_files import Manifest, read_manifest
from inference.volume import Acquisition, Geometry, Unit, Volume
from tests.builders_weights import write_weights


def volume(values: NDArray[np.float32]) -> Volume:
    affine = np.diag([3.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    return Volume(values, Unit.HU, Geometry(affine, "1.2"), Acquisition("CT", bits_stored=12))


def rod() -> NDArray[np.float32]:
    """(4, 32, 32) HU: a rod in slices 1 and 2, and a speck of two voxels in slice 3."""
    values = np.full((4, 32, 32), 40, np.float32)
    values[1:3, 8:12, 8:12] = 3071
    values[3, 25, 25:27] = 3071
    return values


def gap_after_each(source: Volume) -> Volume:
    corners = source.geometry.affine[:3, 3] + 9 * np.arange(len(source.values))[:, None] * [0.0, 0.0, 1.0]
    return replace(source, geometry=replace(source.geometry, corners_mm=corners))


def weights(folder: Path, *, says_metal: bool) -> Manifest:
    """Of a network that takes everything for metal, or nothing."""
    write_weights(folder, "ct_metal_mask", last_bias=9.0 if says_metal else -9.0)
    return read_manifest("ct_metal_mask", str(folder))


def test_the_networks_metal_is_freed_of_specks_like_the_thresholds(tmp_path: Path) -> None:
    source, expected = volume(rod()), rod() == 3071
    expected[3] = False
    assert np.array_equal(metal_by_network(source, weights(tmp_path, says_metal=True)), expected)
    assert np.array_equal(metal_by_threshold(source, 3000), expected)


def test_in_a_stack_with_gaps_the_next_slice_does_not_save_a_speck(tmp_path: Path) -> None:
    values = np.full((4, 32, 32), 40, np.float32)
    values[1:3, 8, 8:10] = 3071  # four voxels over two slices
    values[0, 20:24, 20:24] = 3071
    manifest = weights(tmp_path, says_metal=True)
    for find in (lambda source: metal_by_network(source, manifest), lambda source: metal_by_threshold(source, 3000)):
        assert find(volume(values))[1, 8, 8]
        apart = find(gap_after_each(volume(values)))
        assert apart[0, 22, 22] and not apart[1:].any()


def test_what_lies_outside_the_field_of_view_is_no_metal(tmp_path: Path) -> None:
    outside = np.zeros((4, 32, 32), bool)
    outside[1] = True
    source = replace(volume(rod()), outside=outside)
    manifest = weights(tmp_path, says_metal=True)
    for metal in (metal_by_network(source, manifest), metal_by_threshold(source, 0)):
        assert metal[2].any() and not metal[1].any()


def test_a_series_in_which_none_is_found_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="by the network") as caught:
        metal_by_network(volume(rod()), weights(tmp_path, says_metal=False))
    assert caught.value.reason_code == "no-metal"
    with pytest.raises(SourceRefused, match="nothing reaches 3100 HU") as caught:
        metal_by_threshold(volume(rod()), 3100)
    assert caught.value.reason_code == "no-metal"


def test_more_of_a_slice_than_metal_can_be_is_refused_whoever_found_it(tmp_path: Path) -> None:
    source = volume(rod() + 3031)
    with pytest.raises(SourceRefused, match="the network takes") as caught:
        metal_by_network(source, weights(tmp_path, says_metal=True))
    assert caught.value.reason_code == "implausible-metal"
    with pytest.raises(SourceRefused, match="above 3000 HU") as caught:
        metal_by_threshold(source, 3000)
    assert caught.value.reason_code == "implausible-metal"
