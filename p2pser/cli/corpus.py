"""``p2pser corpus``: list, download, scan and describe corpora, and write the synthetic corpus as files."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from p2pser.base.atomic import missing_or_empty, new_folder
from p2pser.base.errors import CorpusError
from p2pser.base.progress import progress
from p2pser.base.registries import CORPORA
from p2pser.base.wording import counted, shown
from p2pser.cli.common import RUN_OPTION, json_option, new_folder_option, which_corpus
from p2pser.cli.corpus_split import split
from p2pser.cli.kinds import Source, Target
from p2pser.cli.output import echo, note, print_json
from p2pser.config import Config
from p2pser.corpora import copies
from p2pser.corpora.labels import unknown_note
from p2pser.corpora.loading import GENERAL, SYNTHETIC, adapter, load, names
from p2pser.corpora.manifest import Corpus, assemble, write_manifest
from p2pser.corpora.partitioning import scaling, without_line
from p2pser.features import audio
from p2pser.features.audio import long_note
from p2pser.features.ends import early_note

SHOWN = 10
"""Number of files, or of reasons, that are listed without ``--json``."""
LONGEST = 200
"""Length of the longest path that is shown whole."""
EACH = 30
"""Largest number of speakers, or of other values, that are counted one by one."""

_seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                            help="Seed of the synthetic corpus.")


@click.group()
def corpus() -> None:
    """List, download, scan and describe corpora.

    Example: p2pser corpus scan my-clips/
    """


corpus.add_command(split)


@corpus.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the known corpora, those of installed packages too: language, speakers, licence, source.

    Example: p2pser corpus list
    """
    entries = [_entry(name) for name in names()]
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        echo(f"{entry['name']:10s} {entry['about']}" + (f" ({entry['from']})" if entry["from"] else ""))
        if "licence" in entry:
            _print_how(entry)


@corpus.command()
@click.argument("data", type=Source())
@click.option("--corpus", "name", metavar="NAME", default="auto", show_default=True,
              help="A corpus (p2pser corpus list) whose file names the files have; crema-d:voted: a variant.")
@click.option("--manifest", type=Source(), metavar="CSV|DIR",
              help="Write the clips as a manifest; of several corpora a folder with a manifest for each.")
@json_option
def scan(data: Path, name: str, manifest: Path | None, as_json: bool) -> None:
    """Recognise the corpora in a folder (or manifest), and check the header of every file.

    Files that are left out are listed with the reason: unusable files (a text or git-LFS pointer named .wav, a clip
    that is too short), and files that belong to no corpus.

    Example: p2pser corpus scan my-clips/
    """
    if name == "auto":
        from p2pser.corpora.survey import survey

        corpora, others = survey(data)
    else:
        corpora, others = [load(name, data)], []
    checked = [_usable(corpus) for corpus in corpora]
    if manifest is not None:
        _write_manifests([corpus for corpus, _ in checked], manifest)
    documents = [_document(corpus, seconds) for corpus, seconds in checked]
    left_out = [{"path": str(path), "reason": reason} for path, reason in others]
    if as_json:
        print_json({"corpora": documents, "left_out": left_out} if len(documents) > 1 or left_out else documents[0])
    else:
        for document in documents:
            _print_text(document)
        _note_left_out(left_out)
    for corpus, _ in checked:
        _need_clips(corpus)


@corpus.command()
@click.argument("name")
@RUN_OPTION["data"]
@_seed_option
@json_option
def describe(name: str, data: Path | None, seed: int, as_json: bool) -> None:
    """Describe a corpus: licence and source; with --data also clips, speakers, emotions, genders, seconds and splits.

    Example: p2pser corpus describe emodb --data emodb/

    Example: p2pser corpus describe emodb=emodb/,ravdess=ravdess/
    """
    from p2pser.config import CorpusSettings
    from p2pser.config.problems import section
    from p2pser.corpora import combined as several

    chosen, where = which_corpus(name, data)
    base = (chosen or name).partition(":")[0]
    entry = _entry(base) if base in CORPORA else {}
    if where is None and entry:
        if as_json:
            print_json(entry)
        else:
            echo(entry["about"])
            _print_how(entry)
        return
    loaded, seconds = _usable(several.load(section(CorpusSettings, name=chosen or name, data=where, seed=seed)))
    document = {**_document(loaded, seconds), **({"corpus": entry} if entry else {})}
    if as_json:
        print_json(document)
    else:
        _print_text(document)
        if entry:
            _print_how(entry)
    _need_clips(loaded)


@corpus.command()
@click.argument("name")
@click.option("--out", type=Target(folder=True), help="Folder of the corpus.  [default: corpora/NAME]")
@click.option("--edition", default="", help="Edition of a corpus with several (emodb: 2.0; audb: its versions).")
@click.option("--yes", is_flag=True, help="Accept the licence without a question.")
@click.option("--via", type=click.Choice(["publisher", "audb"]), default="publisher", show_default=True,
              help="Source of the files: the corpus's publisher, or audb (extra audb).")
