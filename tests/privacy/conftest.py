"""A small federation of made-up features: each peer holds one speaker, whose sex shifts one feature, its pitch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.features import clip_features
from p2pser.features.federation import Examples, Federation

LABELS = ("anger", "joy", "sadness")


@pytest.fixture
def made_up() -> Callable[..., tuple[Config, Federation]]:
    """Return a function: (config, federation) of peers that hold one speaker of 16 clips each."""

    def make(peers: int = 12, normalise: str = "global", **settings: object) -> tuple[Config, Federation]:
        config = Config().with_settings([f"{name}={value}" for name, value in {
            "training.rounds": 3, "training.local_steps": 3, "model.hidden": [40], "features.normalise": normalise,
            **settings}.items()])
        names = clip_features.names(config.features)
        draw = np.random.default_rng(4)
        centres = draw.normal(size=(3, len(names)))
        train, clips = {}, []
        for i in range(peers):
            sex = "fm"[i * 2 // peers]  # the women first, as corpora list them
            labels = np.where(draw.random(16) < 0.6, i % 3, draw.integers(0, 3, 16)).astype(np.int64)
            features = centres[labels] + draw.normal(size=len(names)) + 2 * draw.normal(size=(16, len(names)))
            features[:, names.index("voice.f0.mean")] = draw.normal(34 if sex == "f" else 24, 1.5, 16)
            train[i] = Examples(features.astype(np.float32), labels, (f"s{i}",) * 16,
                                tuple(f"s{i}/{k}" for k in range(16)), (sex,) * 16)
            clips += [Clip(Path(f"s{i}/{k}"), f"s{i}", LABELS[label], gender=sex) for k, label in enumerate(labels)]
        corpus = Corpus("made-up", "1", tuple(clips), (), default_split="none")
        return config, Federation(LABELS, train, None, Split("none", (), (), (), True), corpus, normalise, [], 0,
                                  ((),) * peers)

    return make
