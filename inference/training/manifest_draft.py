"""Writes the manifest of weights that a recipe has made; what the recipe cannot know is left for a person to say."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.model_files import MANIFEST_FILE, MODEL_FILE, SCHEMA, UNSAID

RANGES_FILE = "scenes.json"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recipe knows of the network it makes.

    given: its channels in words, with unit and scaling; hyper_parameters: of the class that the architecture names.
    """

    architecture: str
    hyper_parameters: Mapping[str, int | bool | Sequence[int]]
    given: Sequence[str]
    output_unit: str
    training: str


def write_manifest(folder: Path, recipe: Recipe, *, scenes: Path) -> Path:
    """manifest.toml beside the weights in that folder, as inference.model_files reads it.

    The metrics are the last held-out figures of the training; the ranges are those of the scenes, where their folder
    says them (RANGES_FILE). Licence and intended use are left for a person to say, and
    read_manifest takes no weights before that. Raises ValueError for a training that has no figures at its end.
    """
    last = json.loads((folder / "history.json").read_text(encoding="utf-8"))[-1]
    if wrong := [f"{name!r} is {value}" for name, value in last.items() if not math.isfinite(value)]:
        raise ValueError(
            f"no manifest was written: at the end of {folder / 'history.json'} {', '.join(wrong)}; the training failed"
        )
    ranges_file = scenes / RANGES_FILE
    ranges = json.loads(ranges_file.read_text(encoding="utf-8")) if ranges_file.exists() else {}
    top = {
        "schema": SCHEMA,
        "architecture": recipe.architecture,
        "sha256": hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest(),
        "input": list(recipe.given),
        "output_unit": recipe.output_unit,
        "bf16": True,
        "training": recipe.training,
        "licence": f"{UNSAID}: write here whose images the weights were trained on and under what terms",
        "intended_use": f"{UNSAID}: write here what results of these weights may be used for",
    }
    tables = {"hyper_parameters": recipe.hyper_parameters, "in_distribution": ranges, "metrics": last}
    parts = ["# What the weights beside this file are; read and held against them by inference/model_files.py.\n"]
    parts.append(_lines(top))
    parts += [f"\n[{name}]\n{_lines(content)}" for name, content in tables.items()]
    path = folder / MANIFEST_FILE
    path.write_text("".join(parts), encoding="utf-8")
    return path


def _lines(content: Mapping[str, object]) -> str:
    # what json writes of words, numbers, truth values and lists of them is TOML as well
    return "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in content.items())
