"""A partitioned corpus on disk, one folder for each peer, to be copied to real sites."""

from __future__ import annotations

import dataclasses
import shutil
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from p2pser.base.atomic import missing_or_empty, new_folder
from p2pser.base.errors import CorpusError
from p2pser.config import Config
from p2pser.corpora.combined import scaled
from p2pser.corpora.manifest import Clip, Corpus, write_manifest
from p2pser.corpora.partitioning import Partitioning

RUN = "run.yaml"
TEST = "test"
MANIFEST = "manifest.csv"


def write_sites(config: Config, partitioning: Partitioning, out: Path, *, copy: bool = False) -> dict[str, Any]:
    """Write ``peer-I/manifest.csv`` for each peer, ``test/manifest.csv`` with the held-out clips, and ``run.yaml`` with
    the settings that all sites share; return the contents of each folder, as plain data.

    The manifests hold the merged emotions that are learnt. A peer with such a folder,
    ``p2pser peer --id I --run run.yaml --data peer-I/``, trains bit for bit as in the run that partitions the corpus
    itself; it only lacks the held-out clips.

    Parameters
    ----------
    config : the settings of the run.
    partitioning : each peer's clips.
    out : the folder to make.
    copy : whether each folder also holds its recordings and so is complete; else the manifests refer to the recordings
        on this machine.

    Raises CorpusError where ``out`` exists and is not an empty folder, or cannot be written.
    """
    corpus = partitioning.corpus
    try:
        if not missing_or_empty(out):
            raise CorpusError(f"{out} is not an empty folder: choose another --out")
        shares = {f"peer-{peer}": share for peer, share in enumerate(partitioning.held) if share}
        held_out = {TEST: partitioning.split.test} if partitioning.split.test else {}
        names = _file_names(corpus)
        run = yaml.safe_dump(_settings(config, partitioning), sort_keys=False, allow_unicode=True)
        with new_folder(out, durable=False) as partial:
            for folder, share in {**shares, **held_out}.items():
                _write(corpus, share, partial / folder, names if copy else None)
            (partial / RUN).write_text(run, encoding="utf-8")
    except OSError as error:
        raise CorpusError(f"cannot write to {out}: {error.strerror or error}") from None
    return {
        "out": str(out), "corpus": corpus.name, "version": corpus.version, "synthetic": corpus.synthetic,
        "split": partitioning.split.name, "partition": config.corpus.partition, "labels": list(partitioning.labels),
        "normalise": partitioning.scaling.how, "speaker_overlap": partitioning.speaker_overlap, "copied": copy,
        "peers": {folder: _contents(corpus, share) for folder, share in shares.items()},
        "test": _contents(corpus, partitioning.split.test), "notes": list(partitioning.notes),
    }


def _settings(config: Config, partitioning: Partitioning) -> dict[str, Any]:
    """Return the settings that all sites share and that are not defaults."""
    tree = config.model_dump(mode="json", exclude_defaults=True, exclude={"corpus", "network", "peer"})
    corpus: dict[str, Any] = {"split": "none", "partition": "own"}
    if partitioning.labels:
        corpus["labels"] = list(partitioning.labels)
    tree["corpus"] = corpus
    tree["features"] = {**tree.get("features", {}), "normalise": partitioning.scaling.how}
    return tree


def _file_names(corpus: Corpus) -> dict[Path, str]:
    """Return each clip's path below a folder of copies, in the order of the clips."""
    # Some file systems allow no colon (synthetic:es) in names, and some take two that differ in case for one.
    names = [corpus.relative(clip).replace(":", "-") for clip in corpus.clips]
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in names) or \
            len({unicodedata.normalize("NFC", name).casefold() for name in names}) < len(names):
        digits = len(str(len(names)))
        names = [f"{number:0{digits}d}-{clip.path.name.replace(':', '-')}" for number, clip in enumerate(corpus.clips)]
    return {clip.path: name for clip, name in zip(corpus.clips, names)}


def _write(corpus: Corpus, share: Sequence[int], folder: Path, names: dict[Path, str] | None) -> None:
    folder.mkdir(parents=True)
    clips = [scaled(corpus.clips[index], corpus.scale) for index in share]
    if names is not None:
        clips = [_copied(clip, folder / names[clip.path]) for clip in clips]
    write_manifest(dataclasses.replace(corpus, clips=tuple(clips)), folder / MANIFEST)


def _copied(clip: Clip, target: Path) -> Clip:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(clip.path, target)
    return dataclasses.replace(clip, path=target)


def _contents(corpus: Corpus, share: Sequence[int]) -> dict[str, Any]:
    clips = [corpus.clips[index] for index in share]
    return {
        "clips": len(clips),
        "corpora": sorted({clip.corpus or corpus.name for clip in clips}),
        "languages": sorted({clip.language for clip in clips} - {""}),
        "speakers": sorted({clip.speaker for clip in clips}),
        "emotions": dict(sorted(Counter(clip.emotion or "" for clip in clips).items())),
    }
