"""Speech encoders from Hugging Face as features: frozen, their layers' means over time.

wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021), WavLM (Chen et al. 2022), Whisper's encoder (Radford et
al. 2023), or any model of transformers that takes sound and gives hidden states. The mean over time commutes with
the mean over layers, so the cache keeps every layer's mean, (layers + 1, D) a clip, and weights are applied when it
is read: other ``features.layer_weights`` compute nothing again.

torch and transformers (the extra ``ssl``) are imported when the first clip is computed; what the encoder is, its
shape and its identity, is read from its files.
"""

from __future__ import annotations

import hashlib
import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import ConfigError
from p2pser.config import FeatureSettings
from p2pser.features import cache

Array = NDArray[np.float32]

LONGEST = 30.0
"""Of a longer clip only the middle is heard [s]: Whisper hears no more, the others' memory grows with its square."""

_NEEDED = ["config.json", "preprocessor_config.json"]
_WEIGHTS = ("*.safetensors", "*.bin")
_INSTALL = "features.kind ssl needs the extra: pip install 'p2pser[ssl]'"


def _chosen(settings: FeatureSettings) -> str:
    if settings.encoder is None:
        raise ConfigError("features.kind ssl needs an encoder: set features.encoder to a Hugging Face name, such as "
                          "facebook/hubert-base-ls960, or to a folder that holds one")
    return settings.encoder


@lru_cache(maxsize=8)
def folder(encoder: str, revision: str | None) -> Path:
    """Return where an encoder's files lie, fetched first where they are not on this machine.

    Raises ConfigError where they cannot be had, or the folder holds no encoder.
    """
    local = Path(encoder).expanduser()
    if local.is_dir():
        found = local
    elif local.is_absolute() or encoder.startswith((".", "~")):
        raise ConfigError(f"features.encoder: there is no folder {encoder}")
    else:
        found = _fetched(encoder, revision)
    for name in _NEEDED:
        if not (found / name).is_file():
            raise ConfigError(f"features.encoder {encoder}: it has no {name}; a speech encoder is a folder written by "
                              "save_pretrained of a model and of its feature extractor")
    if not weights(found):
        raise ConfigError(f"features.encoder {encoder}: it has no weights (model.safetensors)")
    return found


def weights(where: Path) -> list[Path]:
    """Return the files of an encoder's weights, sorted: safetensors, else torch's, where there are none."""
    return next((files for pattern in _WEIGHTS if (files := sorted(where.glob(pattern)))), [])


