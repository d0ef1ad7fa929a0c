"""Commands called in this process as their console script does, up to where their long work would begin."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile

from p2pser import models
from p2pser.cli.main import main
from p2pser.config import FeatureSettings, ModelSettings
from p2pser.features import clip_features
from p2pser.features.normalisation import Statistics
from p2pser.models import directory
from p2pser.models.directory import Card
from p2pser.models.origin import Origin
from p2pser.models.rows import Schema

RATE = 16000


class BegunError(BaseException):
    """A command has begun its long work: whatever was wrong with the call should have been refused before."""


def begun(*_: Any, **__: Any) -> Any:
    raise BegunError


def furnish(folder: Path) -> Path:
    """Make clips of four speakers and two emotions, a model, a file and an empty folder; return the folder."""
    for speaker in "abcd":
        for number, emotion in enumerate(("anger", "neutral")):
            path = folder / "clips" / emotion / f"{speaker}{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            time = np.arange(RATE // 4) / RATE
            soundfile.write(path, 0.3 * np.sin(2 * np.pi * (200 + 50 * ord(speaker) % 7) * time), RATE)
    rows = [f"clips/{emotion}/{speaker}{number}.wav,{speaker},{emotion}"
            for speaker in "abcd" for number, emotion in enumerate(("anger", "neutral"))]
    (folder / "clips.csv").write_text("\n".join(("path,speaker,emotion", *rows)) + "\n")
    settings = FeatureSettings(kind="logmel", n_mels=16, seconds=0.5)
    shape, small = clip_features.shape(settings), ModelSettings(name="cnn2d", hidden=(4, 8))
    network = models.build(small, shape, models.outputs("classes", 2), 0)
    card = Card(("anger", "neutral"), shape, small, settings, "global",
                Statistics(10, np.full(16, -40.0), np.full(16, 20.0)), Origin("tones", "1"))
    directory.save(folder / "model", Schema.of(network).flatten(network), Schema.of(network), card)
    (folder / "file").write_bytes(bytes(range(256)) * 8)
    (folder / "empty").mkdir()
    return folder


def nothing_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop every command where its long work would begin."""
    import p2pser.corpora.fetch as fetch
    import p2pser.features.extraction as extraction
    import p2pser.features.federation as federation
    import p2pser.peer.launch as launch

    monkeypatch.setattr(federation, "extract", begun)
    monkeypatch.setattr(extraction, "extract", begun)
    monkeypatch.setattr(launch, "start_forkserver", lambda *_: None)
    monkeypatch.setattr(fetch, "fetch", begun)


def call(*arguments: str, out: io.StringIO | None = None) -> tuple[int, str]:
    """Run ``p2pser`` with these arguments as its console script does. Returns its exit code and standard error.

    out : takes the standard output.
    """
    out, err = out or io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["p2pser", *arguments])
        try:
            main()
        except SystemExit as leave:
            return int(leave.code or 0), err.getvalue()
        except BegunError:
            return -1, err.getvalue()
        except BaseException:
            return -2, err.getvalue() + traceback.format_exc()
    return 0, err.getvalue()


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield the words and the object of each command, groups too."""
    yield path, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from commands(command, (*path, name))
