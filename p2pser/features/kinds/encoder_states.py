"""The states of a speech encoder below its upper layers, and the means of all layers: what adapters are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pser.base.registries import FEATURES
from p2pser.features import encoders, upper_layers
from p2pser.features.kind import Array, FeatureKind


@FEATURES.register("encoder-states")
@dataclass(frozen=True, kw_only=True)
class EncoderStates(FeatureKind):
    """The states of a frozen speech encoder below its upper layers, which ``model.name=adapter`` changes.

    The lower layers hear the whole clip (up to 30 s) once, and the cache keeps what the upper layers need: the vector
    is the mean over time of each layer, as ``ssl`` has it, and attached to it are the states of the clip's first
    ``features.seconds``. So a training step costs the upper layers alone, on no more positions than that.
    """

    attached = True

    encoder: str | None
    revision: str | None
    seconds: float

    layers: int = 0
    """number of the encoder's layers that count, from below; 0: those of the lower two thirds, as in ssl"""

    upper: int = 2
    """number of these layers, from above, that can be adapted"""

    def layout(self) -> upper_layers.Layout:
        """Return where things are in a clip's features. Raises ConfigError where the encoder is not available, is of a
        type that cannot be adapted, or has too few layers.
        """
        return upper_layers.layout(self._folder(), self.layers, self.upper, self.seconds)

    def compute(self, signal: Array) -> Array:
        """Return what ``Layout.pack`` makes of a signal's (samples,) states. Errors as ``layout``."""
        layout, folder = self.layout(), self._folder()
        hidden = encoders.states(folder, signal, self.sample_rate, layout.layers)
        cut = hidden[layout.layers - layout.upper, : layout.positions]
        means = upper_layers.load(folder, layout.layers, layout.upper).means(cut)
        return layout.pack(encoders.means(hidden), means, cut)

    def names(self) -> list[str]:
        """Return a name for each of the layers' means."""
        layout = self.layout()
        return [f"layer{layer}.{k}" for layer in range(layout.layers + 1) for k in range(layout.size)]

    def shape(self) -> tuple[int, ...]:
        """Return (F, 1, 2 + more), F = (layers + 1) D."""
        return self.layout().shape

    def source(self) -> str:
        """Return the digest of the encoder's files. Raises ConfigError where it is not available."""
        return encoders.identity(self._folder())

    def cache_settings(self) -> dict[str, Any]:
        """Return what the values depend on: ``source`` stands for the encoder."""
        return {"sample_rate": self.sample_rate, "seconds": self.seconds, "upper": self.upper,
                "layers": self.layout().layers}

    def _folder(self) -> Path:
        return encoders.required("encoder-states", self.encoder, self.revision)
