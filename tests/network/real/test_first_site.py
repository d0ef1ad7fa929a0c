"""docs/guides/before.md, played as it stands: three sites in network namespaces, from ``invite`` to ``predict``.

Commands and what they print are read from the page. ``P2PSER_RECORD=1`` writes what they print into it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lives
import namespaces
import numpy as np
import pytest
import run_page
import soundfile
import torch
from commands import Command
from real_peers import furthest

from p2pser.graph.spec import load
from p2pser.models.directory import load as load_model
from p2pser.models.rows import Schema

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "guides" / "before.md"
SITES = ("berlin", "lyon", "porto")
SUBNET = "192.0.2"
WORDS = {"berlin": {"anger": 9.0, "neutral": 2.0}, "lyon": {"Wut": 9.0, "genervt": 9.0, "Trauer": 5.0},
         "porto": {"anger": 9.0, "neutral": 2.0, "sadness": 5.0}}
"""Each site's folders, with the tremolo of their clips [Hz]."""
PATIENCE = 240


def tone(tremolo: float, pitch: float, rate: int) -> np.ndarray:
    time = np.arange(rate // 2) / rate
    # Its spectrum changes, as that of speech: held notes are refused as no speech.
    signal = sum(np.sin(2 * np.pi * pitch * k * time) * (1.05 + np.cos(2 * np.pi * 2.5 * time + 1.7 * k)) / k
                 for k in range(1, 9))
    return np.asarray(0.2 * signal * (1 + 0.8 * np.sin(2 * np.pi * tremolo * time)), dtype=np.float32)


def write_m4a(path: Path, signal: np.ndarray, rate: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(signal[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def write_clips(folder: Path, site: str) -> None:
    for number, (word, tremolo) in enumerate(WORDS[site].items()):
        for speaker, pitch in (("a", 120.0), ("b", 200.0)):
            place = folder / word / speaker
            place.mkdir(parents=True)
            for clip in range(3):
                signal = tone(tremolo, pitch + 7 * clip + 3 * number, 48000 if site == "porto" else 16000)
                if site != "porto":
                    soundfile.write(place / f"{clip}.wav", signal, 16000)
                elif clip == 0:
                    write_m4a(place / f"{clip}.m4a", signal, 48000)
                else:
                    soundfile.write(place / f"{clip}.wav", np.stack([signal, 0.5 * signal], axis=1), 48000)


class Scene(NamedTuple):
    """A console block of the page: at which site, after which files were sent, beside the next ones or not."""

    block: object
    site: str
    commands: list[tuple[str, list[str]]]
    """Each command as written, with the lines that the page says it prints."""
    exit_code: int
    together: str
    sent: list[list[str]]


def scenes() -> Iterator[Scene]:
    for block in run_page.blocks(PAGE):
        notes = dict(note.partition(" ")[::2] for note in block.notes if not note.startswith(("sent:", "not run:")))
        if block.language != "console" or "site:" not in notes:
            continue
        commands: list[tuple[str, list[str]]] = []
        for line in re.findall(r"^(?:.*\\\n)*.*", block.text, re.M):
            if line.startswith("$ "):
                commands.append((line[2:], []))
            elif commands:
                commands[-1][1].append(line)
        yield Scene(block, notes["site:"], commands, block.exit_code, notes.get("together:", ""),
                    [note.split()[1:] for note in block.notes if note.startswith("sent:")])


def _settle(namespace: str, folder: Path) -> None:
    """Let this process work at a site, and print errors where it prints results."""
    lives.enter(namespace)
    os.chdir(folder)
    os.dup2(1, 2)


class Stage:
    """The sites, each in a namespace with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.net = namespaces.Namespaces(load("ring", 3), subnet=SUBNET)
        for site in SITES:
            write_clips(folder / site / "clips", site)
        write_m4a(folder / "porto" / "new.m4a", tone(9.0, 130.0, 48000), 48000)

    def start(self, site: str, command: str) -> Command:
        program, *words = command.replace("\\\n", " ").split()
        assert program == "p2pser"
        return Command(*words, change=partial(_settle, self.net.namespace(SITES.index(site)), self.folder / site))

    def close_off(self, site: str) -> None:
        """Drop what comes to a site unasked, where this machine has nft; nothing listens there in any case."""
        if shutil.which("nft"):
            rules = "add table inet own; add chain inet own in { type filter hook input priority 0; policy drop; }; " \
                    "add rule inet own in ct state established,related accept"
            subprocess.run(["ip", "netns", "exec", self.net.namespace(SITES.index(site)), "nft", rules], check=True)

    def send(self, sender: str, file: str, receiver: str, name: str = "") -> None:
        shutil.copy(self.folder / sender / file, self.folder / receiver / (name or Path(file).name))

    def printed(self, process: Command, site: str) -> list[str]:
        text, _ = process.communicate(PATIENCE)
        return text.replace(str(self.folder / site), f"/srv/{site}").splitlines()


def shape(line: str) -> str:
    """Return a line without what differs from run to run: fingerprints, days, numbers with a point, free space, and
    the time that is left.
    """
    line = re.sub(r"about [\dhmins ]+ left", "about TIME left", line)
    line = re.sub(r"\b([0-9a-f]{4}-){5}[0-9a-f]{4}\b", "FINGERPRINT", line)
    line = re.sub(r"\b\d{4}-\d\d-\d\d( \d\d:\d\d UTC)?", "DAY", line)
    return re.sub(r"\d+\.\d+(?= ms| MB/s|$|\D)|[\d,]+(?= MB (free|available|needed))|\.\d+", "NUMBER", line)


def compare(command: str, expected: list[str], printed: list[str]) -> None:
    """The lines of the page were printed, in order; further ones only where it has ``...`` somewhere."""
    lines, wanted = list(map(shape, printed)), [shape(line) for line in expected if line != "..."]
    if "..." not in expected:
        assert lines == wanted, command
    rest = iter(lines)
    missing = [line for line in wanted if line not in rest]
    assert not missing, f"{command} printed\n" + "\n".join(printed)


def play(stage: Stage) -> list[tuple[Scene, list[list[str]]]]:
    """Run all commands; return what each printed, by scene."""
    played: list[tuple[Scene, list[list[str]]]] = []
    running: list[tuple[Scene, str, Command]] = []
    script = list(scenes())
    with ExitStack() as started:
        for scene, after in zip(script, [*script[1:], None]):
            for sent in scene.sent:
                stage.send(*sent)
            outputs: list[list[str]] = []
            played.append((scene, outputs))
            for command, _ in scene.commands:
                running.append((scene, command, started.enter_context(stage.start(scene.site, command))))
                if scene.together and after is not None and after.together == scene.together:
                    continue
                for one, what, process in running:
                    printed = stage.printed(process, one.site)
                    next(into for known, into in played if known is one).append(printed)
                    assert process.returncode == one.exit_code, f"{what}\n" + "\n".join(printed)
                running.clear()
    return played


def lasting(lines: list[str]) -> list[str]:
    """Return the lines that every run prints, and ``...`` for those that depend on who is faster."""
    kept: list[str] = []
    for line in lines:
        line = "..." if re.match(r"peer \d (is waiting for|has left)", line) else line
        kept += [line] * (line != "..." or kept[-1:] != ["..."])
    return kept


def record(played: list[tuple[Scene, list[list[str]]]]) -> None:
    """Write into the page what the commands printed."""
    text = PAGE.read_text(encoding="utf-8")
    for scene, outputs in played:
        old = "\n".join(line for command, lines in scene.commands for line in (f"$ {command}", *lines))
        pairs = zip(scene.commands, outputs)
        new = "\n".join(line for (command, _), lines in pairs for line in (f"$ {command}", *lasting(lines)))
        assert text.count(f"```console\n{old}\n```") == 1
        text = text.replace(f"```console\n{old}\n```", f"```console\n{new}\n```")
    PAGE.write_text(text, encoding="utf-8")


@pytest.mark.skipif(bool(namespaces.lacking()), reason=namespaces.lacking())
def test_three_sites_from_invitation_to_prediction(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra media writes and reads .m4a")
    stage = Stage(tmp_path)
    with stage.net:
        stage.close_off("porto")
        played = play(stage)
    if os.environ.get("P2PSER_RECORD"):
        record(played)
    else:
        for scene, outputs in played:
            for (command, expected), printed in zip(scene.commands, outputs):
                compare(command, expected, printed)
    rows = []
    for peer, site in enumerate(SITES):
        module, _ = load_model(tmp_path / site / f"pilot-peer-{peer}" / "runs" / "pilot" / f"peer-{peer}" / "model")
        rows.append(Schema.of(module).flatten(module))
    assert furthest(torch.stack(rows)) < 1e-6
    for peer, site in enumerate(SITES):
        key = tmp_path / site / f"pilot-peer-{peer}" / "peer.key"
        secret = key.read_text().partition('secret: "')[2][:40]
        assert len(secret) == 40
        assert key.stat().st_mode & 0o777 == 0o600
        assert not [path for path in tmp_path.rglob("*.yaml") if secret in path.read_text()]
