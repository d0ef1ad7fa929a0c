"""Options of the benchmarks over (fold, seed) pairs, and the results of finished pairs, which are kept."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from p2pser.base.atomic import write_json
from p2pser.base.version import __version__
from p2pser.config import Config
from p2pser.corpora.partitioning import splits


def options(about: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks; results are kept in ``runs/NAME`` by default."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="synthetic")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folds", default="all", help="all, or numbers with commas between them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs") / name)
    parser.add_argument("--json", action="store_true")
    return parser


def settings(given: argparse.Namespace, *own: str) -> Config:
    """Return the settings that the options mean, with the benchmark's ``own``; torch takes one thread from here on."""
    torch.set_num_threads(1)
    data = [f"corpus.data={json.dumps(str(given.data))}"] if given.data else []
    return Config().with_settings([f"corpus.name={given.corpus}", *data, *own, *given.set])


def each(base: Config, given: argparse.Namespace) -> Iterator[Config]:
    """Yield the settings of each (fold, seed) pair, all folds of the first seed before those of the next."""
    folds = range(len(splits(base))) if given.folds == "all" else [int(number) for number in given.folds.split(",")]
    for seed in range(given.seeds):
        for fold in folds:
            yield base.with_settings([f"seed={seed}", f"corpus.fold={fold}"])


def kept(folder: Path, config: Config, compute: Callable[[], Any], **more: Any) -> Any:
    """Return the plain result of a pair: the one kept in ``folder`` for the same settings and ``more``, else that of
    ``compute``, which is then kept.
    """
    same = config.model_dump_json() + json.dumps(more, sort_keys=True) + __version__
    key = hashlib.blake2b(same.encode(), digest_size=8).hexdigest()
    path = folder / f"fold{config.corpus.fold}-seed{config.seed}-{key}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    result = compute()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    return result
