"""``p2pser predict``: the emotion of recordings."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import click

from p2pser.cli.common import json_option, note, print_json


@click.command()
@click.argument("model", metavar="MODEL_DIR", type=click.Path(path_type=Path))
@click.argument("recordings", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--enrol", type=click.Path(path_type=Path), default=None, metavar="DIR",
              help="Recordings of the same speaker, whose statistics scale the features.")
@json_option
def predict(model: Path, recordings: tuple[Path, ...], enrol: Path | None, as_json: bool) -> None:
    """Predict the emotion of recordings: a label and the probability of each.

    FILE may be a folder: all recordings below it. Exit code 2 where one could not be used; the others are
    predicted all the same.

    Example: p2pser predict runs/ring/peer-3/model clip.wav
    """
    from p2pser.learning.predictor import load

    predictor = load(model)
    errors: list[tuple[Path, str]] = []
    remark = predictor.note(enrol is not None)
    if remark:
        note(f"p2pser: {remark}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # said above, as a note
        predictions = predictor.predict(recordings, enrol, errors)
    for path, reason in errors:
        note(f"p2pser: {path}: {reason}")
    if as_json:
        print_json({
            "model": str(model), "labels": list(predictor.labels), "note": remark,
            "predictions": [{"path": str(p.path), "label": p.label, "probabilities": p.probabilities}
                            for p in predictions],
            "errors": [{"path": str(path), "reason": reason} for path, reason in errors]})
    else:
        width = max((len(str(p.path)) for p in predictions), default=0)
        for p in predictions:
            chances = "  ".join(f"{label} {chance:.2f}" for label, chance in
                                sorted(p.probabilities.items(), key=lambda item: -item[1]))
            click.echo(f"{p.path!s:<{width}}  {p.label}  ({chances})")
    if errors:
        sys.exit(2)
