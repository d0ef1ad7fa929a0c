"""``p2pser features``: compute the features of a corpus into the cache, or list the kinds of features."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from p2pser.cli.common import RunOptions, json_option, renamed, some_run_options, workers_option
from p2pser.cli.output import echo, note, print_json

if TYPE_CHECKING:
    from p2pser.config import FeatureSettings
    from p2pser.corpora.manifest import Corpus
    from p2pser.features.extraction import Extraction

SHOWN = 5
"""Number of left-out clips that are named without ``--json``."""


@click.command()
@some_run_options("corpus", "data", "features", "encoder", "run", "set")
@renamed("--kind", "--features")
@click.option("--list", "only_list", is_flag=True,
              help="List the kinds of features with their parameters, and exit; several are joined by +.")
@workers_option
@json_option
def features(options: RunOptions, only_list: bool, workers: int | None, as_json: bool) -> None:
    """Compute the features of all clips of a corpus into the cache; cached ones are not computed again.

    Example: p2pser features --corpus emodb --data emodb/ --workers 2

    Example: p2pser features --corpus emodb --data emodb/ --encoder openai/whisper-base

    Example: p2pser features --list
    """
    if only_list:
        _list_kinds(as_json)
        return
    from p2pser.corpora import combined
    from p2pser.features.extraction import extract

    config = options.config()
    corpus = combined.load(config.corpus)
    extraction = extract([clip.path for clip in corpus.clips], config.features, workers=workers, progress=True,
                         texts=[clip.transcript for clip in corpus.clips])
    result = _result(corpus, config.features, extraction)
    if as_json:
        print_json(result)
        return
    shape = " by ".join(str(size) for size in result["shape"])
    echo(f"{corpus.name} {corpus.version}: {result['clips']} clips, {result['seconds']:.0f} s; "
               f"{result['kind']}, {shape} for each clip")
    speed = f" ({result['times_real_time']} times real time)" if extraction.computed else ""
    echo(f"{extraction.computed} computed, {extraction.cached} read from the cache, in "
               f"{extraction.wall_s:.1f} s{speed}")
    for folder in result["caches"]:
        echo(f"in {folder}")
    for clip in result["left_out"][:SHOWN]:
        note(f"left out: {clip['path']}: {clip['reason']}")
    if len(result["left_out"]) > SHOWN:
        note(f"left out: {len(result['left_out']) - SHOWN} more (--json names all)")


def _result(corpus: Corpus, settings: FeatureSettings, extraction: Extraction) -> dict[str, Any]:
    from p2pser.features import audio, clip_features

    seconds = sum(audio.seconds(clip.path) for clip, values in zip(corpus.clips, extraction.features)
                  if values is not None)
    acoustic = clip_features.of_sound(settings)
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
        "caches": [str(store.folder) for store in clip_features.stores(acoustic)] if acoustic else [],
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
        echo(f"{row['kind']:<{width}}  {row['form']}  {row['about']}  ({row['from']})")
        for name, parameter in row["parameters"].items():
            echo(f"{'':<{width}}  features.parameters.{name} = {json.dumps(parameter['default'])}: "
                       f"{parameter['about']}")
