"""Reads weights, shipped or a site's own: a manifest that says what they are, and tensors that are what it says."""

from __future__ import annotations

import hashlib
import math
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
REQUIRED: Mapping[str, type] = {
    "architecture": str,
    "hyper_parameters": dict,
    "input": list,
    "output_unit": str,
    "bf16": bool,
    "training": str,
    "licence": str,
    "metrics": dict,
    "in_distribution": dict,
    "intended_use": str,
    "sha256": str,
}
"""What a manifest says, and of which kind it is."""
UNSAID = "Not said yet"
"""How the draft of a manifest begins what only a person can say; weights are not taken while it stands there."""
ARCHITECTURES: Mapping[str, Mapping[str, bool]] = {
    "unet": {"channels_in": True, "channels_out": True, "widths": True, "residual": False},
}
"""Networks that a manifest may name -> their hyper-parameters, and whether each has to be said. They are those of
inference.networks.table, told here so that a start needs no torch."""
_KINDS: Mapping[type, str] = {str: "text", dict: "a table", list: "a list", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest.toml says of the weights beside it.

    input: the channels in words, with unit and scaling. in_distribution: name -> lowest and highest value that the
    weights are known to serve. metrics: what was measured on held-out subjects, with range and window in the name.
    site_folder: the site's folder that these weights were found in; empty for those that are shipped.
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
    written = _bytes(folder / MANIFEST_FILE, name)
    try:
        content = tomllib.loads(written.decode("utf-8"))
    except ValueError as fault:  # not UTF-8, or not TOML
        raise WeightsInvalid(f"the manifest of the weights {name!r} cannot be read: {fault}") from fault
    if content.get("schema") != SCHEMA:
        raise WeightsInvalid(
            f"the weights {name!r} have a manifest of schema {content.get('schema')!r}; this version reads {SCHEMA}"
        )
    if missing := [key for key in REQUIRED if key not in content]:
        raise WeightsInvalid(f"the manifest of the weights {name!r} does not say: {', '.join(missing)}")
    _require_sound(content, name, folder)
    own = isinstance(folder, Path) and folder == Path(site_folder, name)
    actual = hashlib.sha256(_bytes(folder / MODEL_FILE, name)).hexdigest()
    if actual != content["sha256"]:
        remedy = f"if those in {folder} are the right ones, write sha256 in their {MANIFEST_FILE} anew"
        raise WeightsInvalid(
            f"the weights {name!r} are not those that their manifest names (sha256 {actual}, not "
            f"{content['sha256']}); {remedy if own else 'install the package again'}"
        )
    return Manifest(
        name=name,
        architecture=content["architecture"],
        hyper_parameters=content["hyper_parameters"],
        input=tuple(content["input"]),
        output_unit=content["output_unit"],
        bf16=content["bf16"],
        training=content["training"],
        licence=content["licence"],
        metrics=content["metrics"],
        in_distribution={key: (float(low), float(high)) for key, (low, high) in content["in_distribution"].items()},
        intended_use=content["intended_use"],
        sha256=actual,
        site_folder=site_folder if own else "",
    )


def load_network(manifest: Manifest) -> nn.Module:
    """The network of those weights, for inference; raises WeightsInvalid when it is not what the manifest says.

    Weights that were changed since their manifest was read are refused: results would bear the hash of others.
    """
    return _loaded(manifest.name, manifest.site_folder, manifest.sha256)


@lru_cache(maxsize=4)
def _loaded(name: str, site_folder: str, sha256: str) -> nn.Module:
    from safetensors import SafetensorError
    from safetensors.torch import load

    from inference.networks.table import NETWORKS

    manifest = read_manifest(name, site_folder)
    content = _bytes(_folder(name, site_folder) / MODEL_FILE, name)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsInvalid(f"the weights {name!r} were changed since the start; start the node again")
    try:
        network = NETWORKS[manifest.architecture](**manifest.hyper_parameters)
        network.load_state_dict(load(content))
    except (TypeError, ValueError, RuntimeError, SafetensorError) as fault:
        raise WeightsInvalid(
            f"the weights {name!r} do not fit the network that their manifest names: {fault}"
        ) from fault
    return network.eval().requires_grad_(requires_grad=False)


def _folder(name: str, site_folder: str) -> Traversable:
    shipped = files("inference").joinpath("weights", name)
    own = Path(site_folder, name)
    try:
        if site_folder and own.is_dir():
            return own
    except (OSError, ValueError) as fault:
        raise WeightsInvalid(f"whether there are weights {name!r} in {site_folder} cannot be seen: {fault}") from fault
    if not shipped.is_dir():
        raise WeightsMissing(f"the weights {name!r} are not installed")
    return shipped


def _bytes(file: Traversable, name: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as fault:
        raise WeightsInvalid(f"the weights {name!r} are not whole: {file.name} cannot be read ({fault})") from fault


def _require_sound(content: Mapping[str, Any], name: str, folder: Traversable) -> None:
    """Raises WeightsInvalid where a manifest that has all keys holds what cannot be used, or was not finished."""

    def fault(words: str) -> WeightsInvalid:
        return WeightsInvalid(f"the manifest of the weights {name!r} ({folder / MANIFEST_FILE}) {words}")

    for key, kind in REQUIRED.items():
        if not isinstance(content[key], kind):
            raise fault(f"says {key} = {content[key]!r}, which is not {_KINDS[kind]}")
    if not all(isinstance(words, str) for words in content["input"]):
        raise fault("has something in input that is not text")
    for key, value in content["metrics"].items():
        if not _is_number(value):
            raise fault(f"says {key} = {value!r} in metrics, which is not a number")
    for key, ends in content["in_distribution"].items():
        sound = (
            isinstance(ends, list) and len(ends) == 2 and all(_is_number(end) and math.isfinite(end) for end in ends)
        )
        if not sound or ends[0] > ends[1]:
            raise fault(f"says {key} = {ends!r} in in_distribution, which is not a lowest and a highest number")
    for key in ("licence", "intended_use"):
        if content[key].startswith(UNSAID):
            raise fault(f"is a draft: write there what {key} is")
    if content["architecture"] not in ARCHITECTURES:
        raise fault(f"names a network {content['architecture']!r}; there are {', '.join(ARCHITECTURES)}")
    known, said = ARCHITECTURES[content["architecture"]], content["hyper_parameters"]
    if wrong := [key for key in said if key not in known]:
        raise fault(f"has unknown hyper_parameters: {', '.join(wrong)}; there are {', '.join(known)}")
    if absent := [key for key, needed in known.items() if needed and key not in said]:
        raise fault(f"does not say of hyper_parameters: {', '.join(absent)}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
