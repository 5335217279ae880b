"""Weights are what their manifest says, or the node does not start."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inference.errors import WeightsInvalid, WeightsMissing
from inference.model_files import ARCHITECTURES, REQUIRED, joint_sha256, load_network, read_manifest
from inference.networks.table import NETWORKS
from inference.networks.unet import UNet
from tests.builders_weights import write_weights


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A site's folder with the weights "small" in it."""
    write_weights(tmp_path, "small")
    return str(tmp_path)


def test_a_manifest_is_read_and_its_network_built(root: str) -> None:
    manifest = read_manifest("small", root)
    assert manifest.architecture == "unet" and manifest.in_distribution == {"pixel_spacing_mm": (0.6, 1.2)}
    network = load_network(manifest)
    assert not network.training and not any(value.requires_grad for value in network.parameters())
    torch.manual_seed(1)
    for name, value in UNet(2, 1, (8, 16)).state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


def test_weights_of_the_site_come_before_those_that_are_shipped_and_these_where_it_has_none(root: str) -> None:
    shipped = read_manifest("ct_mar_prior")
    assert read_manifest("ct_mar_prior", root).sha256 == shipped.sha256
    write_weights(Path(root), "ct_mar_prior", channels_in=4)
    assert read_manifest("ct_mar_prior", root).sha256 != shipped.sha256
    assert read_manifest("ct_mar_prior") == shipped


@pytest.mark.parametrize("folder", ["", "/no/such/folder"])
def test_weights_that_nobody_has_are_missing_by_name(folder: str) -> None:
    with pytest.raises(WeightsMissing, match="'no_such' are not installed"):
        read_manifest("no_such", folder)


def test_weights_that_were_changed_stop_the_start(root: str) -> None:
    file = Path(root, "small", "model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsInvalid, match="not those that their manifest names") as caught:
        read_manifest("small", root)
    assert f"if those in {file.parent} are the right ones, write sha256 in their manifest.toml anew" in str(
        caught.value
    )


def test_weights_that_were_exchanged_with_their_manifest_after_the_start_are_not_used_under_the_old_hash(
    root: str,
) -> None:
    manifest = read_manifest("small", root)
    write_weights(Path(root), "small", seed=2)
    with pytest.raises(WeightsInvalid, match="changed since the start"):
        load_network(manifest)
    assert load_network(read_manifest("small", root))


def test_a_manifest_without_its_tensors_stops_the_start(root: str) -> None:
    Path(root, "small", "model.safetensors").unlink()
    with pytest.raises(WeightsInvalid, match=r"not whole: model\.safetensors"):
        read_manifest("small", root)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_manifest_that_leaves_something_out_stops_the_start(root: str, key: str) -> None:
    file = Path(root, "small", "manifest.toml")
    file.write_text(file.read_text().replace(f"{key} =", f"other_{key} =").replace(f"[{key}]", f"[other_{key}]"))
    with pytest.raises(WeightsInvalid, match=key):
        read_manifest("small", root)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("schema", 2, "schema 2"), ("architecture", "transformer", "transformer")],
)
def test_an_unknown_schema_or_architecture_stops_the_start(root: str, key: str, value: object, words: str) -> None:
    write_weights(Path(root), "small", **{key: value})
    with pytest.raises(WeightsInvalid, match=words):
        read_manifest("small", root)


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ("[0.6, 1.2]", "[0.6]", "pixel_spacing_mm"),
        ("[0.6, 1.2]", "0.6", "pixel_spacing_mm"),
        ("[0.6, 1.2]", '["a", "b"]', "pixel_spacing_mm"),
        ("[0.6, 1.2]", "[0.6, nan]", "pixel_spacing_mm"),
        ("[0.6, 1.2]", "[1.2, 0.6]", "pixel_spacing_mm"),
        ("bf16 = false", "bf16 = 'no'", "bf16 = 'no', which is not true or false"),
        ("training = 'phantoms'", "training = 3", "training = 3, which is not text"),
        ("input = [", "input = [3] #", "input"),
        ("input = [", "input = 3 #", "input = 3, which is not a list"),
        ("[metrics]", "[[metrics]]", "metrics.*not a table"),
        ("psnr_db = 40.5", "psnr_db = 'good'", "psnr_db"),
        ("channels_out = 1", "channels_out = 1\nwidth = 8", "unknown hyper_parameters: width;"),
        ("channels_out = 1", "", "does not say of hyper_parameters: channels_out"),
    ],
)
def test_a_manifest_that_says_what_cannot_be_used_stops_the_start_with_its_words(
    root: str, was: str, now: str, words: str
) -> None:
    file = Path(root, "small", "manifest.toml")
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, now))
    with pytest.raises(WeightsInvalid, match=words) as caught:
        read_manifest("small", root)
    assert str(file) in str(caught.value)


def test_a_manifest_that_is_not_utf_8_stops_the_start(root: str) -> None:
    file = Path(root, "small", "manifest.toml")
    file.write_bytes(file.read_bytes().replace(b"phantoms", b"f\xfcr uns"))
    with pytest.raises(WeightsInvalid, match="cannot be read"):
        read_manifest("small", root)


def test_a_folder_that_cannot_be_looked_into_is_not_taken_for_an_empty_one() -> None:
    with pytest.raises(WeightsInvalid, match="cannot be seen"):
        read_manifest("ct_mar_prior", "/" + "long" * 100)


def test_a_manifest_may_name_the_networks_there_are_with_their_hyper_parameters() -> None:
    assert set(ARCHITECTURES) == set(NETWORKS)
    for name, network in NETWORKS.items():
        known = inspect.signature(network).parameters.values()
        assert ARCHITECTURES[name] == {one.name: one.default is inspect.Parameter.empty for one in known}


def test_a_manifest_is_read_without_torch(root: str) -> None:
    code = "import sys; from inference.model_files import read_manifest as read; read('small', sys.argv[1])"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules", root], check=True)


def test_a_file_that_holds_no_tensors_is_named_as_such(root: str) -> None:
    content = b"not tensors"
    write_weights(Path(root), "small", sha256=hashlib.sha256(content).hexdigest())
    Path(root, "small", "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsInvalid, match="do not fit"):
        load_network(read_manifest("small", root))


def test_tensors_that_do_not_fit_the_network_stop_the_start(root: str) -> None:
    file = Path(root, "small", "manifest.toml")
    file.write_text(file.read_text().replace("[8, 16]", "[16, 16]"))
    with pytest.raises(WeightsInvalid, match="do not fit"):
        load_network(read_manifest("small", root))


def test_several_weights_are_told_by_one_hash_whatever_their_order(root: str) -> None:
    small = read_manifest("small", root)
    other = replace(small, name="other", sha256="ab" * 32)
    assert joint_sha256([]) == "" and joint_sha256([small]) == small.sha256
    lines = f"other {other.sha256}\nsmall {small.sha256}\n"
    assert joint_sha256([small, other]) == joint_sha256([other, small]) == hashlib.sha256(lines.encode()).hexdigest()
