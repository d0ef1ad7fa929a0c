"""The means of a speech encoder's layers over time."""

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
    """A frozen speech encoder's layers, averaged over time.

    By default three layers stand side by side: those at a third, at half and at two thirds of the encoder's depth (2, 3
    and 4 of Whisper base's six). How something was spoken is found in the middle, what was said at the end, and the
    layers tell more side by side than their mean does (benchmarks/encoder_layers.py). ``layer_weights`` ask for a mean
    over layers instead.

    The cache keeps the mean over time of each layer, (layers + 1, D) a clip, so that other ``layer_weights`` need no
    new computation, unless they weigh a layer above those that count by default, where the encoder's computation ends.
    """

    version = 4

    encoder: str | None
    revision: str | None
    layer_weights: tuple[float, ...]

    def compute(self, signal: Array) -> Array:
        """Return the mean over time of the cached layers (layers + 1, D) of a signal (samples,).

        Raises ConfigError where the encoder is not available or needs another ``sample_rate``.
        """
        rows, size = self.cached_shape()
        means = encoders.means(encoders.states(self._folder(), signal, self.sample_rate, rows - 1))
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
        """Return a clip's vector from its layers' means (layers + 1, D): the default layers side by side, (3 D,), or
        the mean (D,) that is weighted by ``layer_weights``.
        """
        if not self.layer_weights:
            return cached[list(self._layers())].reshape(-1).astype(np.float32)
        weights = np.array(self.layer_weights[: len(cached)], dtype=np.float64)
        mean: Array = (weights / weights.sum() @ cached).astype(np.float32)
        return mean

    def names(self) -> list[str]:
        """Return the names of the features. Raises ConfigError where the encoder is not available."""
        size = self.cached_shape()[1]
        if self.layer_weights:
            return [f"ssl.{k}" for k in range(size)]
        return [f"ssl{layer}.{k}" for layer in self._layers() for k in range(size)]

    def source(self) -> str:
        """Return the digest of the encoder's files. Raises ConfigError where it is not available."""
        return encoders.identity(self._folder())

    def cache_settings(self) -> dict[str, Any]:
        """Return the sample rate and the number of layers: ``source`` stands for the encoder, and the weights are
        applied later.
        """
        return {"sample_rate": self.sample_rate, "layers": self.cached_shape()[0] - 1}

    def _layers(self) -> tuple[int, ...]:
        return encoders.middle(encoders.layers_and_size(self._folder())[0])

    def _folder(self) -> Path:
        return encoders.required("ssl", self.encoder, self.revision)
