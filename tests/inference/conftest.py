"""Recordings of tones, and models of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tone_models import PITCHES, tone, trained

from p2pser.models import directory


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EMOTION/SPEAKER/clip.wav: anger is a high tone, sadness a low one; three speakers of other pitch."""
    root = tmp_path_factory.mktemp("tones")
    for emotion, pitch in PITCHES.items():
        for speaker in range(3):
            for k in range(4):
                tone(root / emotion / f"spk{speaker}" / f"{k}.wav", pitch * (1 + 0.06 * speaker + 0.01 * k))
    return root


@pytest.fixture(scope="session")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "global"
    directory.save(path, *trained(folder, "global"))
    return path


@pytest.fixture(scope="session")
def speaker_model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "speaker"
    directory.save(path, *trained(folder, "speaker"))
    return path
