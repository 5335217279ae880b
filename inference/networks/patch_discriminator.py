"""The PatchGAN discriminator of pix2pix: says of each patch whether it is real."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import leaky_relu


class PatchDiscriminator(nn.Module):
    """Takes (images, channels_in, rows, columns), makes (images, 1, about rows / 8, about columns / 8) scores.

    Isola et al. 2017 with spectral normalisation (Miyato et al. 2018) in the place of batch normalisation, because
    batches are small. Only training needs it.
    """

    def __init__(self, channels_in: int, width: int = 32) -> None:
        super().__init__()
        channels = (channels_in, width, 2 * width, 4 * width)
        self.strided = nn.ModuleList(
            nn.utils.spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in pairwise(channels)
        )
        self.score = nn.utils.spectral_norm(nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for layer in self.strided:
            images = leaky_relu(layer(images), 0.2)
        scores: torch.Tensor = self.score(images)
        return scores
