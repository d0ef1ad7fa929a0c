"""The family ``adapter``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.registries import FAMILIES
from p2pser.models.family import Family, above

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import Config, ModelSettings

POOLING = ("mean", "attention")


@FAMILIES.register("adapter")
@dataclass(frozen=True, kw_only=True)
class Adapter(Family):
    """Low-rank adapters in the upper layers of a frozen speech encoder, a weight for each layer, pooling and a head.

    The projections of queries and values become W + (alpha / rank) B A, with A (rank, D) drawn and B (D, rank) zero at
    the start (E. J. Hu, Y. Shen, P. Wallis, Z. Allen-Zhu, Y. Li, S. Wang, L. Wang, W. Chen, "LoRA: Low-Rank Adaptation
    of Large Language Models", ICLR 2022). The layers' means over time, as standard scores, are summed with learned
    weights, and an mlp is the head. So training starts as that of an mlp on frozen features. A row holds A, B, the
    weights, the pooling and the head: the encoder is never sent, and peers compare its digest in HELLO.
    """

    takes = "states"
    preload = ("transformers.models.auto.modeling_auto", "transformers.models.whisper.modeling_whisper",
               "p2pser.models.networks.adapter", "p2pser.features.kinds.encoder_states")
    uses = ("hidden", "dropout")
    defaults: ClassVar[Mapping[str, Any]] = {"features.kind": "encoder-states", "training.optimizer": "adamw",
                                             "training.lr": 0.002}

    rank: int = 8
    """rank of the changes; 0: none, the encoder is not changed"""

    alpha: float = 16.0
    """the changes are multiplied by alpha / rank"""

    pooling: str = "mean"
    """over time, of the upper layers: mean, or attention with a learned query"""

    encoder: str = ""
    """identity of the encoder; the run sets it"""

    layers: int = 0
    """number of the encoder's layers that count; the run sets it"""

    upper: int = 0
    """number of the upper layers; the run sets it, to features.parameters.upper"""

    positions: int = 0
    """positions of a clip that the upper layers read; the run sets it"""

    def __post_init__(self) -> None:
        if self.pooling not in POOLING:
            raise ConfigError(f"model.parameters.pooling = {self.pooling!r} must be {' or '.join(POOLING)}")
        if self.rank < 0:
            raise ConfigError(f"model.parameters.rank = {self.rank} must be 0 or more")
        above("adapter", alpha=self.alpha)

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        from p2pser.features import encoders
        from p2pser.features.upper_layers import Layout
        from p2pser.models.networks.adapter import AdaptedEncoder

        if not self.encoder:
            raise ModelError("the family 'adapter' is built for a run only, which sets its encoder")
        path = encoders.folder(self.encoder, None)
        layout = Layout(self.layers, encoders.layers_and_size(path)[1], self.upper, self.positions)
        if layout.shape != tuple(shape):
            raise ModelError(f"the features of the model's encoder have the shape {layout.shape}, not {tuple(shape)}: "
                             "do not set model.parameters.encoder, layers, upper and positions, which the run sets")
        return AdaptedEncoder(path, layout, self.rank, self.alpha, self.pooling, model.hidden, outputs, model.dropout)

    def for_run(self, config: Config, peers: int) -> Config:
        """Return the settings with the encoder's identity and the layout of the features.

        Raises ConfigError where the features are of another kind, or the encoder or transformers is missing.
        """
        from p2pser.features.kind import kinds_of
        from p2pser.features.kinds.encoder_states import EncoderStates
        from p2pser.features.upper_layers import require

        kind = kinds_of(config.features)[0]
        if not isinstance(kind, EncoderStates):
            raise ConfigError(f"model.name=adapter takes features.kind=encoder-states, not {config.features.kind}: set "
                              "it so, and features.encoder to a speech encoder")
        require()
        layout = kind.layout()
        return config.with_parameters(asdict(replace(
            self, encoder=f"@{kind.source()}", layers=layout.layers, upper=layout.upper, positions=layout.positions)))
