"""Reads the weights this node ships: a manifest that says what they are, and tensors that are what it says."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.errors import WeightsInvalid, WeightsMissing

if TYPE_CHECKING:
    from torch import nn

SCHEMA = 1
MODEL_FILE, MANIFEST_FILE = "model.safetensors", "manifest.toml"
REQUIRED = (
    "architecture",
    "hyper_parameters",
    "input",
    "output_unit",
    "bf16",
    "training",
    "licence",
    "metrics",
    "in_distribution",
    "intended_use",
    "sha256",
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest.toml says of the weights beside it.

    input: the channels in words, with unit and scaling. in_distribution: name -> lowest and highest value that the
    training has seen. metrics: what was measured on held-out subjects, with range and window in the name.
    site_folder: where a site's own weights were looked for; empty: only those that are shipped.
    """

    name: str
    architecture: str
    hyper_parameters: Mapping[str, Any]
    input: tuple[str, ...]
    output_unit: str
    bf16: bool
    training: str
    licence: str
    metrics: Mapping[str, float]
    in_distribution: Mapping[str, tuple[float, float]]
    intended_use: str
    sha256: str
    site_folder: str = ""


def joint_sha256(manifests: Sequence[Manifest]) -> str:
    """What tells the weights in use: empty for none, the sha256 of the only ones, and of several the sha256 of their
    lines "name sha256", sorted and each ended by a line feed."""
    if len(manifests) < 2:
        return "".join(manifest.sha256 for manifest in manifests)
    lines = sorted(f"{manifest.name} {manifest.sha256}\n" for manifest in manifests)
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def read_manifest(name: str, site_folder: str = "") -> Manifest:
    """The manifest of those weights, held against them; raises WeightsInvalid when anything is missing or differs.

    site_folder: a folder of weights folders that comes before the shipped ones; raises WeightsMissing where neither
    has these weights.
    """
    folder = _folder(name, site_folder)
    text = _bytes(folder / MANIFEST_FILE, name).decode("utf-8")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise WeightsInvalid(f"the manifest of the weights {name!r} cannot be read: {fault}") from fault
    if content.get("schema") != SCHEMA:
        raise WeightsInvalid(
            f"the weights {name!r} have a manifest of schema {content.get('schema')!r}; this version reads {SCHEMA}"
        )
    if missing := [key for key in REQUIRED if key not in content]:
        raise WeightsInvalid(f"the manifest of the weights {name!r} does not say: {', '.join(missing)}")
    actual = _sha256(folder / MODEL_FILE, name)
    if actual != content["sha256"]:
        raise WeightsInvalid(
            f"the weights {name!r} are not those that their manifest names (sha256 {actual}, not "
            f"{content['sha256']}); install the package again"
        )
    return Manifest(
        name=name,
        architecture=str(content["architecture"]),
        hyper_parameters=dict(content["hyper_parameters"]),
        input=tuple(content["input"]),
        output_unit=str(content["output_unit"]),
        bf16=bool(content["bf16"]),
        training=str(content["training"]),
        licence=str(content["licence"]),
        metrics=dict(content["metrics"]),
        in_distribution={key: (float(low), float(high)) for key, (low, high) in content["in_distribution"].items()},
        intended_use=str(content["intended_use"]),
        sha256=actual,
        site_folder=site_folder,
    )


def load_network(manifest: Manifest) -> nn.Module:
    """The network of those weights, for inference; raises WeightsInvalid when it is not what the manifest says.

    Weights that were changed since their manifest was read are refused: results would bear the hash of others.
    """
    return _loaded(manifest.name, manifest.site_folder, manifest.sha256)


@lru_cache(maxsize=4)
def _loaded(name: str, site_folder: str, sha256: str) -> nn.Module:
    from safetensors.torch import load

    from inference.networks.table import NETWORKS

    manifest = read_manifest(name, site_folder)
    if manifest.architecture not in NETWORKS:
        raise WeightsInvalid(
            f"the weights {name!r} are for a network {manifest.architecture!r}; there are {', '.join(NETWORKS)}"
        )
    content = _bytes(_folder(name, site_folder) / MODEL_FILE, name)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsInvalid(f"the weights {name!r} were changed since the start; start the node again")
    try:
        network = NETWORKS[manifest.architecture](**manifest.hyper_parameters)
        network.load_state_dict(load(content))
    except (TypeError, ValueError, RuntimeError) as fault:
        raise WeightsInvalid(
            f"the weights {name!r} do not fit the network that their manifest names: {fault}"
        ) from fault
    return network.eval().requires_grad_(requires_grad=False)


def _folder(name: str, site_folder: str) -> Traversable:
    shipped = files("inference").joinpath("weights", name)
    own = Path(site_folder, name)
    if site_folder and own.is_dir():
        return own
    if not shipped.is_dir():
        raise WeightsMissing(f"the weights {name!r} are not installed")
    return shipped


def _bytes(file: Traversable, name: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as fault:
        raise WeightsInvalid(f"the weights {name!r} are not whole: {file.name} cannot be read ({fault})") from fault


def _sha256(file: Traversable, name: str) -> str:
    return hashlib.sha256(_bytes(file, name)).hexdigest()
