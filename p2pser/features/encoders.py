"""Speech encoders from Hugging Face: where their files are, what they are, and the means of their layers.

wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021), WavLM (Chen et al. 2022), Whisper's encoder (Radford et
al. 2023), or any model of transformers that takes sound and returns hidden states.

torch and transformers (the extra ``ssl``) are imported when the first clip is computed; the shape and the identity of
an encoder are read from its files.
"""

from __future__ import annotations

import hashlib
import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.features import cache
from p2pser.features.kind import Array

LONGEST = 30.0
"""Longest input [s]: of a longer clip the middle is taken. Whisper takes no more; the memory of the others grows with
its square."""

_NEEDED = ["config.json", "preprocessor_config.json"]
_WEIGHTS = ("*.safetensors", "*.bin")
_INSTALL = "features.kind ssl needs the extra: pip install 'p2pser[ssl]'"


# -- files ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def folder(encoder: str, revision: str | None) -> Path:
    """Return the folder of an encoder's files, which are downloaded first where they are not on this machine.

    Raises ConfigError where they are not available, or the folder holds no encoder.
    """
    local = Path(encoder).expanduser()
    if local.is_dir():
        path = local
    elif local.is_absolute() or encoder.startswith((".", "~")):
        raise ConfigError(f"features.encoder: there is no folder {encoder}")
    else:
        path = _download(encoder, revision)
    for name in _NEEDED:
        if not (path / name).is_file():
            raise ConfigError(f"features.encoder {encoder}: it has no {name}; a speech encoder is a folder written by "
                              "save_pretrained of a model and of its feature extractor")
    if not weights(path):
        raise ConfigError(f"features.encoder {encoder}: it has no weights (model.safetensors)")
    return path


def weights(path: Path) -> list[Path]:
    """Return the weight files of an encoder, sorted: safetensors, or torch's where there are none."""
    return next((files for pattern in _WEIGHTS if (files := sorted(path.glob(pattern)))), [])


def _download(encoder: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise ConfigError(_INSTALL) from None
    try:
        for pattern in _WEIGHTS:
            path = Path(snapshot_download(encoder, revision=revision, allow_patterns=[*_NEEDED, "*.json", pattern],
                                          ignore_patterns=["*fp32*", "*optimizer*", "training_args.bin"]))
            if weights(path):
                break
    except HFValidationError:
        raise ConfigError(f"features.encoder {encoder!r} is neither a folder nor a Hugging Face name") from None
    except Exception as error:  # the hub's client passes on the errors of its HTTP library too
        why = "there is no network" if isinstance(error, LocalEntryNotFoundError | OSError) else type(error).__name__
        at = f" at {revision}" if revision else ""
        raise ConfigError(
            f"the encoder {encoder}{at} is not on this machine and could not be fetched from Hugging Face ({why}): "
            f"check its name, or fetch it where there is a network (hf download {encoder}) and set features.encoder "
            "to its folder") from None
    return path


@lru_cache(maxsize=8)
def layers_and_size(path: Path) -> tuple[int, int]:
    """Return the number of layers and their width, from config.json. Raises ConfigError where it lacks them."""
    document: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    layers = document.get("encoder_layers", document.get("num_hidden_layers"))
    size = document.get("d_model", document.get("hidden_size"))
    if not isinstance(layers, int) or not isinstance(size, int):
        raise ConfigError(f"features.encoder {path}: its config.json says neither how many layers it has nor how "
                          "wide they are; it is not a speech encoder that p2pser knows")
    return layers, size


@lru_cache(maxsize=8)
def identity(path: Path) -> str:
    """Return a digest of an encoder's files: the same for a downloaded encoder and for a copy in another folder."""
    index = cache.Index()
    digest = hashlib.blake2b(digest_size=8)
    for file in [*(path / name for name in _NEEDED), *weights(path)]:
        known = index.find(file)
        if known is None:
            state = file.stat()
            known = cache.content_digest(file)
            index.remember(file, known, (state.st_size, state.st_mtime_ns))
        digest.update(f"{file.name} {known}\n".encode())
    index.write()
    return digest.hexdigest()


# -- layers --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _load(path: Path) -> tuple[Any, Any]:
    """Return the feature extractor and the encoder, in evaluation mode."""
    try:
        import torch
        import transformers
    except ImportError:
        raise ConfigError(_INSTALL) from None
    transformers.utils.logging.disable_progress_bar()
    # A checkpoint also holds a decoder or heads: that the encoder does not use them is no warning.
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        prepare = transformers.AutoFeatureExtractor.from_pretrained(path, local_files_only=True)
        model = transformers.AutoModel.from_pretrained(path, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"the encoder in {path} cannot be loaded: {' '.join(str(error).split())}") from None
    finally:
        logger.setLevel(level)
    return prepare, (model.get_encoder() if model.config.is_encoder_decoder else model).eval()


def layer_means(path: Path, signal: Array, sample_rate: int) -> Array:
    """Return the mean over time of each layer (layers + 1, D) float32 of a signal (samples,), full scale 1.

    Raises ConfigError where the encoder cannot be loaded or needs another sample rate.
    """
    prepare, model = _load(path)
    import torch

    if prepare.sampling_rate != sample_rate:
        raise ConfigError(f"the encoder in {path} takes {prepare.sampling_rate} samples a second, not {sample_rate}: "
                          f"set features.sample_rate={prepare.sampling_rate}")
    wanted = round(LONGEST * sample_rate)
    if signal.size > wanted:
        start = (signal.size - wanted) // 2
        signal = signal[start : start + wanted]
    inputs = prepare(signal, sampling_rate=sample_rate, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states
    steps = int(states[0].shape[1])
    if "input_features" in inputs and getattr(prepare, "n_samples", None):
        # Whisper always takes 30 s: the silence after a shorter clip does not count.
        steps = max(1, min(steps, -(-steps * signal.size // int(prepare.n_samples))))
    means = torch.stack([state[0, :steps].mean(dim=0) for state in states]).numpy().astype(np.float32)
    return np.nan_to_num(means, nan=0.0, posinf=0.0, neginf=0.0)
