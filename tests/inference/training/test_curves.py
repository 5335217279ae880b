"""Loss curves are a picture, or nothing is claimed."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from inference.training.curves import HEIGHT, WIDTH, write_curves


def test_a_history_becomes_a_picture(tmp_path: Path) -> None:
    history = [{"step": step, "loss": 1 / step, "held out": 50.0 - step / 10} for step in (100, 200, 300)]
    assert write_curves(tmp_path / "curves.png", history)
    picture = Image.open(tmp_path / "curves.png")
    assert picture.size == (WIDTH, HEIGHT) and len(picture.convert("RGB").getcolors(1 << 16) or []) > 5


def test_a_history_without_figures_makes_no_picture(tmp_path: Path) -> None:
    assert not write_curves(tmp_path / "curves.png", [{"step": 1}])
    assert not (tmp_path / "curves.png").exists()
