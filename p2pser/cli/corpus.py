"""``p2pser corpus``: what recordings there are, and what is wrong with them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from p2pser.cli.common import json_option, note, print_json
from p2pser.errors import CorpusError
from p2pser.speech import audio
from p2pser.speech.corpora import NAMES, load
from p2pser.speech.manifest import Corpus, assemble, write_manifest

_DATA = click.Path(path_type=Path)
_SHOWN = 10  # files that are left out, without --json


@click.group()
def corpus() -> None:
    """List, scan and describe corpora.

    Example: p2pser corpus scan my-clips/
    """


@corpus.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the corpora that p2pser knows.

    Example: p2pser corpus list
    """
    if as_json:
        print_json([{"name": name, "about": about} for name, about in NAMES.items()])
        return
    for name, about in NAMES.items():
        click.echo(f"{name:10s} {about}")


@corpus.command()
@click.argument("data", type=_DATA)
@click.option("--corpus", "name", default="auto", show_default=True, help="Corpus whose file names these are.")
@json_option
def scan(data: Path, name: str, as_json: bool) -> None:
    """Say what is in a folder or manifest, and look at the head of every file.

    A file that cannot be used (a text or git-LFS pointer named .wav, too short a clip) is named with the reason.

    Example: p2pser corpus scan my-clips/
    """
    _print(_looked_at(load(name, data)), as_json)


@corpus.command()
@click.argument("name")
@click.option("--data", type=_DATA, default=None, help="Folder or manifest of the recordings (none for synthetic).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the synthetic corpus.")
@json_option
def describe(name: str, data: Path | None, seed: int, as_json: bool) -> None:
    """Describe a corpus: clips, speakers, emotions, genders, seconds, how it is split.

    Example: p2pser corpus describe emodb --data ~/corpora/emodb
    """
    _print(_looked_at(load(name, data, seed=seed)), as_json)


@corpus.command()
@click.option("--out", type=_DATA, required=True, help="Folder to make; it must not hold anything yet.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the synthetic corpus.")
@json_option
def make(out: Path, seed: int, as_json: bool) -> None:
    """Write the synthetic corpus as WAV files with a manifest.csv.

    Example: p2pser corpus make --out synthetic-clips/
    """
    made = load("synthetic", None, seed=seed)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise CorpusError(f"{out} is not an empty folder: choose another --out")
        for clip in made.clips:
            target = out / made.relative(clip)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clip.path, target)
    except OSError as error:
        raise CorpusError(f"cannot write the clips to {out}: {error.strerror}") from None
    clips = [replace(clip, path=out / made.relative(clip)) for clip in made.clips]
    write_manifest(assemble(made.name, made.version, clips, [], out, synthetic=True), out / "manifest.csv")
    if as_json:
        print_json({"out": str(out), "clips": len(clips), "manifest": str(out / "manifest.csv")})
    else:
        click.echo(f"{len(clips)} clips and manifest.csv in {out}")


def _looked_at(found: Corpus) -> tuple[Corpus, float]:
    """Return the corpus without the files whose head says that they cannot be used, and its seconds."""
    good, bad, seconds = [], list(found.left_out), 0.0
    for clip in found.clips:
        wrong = audio.reason(clip.path)
        if wrong is None:
            good.append(clip)
            seconds += audio.seconds(clip.path)
        else:
            bad.append((clip.path, wrong))
    bad.sort(key=lambda item: str(item[0]))
    return replace(found, clips=tuple(good), left_out=tuple(bad)), seconds


def _print(looked_at: tuple[Corpus, float], as_json: bool) -> None:
    found, seconds = looked_at
    left_out = [{"path": str(path), "reason": reason} for path, reason in found.left_out]
    document: dict[str, Any] = {
        "name": found.name,
        "version": found.version,
        "synthetic": found.synthetic,
        "clips": len(found.clips),
        "seconds": round(seconds, 3),
        "speakers": _counts(clip.speaker for clip in found.clips),
        "emotions": _counts(clip.emotion or "" for clip in found.clips),
        "genders": _counts(clip.gender for clip in found.clips),
        "languages": _counts(clip.language for clip in found.clips),
        "default_split": found.default_split,
        "default_normalise": found.default_normalise,
        "left_out": left_out,
    }
    if as_json:
        print_json(document)
    else:
        _print_text(document)
    if not found.clips:
        first, reason = found.left_out[0]
        raise CorpusError(f"no file of {found.name} can be used; the first, {first}: {reason}")


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _print_text(document: dict[str, Any]) -> None:
    version = f", version {document['version']}" if document["version"] else ""
    made = " (synthetic: for trying the system only)" if document["synthetic"] else ""
    click.echo(f"{document['name']}{version}{made}: {document['clips']} clips, {document['seconds']:.0f} s, "
               f"{len(document['speakers'])} speakers")
    for what in ("emotions", "genders", "languages", "speakers"):
        counts = document[what]
        if set(counts) != {""} and counts:
            click.echo(f"  {what:10s} " + ", ".join(f"{name or 'not said'} {count}" for name, count in counts.items()))
    click.echo(f"  by default split {document['default_split']}, normalise {document['default_normalise']}")
    left_out = document["left_out"]
    if left_out:
        note(f"left out: {len(left_out)} files")
        for item in left_out[:_SHOWN]:
            note(f"  {item['path']}: {item['reason']}")
        if len(left_out) > _SHOWN:
            note(f"  and {len(left_out) - _SHOWN} more (--json lists all)")
