"""The U-Net begins as nothing, keeps the matrix, and takes any size."""

from __future__ import annotations

import pytest
import torch

from inference.networks.unet import UNet


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(64, 64), (61, 75), (16, 33)])
def test_it_keeps_the_matrix_and_begins_at_nought(shape: tuple[int, int], residual: bool) -> None:
    network = UNet(3, 2, (8, 16, 16), residual=residual)
    assert torch.equal(network(torch.rand(2, 3, *shape)), torch.zeros(2, 2, *shape))


def test_each_pixel_of_the_input_reaches_the_output_of_its_own_place() -> None:
    torch.manual_seed(1)
    network = UNet(1, 1, (8, 16))
    torch.nn.init.normal_(network.leave.weight)
    flat = torch.zeros(1, 1, 64, 64)
    spot = flat.clone()
    spot[0, 0, 20, 40] = 1
    change = (network(spot) - network(flat)).abs()[0, 0]
    at = divmod(int(change.argmax()), 64)
    assert abs(at[0] - 20) <= 4 and abs(at[1] - 40) <= 4


@pytest.mark.parametrize("widths", [(8,), (8, 12)])
def test_widths_that_cannot_be_built_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="widths"):
        UNet(1, 1, widths)
