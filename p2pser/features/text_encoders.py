"""Text encoders from Hugging Face: a sentence as the mean of its tokens (Reimers and Gurevych 2019, "Sentence-BERT").

torch and transformers (the extra ``ssl``) are imported when the first text is read; the width and the identity of an
encoder are read from its files.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import ConfigError
from p2pser.features.encoders import TEXT, described, loading, require_whole

TOKENS = 256
"""So many tokens of a text are read at most: a minute or two of speech."""

BATCH = 32
"""Texts that are read at the same time."""

_LOCK = threading.Lock()
"""A tokenizer is not to be used by two threads at once."""


@lru_cache(maxsize=8)
def width(path: Path) -> int:
    """Return the width of the encoder's last layer, from config.json. Raises ConfigError where it lacks it."""
    document = described(path, TEXT)
    units = document.get("hidden_size", document.get("d_model", document.get("dim")))
    if not isinstance(units, int):
        raise ConfigError(f"features.text_encoder {path}: its config.json does not say how wide its layers are; it is "
                          "not a text encoder that p2pser knows")
    return units


def embed(path: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the embeddings (n, D) of n texts: the mean of the last layer over a text's tokens, at length √D, so that
    its entries are of about 1.

    Equal texts are read once. Raises ConfigError where the encoder cannot be loaded or has another width.
    """
    # By length: texts of a batch are padded to its longest.
    several = sorted(set(texts), key=lambda text: (len(text), text))
    by_text: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(several), BATCH):
        batch = several[start:start + BATCH]
        by_text.update(zip(batch, _means(path, batch)))
    return np.stack([by_text[text] for text in texts]) if texts else np.zeros((0, width(path)), np.float32)


def _means(path: Path, texts: list[str]) -> NDArray[np.float32]:
    with _LOCK:
        tokenizer, model, longest = _load(path)
        import torch

        inputs = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            states = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        counts = inputs["attention_mask"].unsqueeze(-1)
        means = (states.double() * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
        values: NDArray[np.float64] = (torch.nn.functional.normalize(means) * math.sqrt(means.shape[1])).numpy()
    if values.shape[1] != width(path) or not np.isfinite(values).all():
        raise ConfigError(f"features.text_encoder {path} gives {values.shape[1]} values a text where its config.json "
                          f"says {width(path)}, or values that are not finite")
    return values.astype(np.float32)


@lru_cache(maxsize=2)
def _load(path: Path) -> tuple[Any, Any, int]:
    """Return the tokenizer, the encoder in evaluation mode, and how many tokens it reads."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads warn at each process that is started later
    with loading(path) as transformers:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        model, info = transformers.AutoModel.from_pretrained(path, local_files_only=True, output_loading_info=True)
    if tokenizer.pad_token is None:
        raise ConfigError(f"the tokenizer in {path} has no token to fill up with (pad_token): p2pser takes encoders of "
                          "sentences, such as sentence-transformers/all-MiniLM-L6-v2")
    encoder = (model.encoder if hasattr(model, "decoder") else model).float().eval()
    require_whole(path, model, encoder, info["missing_keys"])
    positions = getattr(encoder.config, "max_position_embeddings", None) or TOKENS + 2
    # RoBERTa's positions begin at the one after its padding's: two cannot be used.
    return tokenizer, encoder, int(min(TOKENS, tokenizer.model_max_length, positions - 2))