def _fetched(encoder: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise ConfigError(_INSTALL) from None
    try:
        for pattern in _WEIGHTS:
            found = Path(snapshot_download(encoder, revision=revision, allow_patterns=[*_NEEDED, "*.json", pattern],
                                           ignore_patterns=["*fp32*", "*optimizer*", "training_args.bin"]))
            if weights(found):
                break
    except HFValidationError:
        raise ConfigError(f"features.encoder {encoder!r} is neither a folder nor a Hugging Face name") from None
    except Exception as error:  # the hub's client passes on those of its HTTP library too
        why = "there is no network" if isinstance(error, LocalEntryNotFoundError | OSError) else type(error).__name__
        at = f" at {revision}" if revision else ""
        raise ConfigError(
            f"the encoder {encoder}{at} is not on this machine and could not be fetched from Hugging Face ({why}): "
            f"check its name, or fetch it where there is a network (hf download {encoder}) and set features.encoder "
            "to its folder") from None
    return found


@lru_cache(maxsize=8)
def _description(where: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((where / "config.json").read_text(encoding="utf-8"))
    return document


def shape(settings: FeatureSettings) -> tuple[int, int]:
    """Return the shape of a clip's layer means: (layers + 1, D), the first the input of the first layer.

    Raises ConfigError where the encoder cannot be had, or ``layer_weights`` are not as many.
    """
    encoder = _chosen(settings)
    document = _description(folder(encoder, settings.revision))
    layers = document.get("encoder_layers", document.get("num_hidden_layers"))
    size = document.get("d_model", document.get("hidden_size"))
    if not isinstance(layers, int) or not isinstance(size, int):
        raise ConfigError(f"features.encoder {encoder}: its config.json says neither how many layers it has nor how "
                          "wide they are; it is not a speech encoder that p2pser knows")
    if settings.layer_weights and len(settings.layer_weights) != layers + 1:
        raise ConfigError(f"features.layer_weights has {len(settings.layer_weights)} weights; {encoder} has {layers} "
                          f"layers and needs {layers + 1}, the first for their input")
    return layers + 1, size


@lru_cache(maxsize=8)
def _content(where: Path) -> str:
    index = cache.Index()
    digest = hashlib.blake2b(digest_size=8)
    for path in [*(where / name for name in _NEEDED), *weights(where)]:
        known = index.find(path)
        if known is None:
            state = path.stat()
            known = cache.content_digest(path)
            index.remember(path, known, (state.st_size, state.st_mtime_ns))
        digest.update(f"{path.name} {known}\n".encode())
    index.write()
    return digest.hexdigest()


def identity(settings: FeatureSettings) -> str:
    """Return the digest of what an encoder is: the same for a name and for a copy of it in a folder.

    Raises ConfigError where it cannot be had.
    """
    return _content(folder(_chosen(settings), settings.revision))


@lru_cache(maxsize=2)
def _loaded(where: Path) -> tuple[Any, Any]:
    """Return the feature extractor and the encoder, in evaluation mode."""
    try:
        import torch
        import transformers
    except ImportError:
        raise ConfigError(_INSTALL) from None
    transformers.utils.logging.disable_progress_bar()
    # What a checkpoint has besides the encoder (a decoder, heads) is no news.
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        prepare = transformers.AutoFeatureExtractor.from_pretrained(where, local_files_only=True)
        model = transformers.AutoModel.from_pretrained(where, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"the encoder in {where} cannot be loaded: {' '.join(str(error).split())}") from None
    finally:
        logger.setLevel(level)
    return prepare, (model.get_encoder() if model.config.is_encoder_decoder else model).eval()


def compute(signal: Array, settings: FeatureSettings) -> Array:
    """Return the mean over time of each layer (layers + 1, D) float32 of a signal (samples,), full scale 1.

    Raises ConfigError where the encoder cannot be had or hears another ``sample_rate``.
    """
    count, size = shape(settings)
    where = folder(_chosen(settings), settings.revision)
    prepare, model = _loaded(where)
    import torch

    if prepare.sampling_rate != settings.sample_rate:
        raise ConfigError(f"the encoder {settings.encoder} hears {prepare.sampling_rate} samples a second, not "
                          f"{settings.sample_rate}: set features.sample_rate={prepare.sampling_rate}")
    wanted = round(LONGEST * settings.sample_rate)
    if signal.size > wanted:
        start = (signal.size - wanted) // 2
        signal = signal[start : start + wanted]
    inputs = prepare(signal, sampling_rate=settings.sample_rate, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states
    steps = int(states[0].shape[1])
    if "input_features" in inputs and getattr(prepare, "n_samples", None):
        # Whisper always hears 30 s: the silence after a shorter clip does not count.
        steps = max(1, min(steps, -(-steps * signal.size // int(prepare.n_samples))))
    means = torch.stack([state[0, :steps].mean(dim=0) for state in states]).numpy().astype(np.float32)
    if means.shape != (count, size):
        raise ConfigError(f"the encoder {settings.encoder} gives {means.shape[0]} layers of {means.shape[1]} where its "
                          f"config.json says {count} of {size}")
    return np.nan_to_num(means, nan=0.0, posinf=0.0, neginf=0.0)


def names(settings: FeatureSettings) -> list[str]:
    """Return the names of the D features of ``weighted``; raises ConfigError where the encoder cannot be had."""
    return [f"ssl.{k}" for k in range(shape(settings)[1])]


def weighted(means: Array, settings: FeatureSettings) -> Array:
    """Return the mean (D,) float32 of the layers' means (layers + 1, D), weighted by ``settings.layer_weights``."""
    if not settings.layer_weights:
        share = np.ones(len(means), dtype=np.float64)
    else:
        share = np.asarray(settings.layer_weights, dtype=np.float64)
    found: Array = (share / share.sum() @ means).astype(np.float32)
    return found
