"""The mean of a self-supervised speech encoder's layers over time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.base.registries import FEATURES
from p2pser.features import encoders
from p2pser.features.kind import Array, FeatureKind


@FEATURES.register("ssl")
@dataclass(frozen=True, kw_only=True)
class SpeechEncoder(FeatureKind):
    """A frozen speech encoder's layers, averaged over time and over layers.

    The mean over time commutes with the mean over layers, so the cache keeps each layer's mean, (layers + 1, D) a
    clip, and ``finish`` applies the weights: other ``layer_weights`` need no new computation, unless they weigh a layer
    above those that the default weighs. The encoder is computed no further than that.

    By default the layers of the lower two thirds count alike, their input not: how something was spoken is found in the
    middle (of Whisper's six layers the last two tell least of the emotion), what was said at the end.
    """

    version = 3

    encoder: str | None
    revision: str | None
    layer_weights: tuple[float, ...]

    def compute(self, signal: Array) -> Array:
        """Return the mean over time of the cached layers (layers + 1, D) of a signal (samples,).

        Raises ConfigError where the encoder is not available or needs another ``sample_rate``.
        """
        rows, size = self.cached_shape()
        means = encoders.layer_means(self._folder(), signal, self.sample_rate, rows - 1)
        if means.shape != (rows, size):
            raise ConfigError(f"the encoder {self.encoder} gives layers of {means.shape[1]} where its config.json says "
                              f"{size}")
        return means

    def cached_shape(self) -> tuple[int, ...]:
        """Return (layers + 1, D), the first row for the input of the first layer.

        Raises ConfigError where the encoder is not available or the number of ``layer_weights`` is another.
        """
        layers, size = encoders.layers_and_size(self._folder())
        if self.layer_weights and len(self.layer_weights) != layers + 1:
            raise ConfigError(f"features.layer_weights has {len(self.layer_weights)} weights; {self.encoder} has "
                              f"{layers} layers and needs {layers + 1}, the first for their input")
        weighted = [layer for layer, weight in enumerate(self.layer_weights) if weight]
        return max([encoders.lower(layers), *weighted]) + 1, size

    def finish(self, cached: Array) -> Array:
        """Return the mean (D,) of the layers' means (layers + 1, D), weighted by ``layer_weights``."""
        weights = np.zeros(len(cached), dtype=np.float64)
        if self.layer_weights:
            weights += self.layer_weights[: len(cached)]
        else:
            weights[1:] = 1.0
        mean: Array = (weights / weights.sum() @ cached).astype(np.float32)
        return mean

    def names(self) -> list[str]:
        """Return the names of the D features. Raises ConfigError where the encoder is not available."""
        return [f"ssl.{k}" for k in range(self.cached_shape()[1])]

    def source(self) -> str:
        """Return the digest of the encoder's files. Raises ConfigError where it is not available."""
        return encoders.identity(self._folder())

    def cache_settings(self) -> dict[str, Any]:
        """Return the sample rate and the number of layers: ``source`` stands for the encoder, and the weights are
        applied later.
        """
        return {"sample_rate": self.sample_rate, "layers": self.cached_shape()[0] - 1}

    def _folder(self) -> Path:
        if self.encoder is None:
            raise ConfigError("features.kind ssl needs an encoder: set features.encoder to a Hugging Face name, such "
                              "as facebook/hubert-base-ls960, or to a folder that holds one")
        return encoders.folder(self.encoder, self.revision)
