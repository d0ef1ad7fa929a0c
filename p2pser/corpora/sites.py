"""A dealt corpus on disk, a folder a peer, to be carried to real sites: a run on these folders is the dealt run."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from p2pser.base.errors import CorpusError
from p2pser.config import Config
from p2pser.corpora.combined import scaled
from p2pser.corpora.manifest import Corpus, write_manifest
from p2pser.corpora.partitioning import Dealt

RUN = "run.yaml"
TEST = "test"
MANIFEST = "manifest.csv"


def write_sites(config: Config, dealt: Dealt, out: Path, *, copy: bool = False) -> dict[str, Any]:
    """Write ``peer-I/manifest.csv`` for each peer, ``test/manifest.csv`` with the held-out clips, and ``run.yaml`` with
    the settings that all sites must have equal; return what each holds, as plain data.

    Emotions are the merged ones and only those that are learnt. Where ``copy``, each folder holds its recordings and is
    complete by itself; else the manifests name them where they lie on this machine. A peer of such a folder,
    ``p2pser peer --id I --run run.yaml --data peer-I/``, does bit for bit what it would in the dealt run, but for the
    held-out clips, which it does not see.

    Raises CorpusError where ``out`` is there and not an empty folder, or cannot be written.
    """
    corpus = dealt.corpus
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise CorpusError(f"{out} is not an empty folder: choose another --out")
        shares = {f"peer-{peer}": share for peer, share in enumerate(dealt.held) if share}
        held_out = {TEST: dealt.split.test} if dealt.split.test else {}
        names = _file_names(corpus)
        for folder, share in {**shares, **held_out}.items():
            _write(corpus, share, out / folder, names if copy else None)
        (out / RUN).write_text(yaml.safe_dump(_settings(config, dealt), sort_keys=False, allow_unicode=True),
                               encoding="utf-8")
    except OSError as error:
        raise CorpusError(f"cannot write to {out}: {error.strerror or error}") from None
    return {
        "out": str(out), "corpus": corpus.name, "version": corpus.version, "synthetic": corpus.synthetic,
        "split": dealt.split.name, "partition": config.corpus.partition, "labels": list(dealt.labels),
        "normalise": dealt.normalise, "speaker_overlap": dealt.speaker_overlap, "copied": copy,
        "peers": {folder: _contents(corpus, share) for folder, share in shares.items()},
        "test": _contents(corpus, dealt.split.test), "notes": list(dealt.notes),
    }


def _settings(config: Config, dealt: Dealt) -> dict[str, Any]:
    """What all sites must have equal, beside what is so by default."""
    tree = config.model_dump(mode="json", exclude_defaults=True, exclude={"corpus", "network", "peer"})
    corpus: dict[str, Any] = {"split": "none", "partition": "own"}
    if dealt.labels:
        corpus["labels"] = list(dealt.labels)
    tree["corpus"] = corpus
    tree["features"] = {**tree.get("features", {}), "normalise": dealt.normalise}
    return tree


def _file_names(corpus: Corpus) -> dict[Path, str]:
    """Where each clip lies below a folder of copies, in the order that the clips have."""
    names = [corpus.relative(clip) for clip in corpus.clips]
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in names):
        digits = len(str(len(names)))
        names = [f"{number:0{digits}d}-{clip.path.name}" for number, clip in enumerate(corpus.clips)]
    # A colon (synthetic:es) is no letter of a file's name everywhere that a folder may be carried.
    return {clip.path: name.replace(":", "-") for clip, name in zip(corpus.clips, names)}


def _write(corpus: Corpus, share: Sequence[int], folder: Path, names: dict[Path, str] | None) -> None:
    folder.mkdir(parents=True)
    clips = [scaled(corpus.clips[index], corpus.scale) for index in share]
    for number, clip in enumerate(clips if names is not None else ()):
        assert names is not None
        target = folder / names[clip.path]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip.path, target)
        clips[number] = dataclasses.replace(clip, path=target)
    write_manifest(dataclasses.replace(corpus, clips=tuple(clips)), folder / MANIFEST)


def _contents(corpus: Corpus, share: Sequence[int]) -> dict[str, Any]:
    clips = [corpus.clips[index] for index in share]
    return {
        "clips": len(clips),
        "corpora": sorted({clip.corpus or corpus.name for clip in clips}),
        "languages": sorted({clip.language for clip in clips} - {""}),
        "speakers": sorted({clip.speaker for clip in clips}),
        "emotions": dict(sorted(Counter(clip.emotion or "" for clip in clips).items())),
    }
