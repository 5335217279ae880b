"""The demonstration comes to its end by itself, with everything delivered, measured and shown."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
from rich.console import Console

from dicomnode.demo import psnr_db, run_demo


def test_three_phantoms_come_back_better_than_they_were_sent(tmp_path: Path) -> None:
    said = io.StringIO()
    assert run_demo(tmp_path / "out", seed=7, console=Console(file=said, width=160)) == 0
    facts = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert [fact["pipeline"] for fact in facts] == ["ct_metal_artifact_reduction", "pet_to_ct", "ct_denoising"]
    for fact in facts:
        assert fact["state"] == "delivered" and fact["instances"] > 0
        assert fact["psnr_after_db"] > fact["psnr_before_db"] + 2
    assert (tmp_path / "out" / "index.html").is_file()
    assert len(list((tmp_path / "out").glob("*.png"))) == 3 + 3  # a picture of each phantom, three key images
    assert "the hash chain is whole" in said.getvalue()


def test_psnr_is_measured_within_the_window() -> None:
    truth = np.zeros((4, 4))
    assert psnr_db(truth, truth, window=(0, 100)) == math.inf
    assert psnr_db(truth + 10, truth, window=(0, 100)) == 20.0
    assert psnr_db(truth - 500, truth, window=(0, 100)) == math.inf  # both are black in this window
