"""Augmentation of training batches: SpecAugment, noise on features, mixup.

Every draw is a function of (seed, peer, round, local step), so that a resumed run, another layout of processes and the
simulator have the same batches. Copies of recordings are made in ``features.recording_copies``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import ConfigError
from p2pser.config import AugmentSettings, Config
from p2pser.training.losses import Targets


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of batches. classes : C. time_width : the longest masked stretch of time [frames]."""

    settings: AugmentSettings
    classes: int
    time_width: int = 1

    @classmethod
    def of(cls, config: Config, shape: tuple[int, ...], classes: int) -> Augmentation | None:
        """Return a run's augmentation of batches of clips of this shape; None where there is none.

        Raises ConfigError where masks are set and a clip's features are not a matrix.
        """
        chosen = config.augment
        if not (chosen.mixup or chosen.noise or chosen.time_masks or chosen.band_masks):
            return None
        if (chosen.time_masks or chosen.band_masks) and len(shape) != 2:
            raise ConfigError("augment.time_masks and augment.band_masks are for matrices, and features.kind="
                              f"{config.features.kind} gives features of shape {shape}: set them to 0")
        return cls(chosen, classes, max(1, round(chosen.time_width / config.features.hop)))

    def __call__(self, features: Tensor, targets: Targets, *, seed: int, peer: int, round: int,
                 step: int) -> tuple[Tensor, Targets]:
        """Return an augmented copy of a batch.

        Parameters
        ----------
        features : (n, …) float32, normalised.
        targets : of the n clips.
        seed, peer, round, step : key the draws.
        """
        chosen = self.settings
        draws = seeding.generator(seed, f"augment step {step}", peer, round)
        count = len(features)
        if chosen.time_masks or chosen.band_masks:
            masked = torch.from_numpy(self._masks(draws, *features.shape))
            # Features are normalised: 0 is their mean.
            features = features.masked_fill(masked, 0.0)
        if chosen.noise:
            noise = draws.standard_normal(features.shape, dtype=np.float32)
            features = features + torch.from_numpy(noise) * chosen.noise
        if chosen.mixup:
            share = torch.from_numpy(draws.beta(chosen.mixup, chosen.mixup, count).astype(np.float32))
            partner = torch.from_numpy(draws.permutation(count))
            weight = share.view(-1, *(1,) * (features.dim() - 1))
            features = weight * features + (1 - weight) * features[partner]
            targets = targets.mixed(share, partner, self.classes)
        return features, targets

    def _masks(self, draws: np.random.Generator, clips: int, bands: int, frames: int) -> NDArray[np.bool_]:
        """Return which entries (clips, bands, frames) are masked (Park et al. 2019, Interspeech, without warping).

        For each clip and mask a width is drawn from 0 to its limit, then its start.
        """
        chosen = self.settings
        masked = np.zeros((clips, bands, frames), dtype=bool)
        for masks, limit, size, axis in ((chosen.band_masks, chosen.band_width, bands, 1),
                                         (chosen.time_masks, self.time_width, frames, 2)):
            widths = draws.integers(0, min(limit, size) + 1, (clips, masks, 1))
            starts = np.floor(draws.random((clips, masks, 1)) * (size - widths + 1))
            places = np.arange(size)
            within: NDArray[np.bool_] = (places >= starts) & (places < starts + widths)
            hit = np.any(within, axis=1, keepdims=True)
            masked |= np.swapaxes(hit, 1, 2) if axis == 1 else hit
        return masked


def variants(copies: int, steps: int, size: int, *, seed: int, peer: int, round: int) -> NDArray[np.int64]:
    """Return the copy that each draw of a round takes.

    Parameters
    ----------
    copies : number of copies of each clip.
    steps, size : number of local steps, and of clips in each.
    seed, peer, round : key the draws.

    Returns
    -------
    (steps, size) int64: 0 for the recording itself, 1 … copies for its copies.
    """
    return seeding.generator(seed, "copies", peer, round).integers(0, copies + 1, (steps, size))
