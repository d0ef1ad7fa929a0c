"""``p2pser evaluate``: the accuracy and calibration of a model on a corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from p2pser.base.errors import ModelError
from p2pser.cli.common import (
    RUN_OPTION,
    encoder_option,
    json_option,
    renamed,
    split_option,
    which_corpus,
    workers_option,
)
from p2pser.cli.kinds import PICTURE, Source, Table, Target, spare
from p2pser.cli.output import echo, note, print_json


@click.command()
@click.argument("model", metavar="MODEL_DIR", type=Source())
@RUN_OPTION["corpus"]
@RUN_OPTION["data"]
@split_option
@click.option("--folds", "fold", type=click.IntRange(min=0), metavar="N",
              help="Fold that is held out for testing: its number.  [default: that of the model's training]")
@renamed("--fold", "--folds")
@click.option("--all", "everything", is_flag=True,
              help="Test all clips, fold by fold: the default for a corpus on which the model was not trained.")
@click.option("--known-labels", is_flag=True,
              help="Leave out clips of emotions that the model does not know.")
@click.option("--seed", type=click.IntRange(min=0),
              help="Seed of the synthetic corpus.  [default: that of the model's training]")
@workers_option
@click.option("--csv", "table", type=Table(), metavar="CSV",
              help="Write a row for each clip to a CSV file: path, speaker, gender, fold, target, prediction, "
                   "probabilities.")
@click.option("--plot", "picture", type=PICTURE, metavar="PNG",
              help="Draw the confusion matrix (.png, .svg or .pdf).")
@renamed("--picture", "--plot")
@click.option("--calibrate", "copy", type=Target(folder=True), metavar="NEW_DIR",
              help="Fit the temperature of the probabilities and the sets of emotions on these clips, and write the "
                   "model with them to NEW_DIR.")
@encoder_option
@json_option
def evaluate(model: Path, corpus: str | None, data: Path | None, split: str | None, fold: int | None, everything: bool,
             known_labels: bool, seed: int | None, workers: int | None, table: Path | None, picture: Path | None,
             copy: Path | None, encoder: str | None, as_json: bool) -> None:
    """Evaluate a model on a corpus: UAR both ways, by gender and for the worst speaker, with intervals over speakers,
    and calibration.

    By default the corpus is recognised by the content of --data, and on the corpus of the model's training the fold
    that training held out is tested.

    --calibrate fits the temperature of the model's probabilities, which changes no decision, and the thresholds of its
    sets of emotions. No peer may have trained on the speakers of these clips.

    Example: p2pser evaluate runs/demo/peer-3/model --data my-clips/ --known-labels
    """
    if everything and fold is not None:
        raise click.UsageError("--all tests every fold, and --folds one fold: give one of them")
    if copy is not None and copy.exists():
        raise click.UsageError(f"{copy} exists already; remove it, or write the calibrated model elsewhere")
    spare(table, [data])
    from p2pser.config import CorpusSettings
    from p2pser.config.problems import section
    from p2pser.corpora import combined as several
    from p2pser.experiments import evaluation_set
    from p2pser.experiments import model_evaluation as evaluation
    from p2pser.inference.predictor import load
    from p2pser.models import directory
    from p2pser.models.onnx_network import OnnxNetwork
    from p2pser.models.rows import Schema

    predictor = load(model, encoder)
    module = predictor.module
    if copy is not None and isinstance(module, OnnxNetwork):
        raise ModelError(f"{model} is for predictions only: calibrate the model that it was exported from")
    chosen = predictor.card.corpus.seed if seed is None else seed
    name, where = which_corpus(corpus, data)
    whole = several.load(section(CorpusSettings, name=name or "auto", data=where, seed=chosen))
    clips = evaluation_set.choose(predictor.card, whole, seed=chosen, split=split or "auto", fold=fold,
                                  everything=everything, known_labels=known_labels)
    report = evaluation.evaluate(predictor, clips, workers=workers, progress=not as_json)
    if copy is not None and not isinstance(module, OnnxNetwork):
        report = evaluation.calibrate(report)
        schema = Schema.of(module)
        directory.save(copy, schema.flatten(module), schema, replace(
            predictor.card, temperature=report.temperature, heard=report.heard, sets=report.sets,
            training={**predictor.card.training, "temperature": f"fitted on {report.corpus}, {report.split}"}))
        note(f"written to {copy}: the model with temperature {report.temperature:.3f}")
    if table is not None:
        note(f"written to {table}: {report.write_csv(table)} predictions")
    if picture is not None and report.predictions is None:
        note(f"{picture} is not drawn: the model knows no emotions, so there is no confusion matrix")
    elif picture is not None:
        from p2pser.experiments.report.predictions import confusion_picture

        confusion_picture(picture, {report.corpus: report.to_dict()["confusion"]}, report.labels)
        note(f"written to {picture}: the confusion matrix")
    if as_json:
        print_json({"model": str(model), **report.to_dict()})
    else:
        echo(report.text())
