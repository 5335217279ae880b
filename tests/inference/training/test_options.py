"""Recipes take the same options, and the seed decides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.training.manifest_draft import Recipe
from inference.training.options import begin, end, recipe_parser, words_of


def test_the_recipes_own_numbers_are_its_defaults_and_the_seed_is_set(tmp_path: Path) -> None:
    words = [str(tmp_path), str(tmp_path / "out"), "--seed", "7", "--minutes", "3"]
    chosen = recipe_parser("What it trains.", steps=123, batch=3, crop=64).parse_args(words)
    plan, _, _ = begin(chosen)
    first = torch.rand(3)
    begin(chosen)
    assert torch.equal(first, torch.rand(3))
    assert (plan.steps, plan.scenes_a_batch, plan.seed, plan.minutes) == (123, 3, 7, 3.0)


def test_the_last_line_says_whether_it_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = recipe_parser(None, steps=1, batch=1, crop=32).parse_args([str(tmp_path), "out"])
    end(chosen, Recipe("unet", {}, (), "HU", ""), done=False)
    assert "the same command goes on" in capsys.readouterr().out


def test_the_words_for_the_manifest_tell_what_makes_the_same_weights_and_no_paths(tmp_path: Path) -> None:
    given = [str(tmp_path), str(tmp_path / "out"), "--seed", "7", "--minutes", "3"]
    words = words_of(recipe_parser(None, steps=12, batch=2, crop=32).parse_args(given), "mar_prior")
    assert words == "inference.training.mar_prior: batch 2, crop 32, rate 0.001, seed 7, steps 12"
