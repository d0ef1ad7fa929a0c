"""A small model, untrained, and recordings for it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from p2pser import models
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.features import clip_features
from p2pser.features.normalisation import Statistics
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema

RATE = 16000
LABELS = ("anger", "joy", "sadness")


def save(path: Path, normalise: str = "none", words: bool = False) -> Path:
    """Write a model of three emotions, which reads ``words`` too."""
    features = FeatureSettings(kind="dynamics+words", parameters={"width": 64}) if words else \
        FeatureSettings(kind="logmel", n_mels=16, seconds=0.5)
    settings = ModelSettings(name="mlp" if words else "cnn2d", hidden=(4,))
    shape = clip_features.shape(features)
    module = models.build(settings, shape, len(LABELS), seed=0)
    schema = Schema.of(module)
    known = None if normalise == "none" else Statistics(9.0, np.zeros(shape[0]), np.ones(shape[0]))
    directory.save(path, schema.flatten(module), schema, Card(
        labels=LABELS, shape=shape, model=settings, features=features, normalise=normalise, statistics=known,
        corpus=Origin("tones", "1"), training={"peers": 3, "algorithm": "dpsgd", "secret": "/a/path"}))
    return path


def tone(seconds: float = 0.5, pitch: float = 440.0) -> np.ndarray:
    """Return the samples of a tone (n,) int16."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (8000 * np.sin(2 * np.pi * pitch * time)).astype(np.int16)


def wav(samples: np.ndarray, rate: int = RATE, kind: str = "WAV") -> bytes:
    """Return the bytes of a recording's file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()
