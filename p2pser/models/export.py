"""A model as ONNX: a file for other programs (``export``), or a model directory for p2pser without torch
(``export_light``).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from p2pser import models
from p2pser.base import seeding
from p2pser.base.atomic import new_folder, put
from p2pser.base.errors import ModelError
from p2pser.base.version import __version__
from p2pser.base.wording import extra
from p2pser.config import FeatureSettings
from p2pser.features import clip_features, filters, matrices
from p2pser.features.normalisation import LIMIT
from p2pser.features.unlike import FLATTENING
from p2pser.models import directory, onnx_network
from p2pser.models.directory import NETWORK, Card
from p2pser.models.inference import logits

OPSET = 18
"""Version of the ONNX operators."""

EQUAL = 1e-4
"""The largest difference between the outputs of torch and ONNX Runtime, relative to the largest output if above 1."""


class LogMel(nn.Module):
    """Samples (n, seconds * rate) float32, full scale 1, to log-mel matrices (n, bands, frames), as
    ``p2pser.features.matrices`` computes them from clips of that length.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__()
        window = filters.hann(round(matrices.WINDOW * settings.sample_rate))
        self.size, self.hop = window.size, round(settings.hop * settings.sample_rate)
        self.frames = matrices.frames(settings.seconds, settings.hop)
        n_fft = 1 << (window.size - 1).bit_length()
        turns = np.outer(np.arange(n_fft // 2 + 1), np.arange(window.size)) * (2 * np.pi / n_fft)
        # A discrete Fourier transform as a convolution: not all ONNX runtimes have a fast Fourier transform.
        self.waves = _constant(np.concatenate([np.cos(turns), -np.sin(turns)]) * window).unsqueeze(1)
        self.bank = _constant(filters.mel(settings.sample_rate, n_fft, settings.n_mels))

    def forward(self, samples: Tensor) -> Tensor:
        padded = nn.functional.pad(samples, (self.size // 2, self.size - self.size // 2 + self.hop))
        spectrum = nn.functional.conv1d(padded.unsqueeze(1), self.waves, stride=self.hop)[:, :, : self.frames]
        real, imaginary = spectrum.chunk(2, dim=1)
        power = self.bank @ (real.square() + imaginary.square())
        mel = 10 * torch.log10(power + matrices.FLOOR)
        return torch.maximum(mel, mel.amax((1, 2), keepdim=True) - matrices.RANGE)


class Whole(nn.Module):
    """Log-mel features (where the input is samples), normalisation by the card's statistics, the network, its outputs.

    Returns logits (n, classes) and probabilities where the model has labels, and dimensions (n, 3) where it has them.
    """

    def __init__(self, network: nn.Module, card: Card, front: nn.Module | None) -> None:
        super().__init__()
        self.front, self.network = front, network
        self.classes, self.dimensions = len(card.labels), len(card.dimensions)
        self.temperature = card.temperature_for(0)
        self.mean: Tensor | None = None
        self.scale: Tensor | None = None
        if card.normalise != "none" and card.statistics is not None:
            trailing = (-1,) + (1,) * (len(card.shape) - 1)
            std = card.statistics.std
            self.mean = _constant(card.statistics.mean).view(trailing)
            self.scale = _constant(np.divide(1.0, std, out=np.zeros_like(std), where=std > 0)).view(trailing)

    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        if self.front is not None:
            values = self.front(values)
        if self.mean is not None and self.scale is not None:
            values = ((values - self.mean) * self.scale).clamp(-LIMIT, LIMIT)
        outputs = self.network(values)
        logits = outputs[:, : self.classes]
        temperature: float | Tensor = self.temperature
        if self.mean is not None and values.dim() == 2:
            temperature = temperature * values.square().mean(1, keepdim=True).sqrt().clamp(min=1) ** FLATTENING
        emotions = (logits, torch.softmax(logits / temperature, 1)) if self.classes else ()
        return (*emotions, outputs[:, -self.dimensions :].clamp(-1, 1)) if self.dimensions else emotions


def _constant(values: Any) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32).copy())


def has_front_end(card: Card) -> bool:
    """Whether the file computes the features: log-mel of clips without level or trimming."""
    settings = card.features
    return settings.kind == "logmel" and settings.level == "none" and settings.trim is None


def export(network: nn.Module, card: Card, path: Path) -> dict[str, Any]:
    """Write ``path`` (.onnx) and a JSON file of the same name beside it; return the content of the JSON.

    The ONNX file holds the normalisation, the network and the softmax, and for log-mel the computation of the features;
    the JSON file describes its input and how it is computed.

    Raises ModelError where the extra or the training statistics are missing, or the file cannot be written.
    """
    if models.family(card.model).takes == "states":
        raise ModelError("a model of adapters cannot be written as ONNX: its speech encoder is not part of the model")
    if card.normalise != "none" and card.statistics is None:
        raise ModelError("the model's card has no training statistics, which the ONNX file would scale features by: "
                         "write a model directory for use without torch (--light)")
    _require_onnx()
    samples = has_front_end(card)
    shape = (round(card.features.seconds * card.features.sample_rate),) if samples else card.shape
    whole = Whole(network, card, LogMel(card.features) if samples else None).eval()
    names = ["logits", "probabilities"] * bool(card.labels) + ["dimensions"] * bool(card.dimensions)
    given = "samples" if samples else "features"
    document = _described(card, given, shape, names)
    properties = {key: value if isinstance(value, str) else json.dumps(value) for key, value in document.items()}
    try:
        put(path, _onnx(whole, shape, given, names, properties))
        text = json.dumps(document, ensure_ascii=False, indent=1)
        put(path.with_suffix(".json"), f"{text}\n".encode())
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror or error}") from None
    return document


def export_light(model: Path, out: Path) -> Card:
    """Write a model directory for an installation without torch: the card, and the network as ONNX; return the card.

    model : the model directory. out : the new directory, written whole or not at all.

    Raises ModelError where the model cannot be used or needs torch for its features, ``out`` exists or cannot be
    written, or the outputs of ONNX Runtime differ from torch's.
    """
    _require_onnx()
    network, card = directory.load(model)
    if clip_features.encoded(card.features):
        raise ModelError(f"{model} takes the features of an encoder ({card.features.kind}), which needs torch: it "
                         "cannot be written for use without torch")
    if out.exists():
        raise ModelError(f"{out} exists already; remove it, or write the model elsewhere")
    try:
        with new_folder(out) as folder:
            shutil.copyfile(model / directory.CARD, folder / directory.CARD)
            (folder / NETWORK).write_bytes(_onnx(
                network.eval(), card.shape, "features", ["outputs"],
                {"p2pser": __version__, "described_in": directory.CARD}))
            _require_equal(network, folder, card)
    except OSError as error:
        raise ModelError(f"cannot write the model {out}: {error.strerror or error}") from None
    return card


def _require_equal(network: nn.Module, folder: Path, card: Card) -> None:
    probe = seeding.generator(0, "comparing networks").standard_normal((3, *card.shape)).astype(np.float32)
    outputs, expected = onnx_network.load(folder, card).outputs(probe), logits(network, probe)
    difference = float(np.abs(outputs - expected).max())
    if difference > EQUAL * max(1.0, float(np.abs(expected).max())):
        raise ModelError(f"the outputs of ONNX Runtime differ from torch's by up to {difference:.2g}: use other "
                         "versions of both")


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        onnx_network.runtime()
    except ImportError:
        raise ModelError(f"writing ONNX needs the extra onnx: {extra('onnx')}") from None


def _onnx(network: nn.Module, shape: tuple[int, ...], given: str, names: list[str],
          properties: Mapping[str, str]) -> bytes:
    """Return a network for clips of this shape, with these names of its input and outputs, and these properties."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / NETWORK
        with warnings.catch_warnings(), torch.no_grad():
            # The other exporter takes minutes for recurrent networks, whose steps it unrolls.
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (torch.zeros(2, *shape),), str(file), input_names=[given], output_names=names,
                              dynamic_axes={name: {0: "clips"} for name in (given, *names)}, opset_version=OPSET,
                              dynamo=False)
        written = onnx.load(str(file))
    for key, value in properties.items():
        written.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(written)
    return bytes(written.SerializeToString())


def _described(card: Card, given: str, shape: tuple[int, ...], names: list[str]) -> dict[str, Any]:
    rate = card.features.sample_rate
    if given == "samples":
        how = (f"{shape[0]} samples a clip at {rate} Hz, mono, full scale 1: a longer clip's middle, a shorter clip in "
               "the middle of zeros")
    else:
        how = ("what p2pser.load(MODEL_DIR).features(samples) returns for samples (n,) at "
               f"{rate} Hz, mono, full scale 1; not scaled: that is in the file")
    if card.normalise == "speaker":
        how += ("; for a speaker with statistics m, s (p2pser.load(MODEL_DIR).enrol(CLIPS)) put in "
                "(features - m) / s * std + mean, with the card's mean and std")
    return {"p2pser": __version__, "opset": OPSET, "input": given, "input_shape": ["clips", *shape], "input_is": how,
            "outputs": names, "id2label": {str(k): label for k, label in enumerate(card.labels)},
            "dimensions": list(card.dimensions), "features": card.features.model_dump(mode="json"),
            "normalise": card.normalise, "warning": card.warning}
