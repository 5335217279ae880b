"""Pictures of before and after."""

import numpy as np
import pytest

from dicomnode.companions.picture import LARGEST_PANEL, SMALLEST_PANEL, Panel, side_by_side, windowed


def test_a_window_maps_its_edges_to_black_and_white_and_its_centre_to_grey() -> None:
    values = np.array([[-500.0, -160.0, 40.0, 240.0, 3000.0]], np.float32)
    assert windowed(values, 40, 400).tolist() == [[0, 0, 128, 255, 255]]


def drawn(rows: int, columns: int, pixel_mm: tuple[float, float], lines: tuple[str, ...] = ()) -> np.ndarray:
    panel = Panel(np.full((rows, columns), 200, np.uint8), lines)
    return side_by_side([panel], [], pixel_mm=pixel_mm, directions=("L", "P"))


def extent(picture: np.ndarray) -> tuple[int, int]:
    """Rows and columns of the panel's even grey."""
    grey = (picture == 200).all(axis=2)
    return int(grey.any(axis=1).sum()), int(grey.any(axis=0).sum())


@pytest.mark.parametrize(
    ("shape", "pixel_mm", "expected"),
    [
        ((512, 512), (0.7, 0.7), (512, 512)),
        ((64, 64), (1.0, 1.0), (256, 256)),
        ((100, 300), (3.0, 1.0), (300, 300)),
        ((1024, 512), (1.0, 1.0), (768, 384)),
        ((9, 7), (1.0, 1.0), (261, 203)),
    ],
)
def test_a_panel_has_the_patients_proportions_and_a_size_one_can_read(
    shape: tuple[int, int], pixel_mm: tuple[float, float], expected: tuple[int, int]
) -> None:
    found = extent(drawn(*shape, pixel_mm))
    assert found == expected
    assert max(found) <= max(LARGEST_PANEL, SMALLEST_PANEL)


def test_panels_stand_side_by_side_in_their_order() -> None:
    panels = [Panel(np.full((256, 256), grey, np.uint8), ("words",)) for grey in (30, 90, 150)]
    picture = side_by_side(panels, ["below"], pixel_mm=(1, 1), directions=("L", "P"))
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    lefts = [int(np.argmax((picture == grey).all(axis=2).mean(axis=0) > 0.5)) for grey in (30, 90, 150)]
    assert lefts == sorted(lefts) and lefts[1] - lefts[0] >= 256


def test_the_words_are_drawn_above_and_below_the_panels() -> None:
    plain, titled = drawn(256, 256, (1, 1), ("",)), drawn(256, 256, (1, 1), ("source",))
    assert plain.shape == titled.shape and not np.array_equal(plain, titled)


def test_a_long_footer_is_wrapped_rather_than_cut() -> None:
    panel = Panel(np.zeros((256, 256), np.uint8), ("source",))
    words = "a footer of many words that is far too long for a single line of this narrow picture " * 3
    short = side_by_side([panel], ["footer"], pixel_mm=(1, 1), directions=("L", "P"))
    long = side_by_side([panel], [words], pixel_mm=(1, 1), directions=("L", "P"))
    assert long.shape[1] == short.shape[1] and long.shape[0] > short.shape[0] + 50


def test_the_same_panels_give_the_same_picture() -> None:
    assert np.array_equal(drawn(40, 50, (1, 2), ("source",)), drawn(40, 50, (1, 2), ("source",)))
