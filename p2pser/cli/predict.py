"""``p2pser predict``: the emotion of recordings, of each as a whole or window by window."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from p2pser.base.errors import CorpusError
from p2pser.base.progress import progress
from p2pser.cli.common import encoder_option, enrolled, json_option, renamed
from p2pser.cli.kinds import LONGEST, PICTURE, Number, Source, Table, spare
from p2pser.cli.output import echo, note, print_json, shown

if TYPE_CHECKING:
    from p2pser.features.normalisation import Statistics
    from p2pser.inference.answers import Answer
    from p2pser.inference.predictor import Predictor

STANDARD_INPUT = Path("-")

Given: TypeAlias = "tuple[Path, Path | bytes]"
"""The name of a recording, and its path or the bytes of standard input."""


@click.command()
@click.argument("model", metavar="MODEL_DIR", type=Source())
@click.argument("recordings", metavar="FILE|DIR|LIST...", nargs=-1, required=True, type=Source())
@click.option("--enrol", type=Source(exists=True), metavar="DIR",
              help="Recordings of the same speaker, whose statistics scale the features.")
@click.option("--together/--no-together", default=True, show_default=True,
              help="Where several recordings are unlike those of the training (another microphone, room or language), "
                   "scale the features by their common statistics; otherwise answer for each recording by itself.")
@renamed("--alone", "--no-together", flag=True)
@click.option("--top-k", type=click.IntRange(min=1), metavar="K", help="Print the K most probable emotions only.")
@click.option("--window", type=Number(min=0, min_open=True, max=LONGEST), metavar="S",
              help="Length of the window of a label [s].  [default: 3 with --hop, --silence or --plot]")
@click.option("--hop", type=Number(min=0, min_open=True, max=LONGEST), metavar="S",
              help="Time from one window to the next, 0.1 or more [s].  [default: 1, or a shorter window]")
@click.option("--silence", type=Number(max=0), metavar="DB",
              help="A window whose loudest 50 ms are below this level has no label [dBFS].  [default: -55]")
@click.option("--csv", "table", type=Table(), metavar="CSV",
              help="Write a row for each recording, or window, to a CSV file.")
@click.option("--plot", type=PICTURE, metavar="PNG",
              help="Draw the timeline of one recording (.png, .svg or .pdf).")
@click.option("--coverage", type=click.FloatRange(0, 0.95, min_open=True), default=0.9, show_default=True, metavar="P",
              help="Share of clips of new speakers whose set of emotions contains the right one: 0.8, 0.9 or 0.95.")
@click.option("--text", metavar="WORDS",
              help="Transcript of the recording, for models that read words; of several recordings give a manifest "
                   "with a column transcript.")
@encoder_option
@json_option
def predict(model: Path, recordings: tuple[Path, ...], enrol: Path | None, together: bool, top_k: int | None,
            window: float | None, hop: float | None, silence: float | None, table: Path | None, plot: Path | None,
            coverage: float, text: str | None, encoder: str | None, as_json: bool) -> None:
    """Predict the emotion of recordings: a label, a set of possible emotions, or "not sure" with the reason; and the
    probability of each emotion.

    DIR stands for all recordings below it, LIST (a text file with a path on each line, or a manifest CSV) for the
    recordings in it, - for standard input, which holds one recording. The exit code is 2 where a recording cannot be
    used; the others are predicted.

    Example: p2pser predict runs/demo/peer-3/model clip.wav

    Example: ffmpeg -i call.mp4 -f wav - | p2pser predict runs/demo/peer-3/model - --window 3

    Example: p2pser predict runs/demo/peer-3/model clip.wav --window 1 --hop 0.5 --plot clip.png --csv clip.csv
    """
    from p2pser.inference.predictor import load, most_probable
    from p2pser.inference.recordings import files
    from p2pser.inference.words import given_texts, unread, without_words

    spare(table, recordings)
    predictor = load(model, encoder, coverage)
    remark = predictor.note(enrol is not None)
    if remark:
        note(shown(f"p2pser: {remark}"))
    errors: list[tuple[Path, str]] = []
    own = enrolled(predictor, enrol, errors)
    paths = files(recordings)
    given = _given(paths)
    timed = not (window is None and hop is None and plot is None and silence is None)
    if plot is not None and len(paths) != 1:
        raise click.UsageError(f"--plot draws the timeline of one recording, and {len(paths)} are named: name one")
    if text is not None and (timed or len(paths) != 1):
        raise click.UsageError("--text is the transcript of one whole recording: name one, without a timeline")
    if timed and (silent := without_words(predictor.card, windows=True)):
        note(f"p2pser: {silent}")
    for sentence in unread(predictor.card, text):
        note(f"p2pser: {sentence}")
    texts = given_texts(text, paths, recordings)
    answers = _timelines(predictor, given, own, window, hop, silence, errors) if timed \
        else _whole(predictor, given, own, errors, together, texts)
    rows = []
    width = max(len(shown(str(path))) for path in paths)
    for row, answer in answers:
        rows.append(row)
        if not as_json:
            when = f"  {row['start']:8.2f} {row['end']:8.2f}" if timed else ""
            echo(f"{shown(row['path']):<{width}}{when}  {shown(_text(answer, top_k))}")
    for sentence in predictor.remarks:
        note(shown(f"p2pser: {sentence}"))
    for path, reason in errors:
        note(shown(f"p2pser: {path}: {reason}"))
    _write(table, plot, rows, predictor, paths)
    if as_json:
        print_json({"model": str(model), "labels": list(predictor.labels), "note": remark,
                    "remarks": list(predictor.remarks),
                    "windows" if timed else "predictions": [most_probable(row, top_k) for row in rows],
                    "errors": [{"path": str(path), "reason": reason} for path, reason in errors]})
    if errors:
        sys.exit(2)


def _given(paths: list[Path]) -> list[Given]:
    if paths.count(STANDARD_INPUT) > 1:
        raise click.UsageError("standard input, -, holds one recording: name it once")
    if STANDARD_INPUT in paths and sys.stdin is None:
        raise click.UsageError("standard input, -, is closed: give it a recording")
    return [(path, sys.stdin.buffer.read() if path == STANDARD_INPUT else path) for path in paths]


def _whole(predictor: Predictor, given: list[Given], own: Statistics | None, errors: list[tuple[Path, str]],
           together: bool, texts: list[str]) -> Iterator[tuple[dict[str, Any], Answer | None]]:
    """Yield a row and its answer for each recording."""
    wrong: list[tuple[Path, str]] = []
    for answer in predictor.each((source for _, source in _shown(given)), own, wrong, together=together,
                                 texts=texts):
        yield {"path": str(answer.path or STANDARD_INPUT), **answer.to_dict()}, answer
    named = {path for path, source in given if isinstance(source, Path)}
    errors += [(path if path in named else STANDARD_INPUT, reason) for path, reason in wrong]


def _timelines(predictor: Predictor, given: list[Given], own: Statistics | None, window: float | None,
               hop: float | None, silence: float | None,
               errors: list[tuple[Path, str]]) -> Iterator[tuple[dict[str, Any], Answer | None]]:
    """Yield a row and its answer for each window of each recording."""
    from p2pser.inference import timeline
    from p2pser.inference.windows import Windower

    window = timeline.WINDOW if window is None else window
    hop = min(timeline.HOP, window) if hop is None else hop
    silence = timeline.SILENCE if silence is None else silence
    Windower(predictor.card.features.sample_rate, window, hop)  # refuses wrong lengths before any work is done
    for path, source in _shown(given):
        try:
            for segment in timeline.timeline(predictor, source, window=window, hop=hop, silence=silence, own=own):
                yield {"path": str(path), **segment.to_dict()}, segment.answer
        except CorpusError as error:
            errors.append((path, str(error).removeprefix(f"{path}: ")))


def _shown(given: list[Given]) -> Iterator[Given]:
    """Yield the recordings, with a progress bar where there are several."""
    with progress("recordings", len(given), wanted=len(given) > 2, transient=True) as bar:
        for each in given:
            yield each
            bar.advance()


def _text(answer: Answer | None, top_k: int | None) -> str:
    if answer is None:
        return "(silence)"
    most_probable = answer.top(top_k or len(answer.probabilities))
    probabilities = "  ".join(f"{label} {probability:.2f}" for label, probability in most_probable)
    ratings = "  ".join(f"{name} {value:+.2f}" for name, value in answer.dimensions.items())
    reason = f": {answer.unsure}" if answer.unsure else ""
    return f"{answer.answer}{reason}  ({', '.join(filter(None, [probabilities, ratings]))})"


def _write(table: Path | None, plot: Path | None, rows: list[dict[str, Any]], predictor: Predictor,
           paths: list[Path]) -> None:
    if table is not None and rows:
        from p2pser.evaluation import listing

        card = predictor.card
        listing.write(table, ({
            **{key: row[key] for key in ("path", "start", "end") if key in row}, "label": row["label"] or "",
            **{f"p_{label}": row["probabilities"].get(label, "") for label in card.labels},
            **{name: row["dimensions"].get(name, "") for name in card.dimensions},
            "answer": row["answer"], "set": "|".join(row["set"] or ()), "reason": row["reason"] or ""} for row in rows))
        note(f"written to {table}")
    if plot is not None and rows:
        from p2pser.experiments.report.timelines import timeline_picture

        timeline_picture(plot, rows, predictor.card.labels, predictor.card.dimensions, paths[0].name)
        note(f"written to {plot}")
