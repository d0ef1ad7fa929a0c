"""Models of tones: anger is a high one, sadness a low one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from p2pser import models
from p2pser.config import FeatureSettings, ModelSettings, TrainingSettings
from p2pser.corpora import loading as corpora
from p2pser.features.extraction import extract
from p2pser.features.normalisation import statistics
from p2pser.models.directory import Card
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema
from p2pser.training.learner import Learner

SETTINGS = FeatureSettings(kind="logmel", n_mels=16, seconds=0.5)
RATE = 16000
PITCHES = {"anger": 880.0, "sadness": 160.0}


def tone(path: Path, pitch: float, loudness: float = 0.3, seconds: float = 0.5) -> Path:
    time = np.arange(int(seconds * RATE)) / RATE
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, loudness * np.sin(2 * np.pi * pitch * time), RATE)
    return path


@cache
def learned(folder: Path) -> tuple[torch.Tensor, Schema, Card]:
    """Train a model on the tones of a folder; return its row, its schema and its card."""
    corpus = corpora.load("folder", folder)
    extraction = extract([clip.path for clip in corpus.clips], SETTINGS, workers=1)
    assert not extraction.left_out
    stacked = np.stack([values for values in extraction.features if values is not None])
    labels = torch.tensor([sorted(PITCHES).index(clip.emotion or "") for clip in corpus.clips])
    training = statistics(stacked)
    settings = ModelSettings(name="cnn2d", hidden=(4, 8))
    module = models.build(settings, stacked.shape[1:], 2, seed=0)
    schema = Schema.of(module)
    row = schema.flatten(module)
    learner = Learner(module, schema, TrainingSettings(lr=0.02, rounds=8), torch.from_numpy(training.apply(stacked)),
                      labels, seed=0, peer=0)
    memory = learner.memory()
    for r in range(8):
        learner.train_(row, memory, r)
    card = Card(labels=tuple(sorted(PITCHES)), shape=tuple(stacked.shape[1:]), model=settings, features=SETTINGS,
                normalise="global", statistics=training, training={"peers": 3},
                corpus=Origin(name=corpus.name, version=corpus.version, split="loso", fold=1))
    return row, schema, card


def trained(folder: Path, normalise: str, **origin: Any) -> tuple[torch.Tensor, Schema, Card]:
    """Return a model of the tones whose card names these statistics and this origin."""
    row, schema, card = learned(folder)
    return row.clone(), schema, replace(card, normalise=normalise, corpus=replace(card.corpus, **origin))
