"""The page shows what was measured, and its pictures show what was sent, derived and true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dicomnode.demo_page import CAPTION, PANEL, Picture, grey, most_changed_slice, write_page


def picture() -> Picture:
    truth = np.zeros((3, 16, 16), np.float32)
    before, after = truth.copy(), truth.copy()
    before[1, 4:8, 4:8] = 100
    return Picture("CT with <metal>", before, after, truth, (-100.0, 100.0), (-100.0, 100.0))


def test_grey_levels_span_the_window() -> None:
    values = np.array([[-500.0, -100.0, 0.0, 100.0, 900.0]])
    assert grey(values, (-100.0, 100.0)).tolist() == [[0, 0, 128, 255, 255]]


def test_the_slice_that_changed_most_is_shown() -> None:
    assert most_changed_slice(picture()) == 1


def test_the_page_holds_figures_and_pictures_and_escapes_names(tmp_path: Path) -> None:
    fact = {
        "phantom": "CT with <metal>", "pipeline": "p", "state": "delivered", "instances": 3, "seconds": 1.0,
        "psnr_before_db": 20.0, "psnr_after_db": 25.5,
    }  # fmt: skip
    page = write_page(tmp_path, [picture()], [fact]).read_text()
    assert "25.5" in page and "CT with &lt;metal&gt;" in page and "<metal>" not in page
    with Image.open(tmp_path / picture().file_name) as sheet:
        assert sheet.size == (4 * PANEL, PANEL + CAPTION)
        sent, derived = (sheet.getpixel((number * PANEL + 120, CAPTION + 120)) for number in (0, 1))
    assert sent == 255 and derived == 128


def test_the_page_shows_the_key_images_as_they_were_sent(tmp_path: Path) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[1, 2] = (255, 140, 0)
    page = write_page(tmp_path, [], [], key_images=[image]).read_text()
    assert "key-image-1.png" in page and "Secondary Capture" in page
    with Image.open(tmp_path / "key-image-1.png") as kept:
        assert (np.asarray(kept) == image).all()
