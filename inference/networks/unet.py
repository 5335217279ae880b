"""A U-Net on space-to-depth images: full resolution in and out, at the cost of half of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_shuffle, pixel_unshuffle, silu

GROUPS = 8


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return silu(self.second(silu(self.norm(self.first(features)))))


class _ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(GROUPS, channels_in)
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        same = channels_in == channels_out
        self.past: nn.Module = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = self.first(silu(self.norm_in(features)))
        made: torch.Tensor = self.past(features) + self.second(silu(self.norm(inner)))
        return made


class UNet(nn.Module):
    """Encoder and decoder with skip connections (Ronneberger et al. 2015) on 2x2 blocks of pixels (Shi et al. 2016).

    Takes (images, channels_in, rows, columns) and makes (images, channels_out, rows, columns); the matrix is padded to
    what the levels need. Its last layer begins at nought, so that an untrained network that is added to an image
    changes nothing. residual: blocks that add to what they are given (He et al. 2016), which pass noise on unhindered.
    """

    def __init__(self, channels_in: int, channels_out: int, widths: Sequence[int], *, residual: bool = False) -> None:
        super().__init__()
        if len(widths) < 2 or any(width % GROUPS for width in widths):
            raise ValueError(f"a U-Net needs two widths or more, all multiples of {GROUPS}, not {list(widths)}")
        levels = range(len(widths))
        block = _ResidualBlock if residual else _Block
        self.enter = nn.Conv2d(4 * channels_in, widths[0], 3, padding=1)
        self.down = nn.ModuleList(block(widths[max(0, level - 1)], widths[level]) for level in levels)
        self.up = nn.ModuleList(
            block(widths[level] + widths[level - 1], widths[level - 1]) for level in reversed(levels[1:])
        )
        self.leave = nn.Conv2d(widths[0], 4 * channels_out, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)
        self.multiple = 2 ** len(widths)
        """Rows and columns are padded to multiples of this."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows, columns = images.shape[-2:]
        padded = pad(images, (0, -columns % self.multiple, 0, -rows % self.multiple), mode="replicate")
        features = self.enter(pixel_unshuffle(padded, 2))
        skipped: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            features = block(avg_pool2d(features, 2) if level else features)
            skipped.append(features)
        skipped.pop()
        for block in self.up:
            features = block(torch.cat([interpolate(features, scale_factor=2.0, mode="nearest"), skipped.pop()], 1))
        result: torch.Tensor = pixel_shuffle(self.leave(features), 2)[..., :rows, :columns]
        return result
