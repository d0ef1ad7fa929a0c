"""``p2pser features``: compute the features of a corpus into the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from p2pser.cli.common import json_option, note, print_json, run_configuration

SHOWN = 5
"""How many of the clips that were left out are named without ``--json``."""


@click.command()
@click.option("--corpus", metavar="NAME|PATH", help="synthetic, emodb, ravdess, folder, manifest, or a path.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder or manifest of the recordings.")
@click.option("--kind", help="functionals, dynamics, egemaps, compare, ssl, logmel, mfcc or chroma, or several joined "
                             "by +.  [default: functionals]")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
@click.option("--run", "run_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Run file (YAML) whose corpus and features are meant.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
              help="Override one setting of the run (may be given several times).")
@json_option
def features(kind: str | None, workers: int | None, as_json: bool, **options: Any) -> None:
    """Compute the features of all clips of a corpus into the cache, but for those that are there already.

    Example: p2pser features --corpus emodb --data emodb/wav --workers 2
    """
    from p2pser.corpora import combined as several
    from p2pser.features import audio, clip_features
    from p2pser.features.extraction import extract

    absent = dict.fromkeys(("fold", "rounds", "seed", "name", "out"))
    more = [] if kind is None else [f"features.kind={json.dumps(kind)}"]
    chosen = run_configuration({**absent, **options}, more=more)
    found = several.load(chosen.corpus)
    paths = [clip.path for clip in found.clips]
    done = extract(paths, chosen.features, workers=workers, progress=True)
    seconds = sum(audio.seconds(path) for path, one in zip(paths, done.features) if one is not None)
    share = done.computed / max(1, done.computed + done.cached)
    left_out = [*found.left_out, *done.left_out]
    result = {
        "corpus": found.name,
        "version": found.version,
        "kind": chosen.features.kind,
        "shape": list(clip_features.shape(chosen.features)),
        "clips": len(paths),
        "seconds": round(seconds, 3),
        "computed": done.computed,
        "cached": done.cached,
        "wall_s": round(done.wall_s, 3),
        "times_real_time": round(seconds * share / done.wall_s, 1) if done.computed else None,
        "left_out": [{"path": str(path), "reason": reason} for path, reason in left_out],
        "caches": [str(store.folder) for store in clip_features.stores(chosen.features)],
    }
    if as_json:
        print_json(result)
        return
    shape = " by ".join(str(size) for size in clip_features.shape(chosen.features))
    click.echo(f"{found.name} {found.version}: {len(paths)} clips, {seconds:.0f} s; "
               f"{chosen.features.kind}, {shape} a clip")
    speed = f" ({result['times_real_time']} times real time)" if done.computed else ""
    click.echo(f"{done.computed} computed, {done.cached} found in the cache, in {done.wall_s:.1f} s{speed}")
    for store in clip_features.stores(chosen.features):
        click.echo(f"in {store.folder}")
    for path, reason in left_out[:SHOWN]:
        note(f"left out: {path}: {reason}")
    if len(left_out) > SHOWN:
        note(f"left out: {len(left_out) - SHOWN} more (--json names all)")