@click.option("--mirror", default="", metavar="URL", help="Address of a mirror with the publisher's paths.")
@click.option("--keep", is_flag=True, help="Keep the archives after unpacking.")
@json_option
def fetch(
    name: str, out: Path | None, edition: str, yes: bool, via: str, mirror: str, keep: bool, as_json: bool
) -> None:
    """Download a corpus that is free to download, then scan it; of another corpus, name the place to request it.

    The licence is shown first, and has to be accepted. The same command continues an interrupted download; complete
    files are not downloaded again.

    Example: p2pser corpus fetch ravdess --out corpora/ravdess
    """
    from p2pser.corpora.fetch import fetch as fetch_files
    from p2pser.corpora.fetch import source_of, via_audb

    base = name.partition(":")[0]
    folder = out or Path("corpora") / (f"{base}-{edition}" if edition else base)
    fetched: dict[str, Any] = {"out": str(folder)}
    if via == "audb":
        _accept(base, "", yes)
        fetched["version"] = via_audb.fetch(name, folder, edition)
    else:
        source = source_of(name, edition)
        items = source.items(mirror)
        known = [item.size for item in items if item.size is not None]
        total = sum(known) if known and len(known) == len(items) else None
        _accept(base, f", {total / 1e6:.0f} MB" if total else "", yes)
        note(f"fetching {counted(len(items), 'file')} into {folder}")
        with progress("", total, unit="bytes") as bar:
            files = fetch_files(source, folder, items=items, mirror=mirror, keep=keep, progress=bar.advance)
        fetched["files"] = [vars(file) for file in files]
        for file in files[:SHOWN] if not as_json else ():
            compared = f"{file.published} as published" if file.published else "no published checksum"
            echo(f"{file.name}: {file.size} bytes, sha256 {file.sha256} ({compared})")
    loaded, seconds = _usable(load(name, folder))
    document = {**_document(loaded, seconds), "fetched": fetched}
    if as_json:
        print_json(document)
    else:
        _print_text(document)
        echo(f"  in {folder}: --corpus {name} --data {folder}")
    _need_clips(loaded)


@corpus.command()
@new_folder_option
@_seed_option
@json_option
def make(out: Path, seed: int, as_json: bool) -> None:
    """Write the synthetic corpus as WAV files with a manifest.csv.

    Example: p2pser corpus make --out synthetic-clips/
    """
    made = load("synthetic", None, seed=seed)
    try:
        if not missing_or_empty(out):
            raise CorpusError(f"{out} is not an empty folder: choose another --out")
        with new_folder(out, durable=False) as partial:
            clips = [replace(clip, path=partial / made.relative(clip)) for clip in made.clips]
            for source, copy in zip(made.clips, clips):
                copy.path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.path, copy.path)
            copied = assemble(made.name, made.version, clips, [], partial, synthetic=True)
            write_manifest(copied, partial / "manifest.csv")
    except OSError as error:
        raise CorpusError(f"cannot write the clips to {out}: {error.strerror}") from None
    if as_json:
        print_json({"out": str(out), "clips": len(made.clips), "manifest": str(out / "manifest.csv")})
    else:
        echo(f"{counted(len(made.clips), 'clip')} and manifest.csv in {out}")


def _accept(base: str, size: str, yes: bool) -> None:
    """Show the licence, and ask for its acceptance unless ``yes``. Raises CorpusError where it is not accepted."""
    about = adapter(base).about if base in CORPORA else None
    if about is None:
        return
    note(f"{about.title}{size}; licence: {about.licence}; cite: {about.reference}")
    if yes:
        return
    try:
        accepted = click.confirm("Fetch it under this licence?", err=True)
    except click.Abort:
        accepted = False
    if not accepted:
        raise CorpusError(f"{base} was not fetched, as its licence was not accepted: answer y, or give --yes")


def _entry(name: str) -> dict[str, Any]:
    """Return the facts about a corpus for ``list``; ``from`` names the package that adds it, None for p2pser."""
    from p2pser.corpora.fetch.sources import SOURCES

    if name not in CORPORA:
        return {"name": name, "about": {**SYNTHETIC, **GENERAL}[name], "from": None}
    about, origin = adapter(name).about, CORPORA.origin(name)
    return {
        "name": name, "about": about.line, "from": None if origin.builtin else str(origin), "title": about.title,
        "languages": about.languages, "speakers": about.speakers, "clips": about.clips, "emotions": about.emotions,
        "licence": about.licence, "source": about.source, "reference": about.reference, "tables": about.tables,
        "fetch": name in SOURCES,
        "variants": {f"{name}:{variant}": meaning for variant, meaning in about.variants.items()},
    }


def _print_how(entry: dict[str, Any]) -> None:
    how = f"p2pser corpus fetch {entry['name']}, from" if entry["fetch"] else "request it from"
    echo(f"{'':10s}   licence: {entry['licence']}; {how} {entry['source']}")
    if entry["tables"]:
        echo(f"{'':10s}   beside the recordings {entry['tables']}")
    for name, meaning in entry["variants"].items():
        echo(f"{'':10s}   {name}: {meaning}")


