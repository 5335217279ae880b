"""What a network for metal artifact reduction is trained for: supervised, CT artifact GAN, pix2pix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch.nn.functional import avg_pool2d, l1_loss, max_pool2d, softplus

from inference.networks.patch_discriminator import PatchDiscriminator

ADVERSARIAL_WEIGHT = 0.002
L1_TO_ADVERSARIAL = 100.0
"""Isola et al. 2017."""
SSIM_WINDOW = 7
SSIM_RANGE = 0.4
"""Contrast in the network's unit (1000 HU) that structural similarity is measured against: a soft tissue window."""
EDGE_WEIGHT = 0.5
SMOOTH_BELOW = 0.02
"""Errors below 20 HU count by their square: noise must not be learned."""
SQUARE_COUNTS_FROM = 0.16
"""Error, 160 HU, beyond which its square counts more than its size: the strongest streaks must go first."""
FAINT_WEIGHT = 24.0
"""Chosen for `Supervised`: with 8, more of the lesions near metal was lost. The other two were tried with 8 only."""
FAINT_WINDOW, FAINT_REACH = 5, 21
"""Pixels: what lesions change is averaged over the one, for the network computes in 16 bits, and looked at as far round
them as half the other."""


class Objective:
    """The generator's loss, and the discriminator's where there is one.

    made, true: (images, 1, rows, columns) in 1000 HU; given: (images, channels, rows, columns), the generator's input;
    counted: (images, 1, rows, columns) 1 where a voxel counts, 0 in metal.
    """

    discriminator: PatchDiscriminator | None = None

    def generator_loss(
        self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor:
        """Less is better."""
        raise NotImplementedError

    def discriminator_loss(self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Only asked where there is a discriminator."""
        raise NotImplementedError


class Supervised(Objective):
    """Absolute error, its square, and the error of the steps between neighbours, which streaks are made of."""

    def generator_loss(
        self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor:
        error = (made - true) * counted
        size = error.abs()
        value = torch.where(size < SMOOTH_BELOW, size**2 / (2 * SMOOTH_BELOW), size - SMOOTH_BELOW / 2).mean()
        edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
        return value + (error**2).mean() / SQUARE_COUNTS_FROM + EDGE_WEIGHT * edges


class _Adversarial(Objective):
    conditional: bool

    def __init__(self, channels_given: int) -> None:
        self.discriminator = PatchDiscriminator(1 + channels_given if self.conditional else 1)

    def adversarial(self, made: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return softplus(-self._scores(made, given)).mean()

    def discriminator_loss(self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return softplus(self._scores(made, given)).mean() + softplus(-self._scores(true, given)).mean()

    def _scores(self, images: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        assert self.discriminator is not None
        scores: torch.Tensor = self.discriminator(torch.cat([images, given], 1) if self.conditional else images)
        return scores


class CtArtifactGan(_Adversarial):
    """Squared error and structural similarity, with a discriminator of clean slices."""

    conditional = False

    def generator_loss(
        self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor:
        seen, wanted = made * counted, true * counted
        likeness = structural_similarity(seen, wanted)
        squared = ((seen - wanted) ** 2).mean() / SSIM_RANGE**2
        return squared + 0.1 * (1 - likeness) + ADVERSARIAL_WEIGHT * self.adversarial(seen, given)


class Pix2Pix(_Adversarial):
    """Absolute error, with a discriminator that sees the generator's input beside its output (Isola et al. 2017)."""

    conditional = True

    def generator_loss(
        self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor:
        error = l1_loss(made * counted, true * counted)
        return error + self.adversarial(made * counted, given) / L1_TO_ADVERSARIAL


def structural_similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean structural similarity (Wang et al. 2004) over square windows, of (images, 1, rows, columns) in 1000 HU."""

    def mean(images: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(images, SSIM_WINDOW, stride=1)

    small, smaller = (0.03 * SSIM_RANGE) ** 2, (0.01 * SSIM_RANGE) ** 2
    means = mean(first), mean(second)
    variances = mean(first**2) - means[0] ** 2, mean(second**2) - means[1] ** 2
    covariance = mean(first * second) - means[0] * means[1]
    light = (2 * means[0] * means[1] + smaller) / (means[0] ** 2 + means[1] ** 2 + smaller)
    structure = (2 * covariance + small) / (variances[0].clamp(min=0) + variances[1].clamp(min=0) + small)
    return (light * structure).mean()


OBJECTIVES: Mapping[str, Callable[[int], Objective]] = MappingProxyType(
    {"supervised": lambda channels: Supervised(), "ct_artifact_gan": CtArtifactGan, "pix2pix": Pix2Pix}
)


class WithFaintLesions(Objective):
    """An objective for batches whose second half is the first with faint lesions added (Crops.paired_batch).

    Adds the error of what the lesions change in the result, in and round them: noise and streaks are the same in both
    halves and cancel, so that a lesion as faint as the noise still counts.
    """

    def __init__(self, inner: Objective) -> None:
        self._inner = inner
        self.discriminator = inner.discriminator

    def generator_loss(
        self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor:
        lesion, kept = second_less_first(true), second_less_first(made)
        near = max_pool2d((lesion != 0).float(), FAINT_REACH, stride=1, padding=FAINT_REACH // 2)
        error = avg_pool2d((kept - lesion) * counted.chunk(2)[0], FAINT_WINDOW, stride=1, padding=FAINT_WINDOW // 2)
        faint = (error.abs() * near).sum() / (near.sum() + 1)
        return self._inner.generator_loss(made, true, given, counted) + FAINT_WEIGHT * faint

    def discriminator_loss(self, made: torch.Tensor, true: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return self._inner.discriminator_loss(made, true, given)


def second_less_first(images: torch.Tensor) -> torch.Tensor:
    """What the second half of the batch has more than the first."""
    first, second = images.chunk(2)
    return second - first
