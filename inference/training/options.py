"""The options that every training recipe takes."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from inference.training.crops import Crops
from inference.training.loop import Plan
from inference.training.manifest_draft import Recipe, write_manifest

NOT_TOLD = ("scenes", "folder", "held_out", "begin", "minutes", "threads", "device")
"""Options that lead to no other weights, or that name a file of one machine."""


def recipe_parser(description: str | None, *, steps: int, batch: int, crop: int) -> argparse.ArgumentParser:
    """A parser with the options common to all recipes; the numbers are this recipe's defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder of shards, made by inference.training.mar_scenes")
    parser.add_argument("folder", type=Path, help="folder for checkpoint, curves and weights")
    parser.add_argument("--held-out", type=Path, help="folder of shards of other subjects, for the curves only")
    parser.add_argument("--steps", type=int, default=steps, help="steps in all (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=0, help="of this run; 0: until done (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=batch, help="crops a step (default: %(default)s)")
    parser.add_argument("--crop", type=int, default=crop, help="pixels along one side (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of weights and crops (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    return parser


def begin(chosen: argparse.Namespace) -> tuple[Plan, Crops, Crops]:
    """Threads and seed set; the plan, the crops to train on and those held out (the same scenes, where none are)."""
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    plan = Plan(
        chosen.steps,
        minutes=chosen.minutes,
        scenes_a_batch=chosen.batch,
        rate=chosen.rate,
        seed=chosen.seed,
        device=chosen.device,
    )
    crops = Crops(chosen.scenes, size=chosen.crop, seed=chosen.seed)
    return plan, crops, Crops(chosen.held_out or chosen.scenes, size=chosen.crop, seed=chosen.seed + 1)


def end(chosen: argparse.Namespace, recipe: Recipe, *, done: bool) -> None:
    """The manifest of what was made, and the last line of a run."""
    if done:
        write_manifest(chosen.folder, recipe, scenes=chosen.scenes)
    print(f"{'done' if done else 'stopped; the same command goes on'}: {chosen.folder}")


def words_of(chosen: argparse.Namespace, module: str) -> str:
    """How to train the same again, for the manifest."""
    options = (f"{name} {value}" for name, value in sorted(vars(chosen).items()) if name not in NOT_TOLD)
    return f"inference.training.{module}: {', '.join(options)}"
