"""A corpus of tones, small enough for whole comparisons."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def spoken_tones(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Make three emotions of so many speakers, three clips each, as tones: folder/emotion/speaker/clip.wav."""

    def make(speakers: int) -> Path:
        root = tmp_path_factory.mktemp("tones")
        draw = np.random.default_rng(0)
        time = np.arange(6400) / 16000
        for e, emotion in enumerate(("anger", "happiness", "sadness")):
            for s in range(speakers):
                folder = root / emotion / f"speaker{s}"
                folder.mkdir(parents=True)
                for clip in range(3):
                    pitch = 150 * (e + 1) + 20 * s + draw.normal() * 5
                    signal = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * draw.normal(size=time.size)
                    with wave.open(str(folder / f"{clip}.wav"), "wb") as file:
                        file.setnchannels(1)
                        file.setsampwidth(2)
                        file.setframerate(16000)
                        file.writeframes((signal * 32000).astype("<i2").tobytes())
        return root

    return make
