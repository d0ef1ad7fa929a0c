"""``p2pser features``: compute the features of a corpus into the cache, or list the kinds of features."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pser.cli.common import RunOptions, json_option, note, print_json
from p2pser.cli.kinds import Source

if TYPE_CHECKING:
    from p2pser.config import FeatureSettings
    from p2pser.corpora.manifest import Corpus
    from p2pser.features.extraction import Extraction

SHOWN = 5
"""Number of left-out clips that are named without ``--json``."""


@click.command()
@click.option("--corpus", "corpus_name", metavar="NAME|PATH", help="A corpus (p2pser corpus list) or a path.")
@click.option("--data", type=Source(), help="Folder or manifest of the recordings.")
@click.option("--kind", help="functionals, covariance, dynamics, egemaps, compare, ssl, logmel, mfcc, chroma or a "
                             "kind of an installed package, or several joined by +.  "
                             "[default: functionals; ssl with --encoder]")
@click.option("--encoder", metavar="DIR|NAME", help="Speech encoder of ssl: a folder or a Hugging Face name.")
@click.option("--list", "listed", is_flag=True, help="List the kinds of features instead, with their parameters.")
@click.option("--workers", type=click.IntRange(min=1), help="Number of processes.  [default: one for each core]")
@click.option("--run", "run_file", type=Source(dir_okay=False),
              help="Run file (YAML) with the settings of the corpus and the features.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
              help="Override one setting of the run (may be given several times).")
@json_option
def features(corpus_name: str | None, data: Path | None, kind: str | None, encoder: str | None, listed: bool,
             workers: int | None, run_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Compute the features of all clips of a corpus into the cache; cached ones are not computed again.

    Example: p2pser features --corpus emodb --data emodb/wav --workers 2

    Example: p2pser features --corpus emodb --data emodb/wav --encoder openai/whisper-base

    Example: p2pser features --list
    """
    if listed:
        _list_kinds(as_json)
        return
    from p2pser.corpora import combined
    from p2pser.features.extraction import extract

    chosen = RunOptions(run_file, settings, corpus_name, data, features=kind, encoder=encoder).config()
    corpus = combined.load(chosen.corpus)
    extraction = extract([clip.path for clip in corpus.clips], chosen.features, workers=workers, progress=True,
                         texts=[clip.transcript for clip in corpus.clips])
    result = _result(corpus, chosen.features, extraction)
    if as_json:
        print_json(result)
        return
    shape = " by ".join(str(size) for size in result["shape"])
    click.echo(f"{corpus.name} {corpus.version}: {result['clips']} clips, {result['seconds']:.0f} s; "
               f"{result['kind']}, {shape} for each clip")
    speed = f" ({result['times_real_time']} times real time)" if extraction.computed else ""
    click.echo(f"{extraction.computed} computed, {extraction.cached} found in the cache, in "
               f"{extraction.wall_s:.1f} s{speed}")
    for folder in result["caches"]:
        click.echo(f"in {folder}")
    for clip in result["left_out"][:SHOWN]:
        note(f"left out: {clip['path']}: {clip['reason']}")
    if len(result["left_out"]) > SHOWN:
        note(f"left out: {len(result['left_out']) - SHOWN} more (--json names all)")


def _result(corpus: Corpus, settings: FeatureSettings, extraction: Extraction) -> dict[str, Any]:
    from p2pser.features import audio, clip_features

    seconds = sum(audio.seconds(clip.path) for clip, values in zip(corpus.clips, extraction.features)
                  if values is not None)
    heard = clip_features.of_sound(settings)
    share = extraction.computed / max(1, extraction.computed + extraction.cached)
    return {
        "corpus": corpus.name,
        "version": corpus.version,
        "kind": settings.kind,
        "shape": list(clip_features.shape(settings)),
        "clips": len(corpus.clips),
        "seconds": round(seconds, 3),
        "computed": extraction.computed,
        "cached": extraction.cached,
        "wall_s": round(extraction.wall_s, 3),
        "times_real_time": round(seconds * share / extraction.wall_s, 1) if extraction.computed else None,
        "left_out": [{"path": str(path), "reason": reason}
                     for path, reason in (*corpus.left_out, *extraction.left_out)],
        "caches": [str(store.folder) for store in clip_features.stores(heard)] if heard else [],
    }


def _list_kinds(as_json: bool) -> None:
    from p2pser.base.parameters import described
    from p2pser.base.registries import FEATURES
    from p2pser.features.kind import kind_class

    rows: list[dict[str, Any]] = []
    for name in [name for name, _ in FEATURES.items()]:  # those that can be loaded
        cls = kind_class(name)
        own = cls.own_parameters()
        rows.append({
            "kind": name, "form": "states" if cls.attached else "vector" if cls.vector else "matrix",
            "version": cls.version, "from": str(FEATURES.origin(name)),
            "about": " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].replace("``", "").split()),
            "settings": [field.name for field in fields(cls) if field.name not in own],
            "parameters": {field.name: {"default": field.default, "about": field.about}
                           for field in described(cls) if field.name in own},
        })
    if as_json:
        print_json(rows)
        return
    width = max(len(row["kind"]) for row in rows)
    for row in rows:
        click.echo(f"{row['kind']:<{width}}  {row['form']}  {row['about']}  ({row['from']})")
        for name, parameter in row["parameters"].items():
            click.echo(f"{'':<{width}}  features.parameters.{name} = {json.dumps(parameter['default'])}: "
                       f"{parameter['about']}")
