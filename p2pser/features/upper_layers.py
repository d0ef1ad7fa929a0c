"""The upper layers of a speech encoder, run alone on the states below them, with changed weights.

Upper are the last of the layers that count: above them there may be others, which are not computed.

The layers are transformers' own, frozen: a change of a projection is an argument of the call and touches no module, so
that all learners of a process share one encoder.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.features import encoders
from p2pser.features.kind import Array

if TYPE_CHECKING:
    from torch import Tensor, nn

ATTENTION = {"whisper": "self_attn", "hubert": "attention", "wav2vec2": "attention"}
"""The types of encoders (``model_type`` of config.json) whose upper layers run alone, and the name of the attention."""

PROJECTIONS = ("q_proj", "v_proj")
"""The projections that are changed, as in Hu et al. 2022."""


@dataclass(frozen=True)
class Layout:
    """Where things are in a clip's features (F, 1, 2 + more), F = (layers + 1) D.

    Column 0 has the mean over time of each layer, and column 1 ones: normalisation turns them into standard scores and
    into their slopes. The others hold the number of positions that hear the clip, the mean over time of each upper
    layer on the kept positions, and the states below the upper layers; then zeros.

    layers : that count, from below. size : D. upper : number of upper layers among them. positions : that are
    kept, at most.
    """

    layers: int
    size: int
    upper: int
    positions: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a clip's features."""
        features = (self.layers + 1) * self.size
        return features, 1, 2 + math.ceil((1 + (self.upper + self.positions) * self.size) / features)

    def pack(self, means: Array, upper: Array, states: Array) -> Array:
        """Return a clip's features of the layers' means (layers + 1, D), those of the upper layers on the kept
        positions (upper, D), and the kept states (kept, D).
        """
        packed = np.zeros(self.shape, dtype=np.float32)
        packed[:, 0, 0], packed[:, 0, 1] = means.ravel(), 1.0
        rest = np.concatenate([[len(states)], upper.ravel(), states.ravel()]).astype(np.float32)
        more = np.zeros(packed[:, 0, 2:].size, dtype=np.float32)
        more[: rest.size] = rest
        packed[:, 0, 2:] = more.reshape(len(packed), -1)
        return packed

    def unpack(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the parts of clips (n, *shape): scores and slopes (n, layers + 1, D), positions (n,) int64, means of
        the upper layers (n, upper, D), states (n, positions, D). Clips of zeros stand for clips of any length.
        """
        import torch

        count, end = len(clips), 1 + self.upper * self.size
        rest = clips[:, :, 0, 2:].reshape(count, -1)
        scores, slopes = (clips[:, :, 0, column].view(count, self.layers + 1, self.size) for column in (0, 1))
        states = rest[:, end : end + self.positions * self.size].view(count, self.positions, self.size)
        heard = rest[:, 0].round().long().clamp(max=self.positions)
        return (scores, slopes, torch.where(heard > 0, heard, self.positions),
                rest[:, 1:end].view(count, self.upper, self.size), states)


@lru_cache(maxsize=8)
def layout(path: Path, wanted: int, upper: int, seconds: float) -> Layout:
    """Return the layout for an encoder, from its config.json.

    Parameters
    ----------
    path : the encoder's folder.
    wanted : number of layers that count; 0: those of the lower two thirds.
    upper : number of upper layers among them.
    seconds : of a clip whose states are kept.

    Raises ConfigError where its type cannot be adapted, or it has too few layers.
    """
    all_layers, size = encoders.layers_and_size(path)
    layers = wanted or encoders.lower(all_layers)
    document: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    kind = document.get("model_type")
    if kind not in ATTENTION:
        raise ConfigError(f"the upper layers of an encoder of type {kind} cannot be adapted (known: "
                          f"{', '.join(sorted(ATTENTION))}): use features.kind=ssl, or another encoder")
    for name, value, most in (("layers", layers, all_layers), ("upper", upper, layers)):
        if not 1 <= value <= most:
            raise ConfigError(f"features.parameters.{name} = {value} must be 1 to {most} for this encoder of "
                              f"{all_layers} layers")
    if kind == "whisper":
        rate = document["max_source_positions"] / encoders.LONGEST
    else:
        prepare = json.loads((path / "preprocessor_config.json").read_text(encoding="utf-8"))
        rate = prepare.get("sampling_rate", 16000) / math.prod(document["conv_stride"])
    return Layout(layers, size, upper, math.ceil(seconds * rate))


@dataclass(frozen=True)
class Upper:
    """The upper layers of an encoder, and the norm that follows them where they are its last, else None."""

    layers: tuple[nn.Module, ...]
    norm: nn.Module | None
    attention: str

    def weight(self, layer: int, projection: str) -> Tensor:
        """Return the weight (D, D) of a projection of an upper layer."""
        value: Tensor = self.layers[layer].get_parameter(f"{self.attention}.{projection}.weight")
        return value

    def __call__(self, states: Tensor, heard: Tensor,
                 changes: Sequence[Mapping[str, Tensor]] = ()) -> list[Tensor]:
        """Return the output of each upper layer, each (n, T, D), for clips of which the first positions count.

        Parameters
        ----------
        states : (n, T, D), the input of the first of them.
        heard : (n,) how many positions of each clip count: others are not attended to.
        changes : for each layer, what is added to the weight of each projection, (D, D).
        """
        import torch
        from torch.func import functional_call

        steps = states.shape[1]
        hidden = torch.arange(steps) >= heard.unsqueeze(1)
        mask = torch.zeros(hidden.shape).masked_fill(hidden, torch.finfo(torch.float32).min)
        mask = mask[:, None, None, :].expand(-1, 1, steps, -1)
        outputs = []
        for number, layer in enumerate(self.layers):
            changed = {f"{self.attention}.{name}.weight": self.weight(number, name) + change
                       for name, change in (changes[number] if changes else {}).items()}
            output: Any = functional_call(layer, changed, (states,), {"attention_mask": mask, **_others(layer)})
            states = output[0] if isinstance(output, tuple) else output
            outputs.append(states)
        if self.norm is not None:
            outputs[-1] = self.norm(states)
        return outputs

    def means(self, states: Array) -> Array:
        """Return the mean over time of each layer (upper, D) for one clip's states (T, D), unchanged."""
        import torch

        with torch.no_grad():
            outputs = self(torch.from_numpy(states).unsqueeze(0), torch.tensor([len(states)]))
            averages: Array = torch.stack([output[0].mean(dim=0) for output in outputs]).numpy()
            return averages


def _others(layer: nn.Module) -> dict[str, Any]:
    """Return further arguments that a layer asks for, in older versions of transformers."""
    return {"layer_head_mask": None} if "layer_head_mask" in inspect.signature(layer.forward).parameters else {}


def require() -> None:
    """Raise ConfigError where transformers, which runs the layers, is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise ConfigError(encoders.INSTALL)


@lru_cache(maxsize=2)
def load(path: Path, layers: int, upper: int) -> Upper:
    """Return the last ``upper`` of the first ``layers`` layers of the encoder in a folder, frozen; the others are given
    back.

    torch's global generator stays as it is. Raises ConfigError where it cannot be loaded.
    """
    import torch

    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.device("cpu"):
        encoder = encoders.model(path)
        kind = encoder.config.model_type
        inner = encoder if kind == "whisper" else encoder.encoder
        follows = layers == len(inner.layers) and (kind == "whisper" or encoder.config.do_stable_layer_norm)
        last = inner.layer_norm if follows else None
        model = Upper(tuple(inner.layers)[layers - upper : layers], last, ATTENTION[kind])
        for module in (*model.layers, *([] if last is None else [last])):
            for parameter in module.eval().parameters():
                # A copy of its own: the files' alignment is not torch's, and products would differ in the last bits.
                parameter.data, parameter.requires_grad = parameter.detach().clone(), False
        return model