def _write_manifests(corpora: Sequence[Corpus], target: Path) -> None:
    """Write one manifest to ``target``, or one for each corpus into the folder ``target``."""
    is_file = target.suffix.lower() in (".csv", ".tsv", ".txt") or target.is_file()
    if len(corpora) == 1:
        write_manifest(corpora[0], target if is_file else target / "manifest.csv")
        return
    if is_file:
        each = ", ".join(corpus.name for corpus in corpora)
        raise CorpusError(f"there are several corpora ({each}) for the one manifest {target}: give a folder, or one "
                          "corpus with --corpus")
    for corpus in corpora:
        write_manifest(corpus, target / f"{corpus.name}.csv")


def _usable(loaded: Corpus) -> tuple[Corpus, float]:
    """Return the corpus without the files whose header shows that they cannot be used, and its length [s]."""
    good, bad, seconds = [], list(loaded.left_out), 0.0
    for clip in loaded.clips:
        wrong = audio.reason(clip.path)
        if wrong is None:
            good.append(clip)
            seconds += audio.seconds(clip.path)
        else:
            bad.append((clip.path, wrong))
    bad.sort(key=lambda item: str(item[0]))
    return replace(loaded, clips=tuple(good), left_out=tuple(bad)), seconds


def _document(loaded: Corpus, seconds: float) -> dict[str, Any]:
    scaled, paths = scaling(Config(), loaded, loaded.clips), [clip.path for clip in loaded.clips]
    return {
        "name": loaded.name,
        "version": loaded.version,
        "synthetic": loaded.synthetic,
        "clips": len(loaded.clips),
        "seconds": round(seconds, 3),
        "speakers": _counts(clip.speaker for clip in loaded.clips),
        "emotions": _counts(clip.emotion or "" for clip in loaded.clips),
        "genders": _counts(clip.gender for clip in loaded.clips),
        "languages": _counts(clip.language for clip in loaded.clips),
        "dimensions": sum(clip.arousal is not None or clip.valence is not None or clip.dominance is not None
                          for clip in loaded.clips),
        "votes": sum(bool(clip.votes) for clip in loaded.clips),
        "default_split": loaded.default_split,
        "default_normalise": scaled.how,
        "why_normalised": scaled.reason if loaded.clips else "",
        "notes": [*loaded.notes, *unknown_note(loaded), *copies.note(loaded), *early_note(paths), *long_note(paths)],
        "left_out": [{"path": str(path), "reason": reason} for path, reason in loaded.left_out],
    }


def _need_clips(loaded: Corpus) -> None:
    if not loaded.clips:
        first, reason = loaded.left_out[0]
        raise CorpusError(f"no file of {loaded.name} can be used; the first, {first}: {reason}")


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _print_text(document: dict[str, Any]) -> None:
    version = f", version {document['version']}" if document["version"] else ""
    made = " (synthetic: for trying the system only)" if document["synthetic"] else ""
    if not document["clips"]:
        _note_left_out(document["left_out"])
        return
    echo(shown(f"{document['name']}{version}{made}: {counted(document['clips'], 'clip')}, {document['seconds']:.0f} s, "
               f"{counted(len(document['speakers']), 'speaker')}"))
    for what in ("emotions", "genders", "languages", "speakers"):
        counts = document[what]
        if set(counts) != {""} and counts:
            each = ", ".join(f"{name or 'unknown'} {count}" for name, count in counts.items())
            many = f"{len(counts)}, of {min(counts.values())} to {max(counts.values())} clips each (--json lists all)"
            echo(shown(f"  {what:10s} {each if len(counts) <= EACH else many}"))
    for what, meaning in (("dimensions", "arousal, valence or dominance"), ("votes", "the listeners' votes")):
        if document[what]:
            echo(f"  {what:10s} {meaning} for {counted(document[what], 'clip')}")
    echo(f"  by default split {document['default_split']}, normalise {document['default_normalise']}")
    echo(f"  {document['why_normalised']}")
    for sentence in document["notes"]:
        note(shown(f"note: {sentence}"))
    _note_left_out(document["left_out"])


def _note_left_out(left_out: Sequence[dict[str, str]]) -> None:
    """Name the files that are left out, with the reason; of many files the first of each reason."""
    if not left_out:
        return
    note(f"left out: {counted(len(left_out), 'file')}")
    few = len(left_out) <= SHOWN
    by_reason: dict[str, list[dict[str, str]]] = {}
    for number, item in enumerate(left_out):
        by_reason.setdefault(str(number) if few else without_line(item["reason"]), []).append(item)
    for alike in list(by_reason.values())[:SHOWN]:
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        note(f"  {shown(alike[0]['path'], LONGEST)}{more}: {shown(alike[0]['reason'])}")
    if len(by_reason) > SHOWN:
        note(f"  and {counted(len(by_reason) - SHOWN, 'more reason')} (--json lists all)")
