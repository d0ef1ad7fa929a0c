"""``p2pser evaluate``: the figures of a model on a corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from p2pser.base.errors import ModelError
from p2pser.cli.common import encoder_option, json_option, note, print_json, renamed, which_corpus
from p2pser.cli.kinds import Source, Target


@click.command()
@click.argument("model", metavar="MODEL_DIR", type=Source())
@click.option("--corpus", default="auto", metavar="NAME|PATH",
              help="A corpus (p2pser corpus list), several (emodb=DIR,ravdess=DIR), or auto (default: from the content "
                   "of --data).")
@click.option("--data", type=Source(), default=None, metavar="PATH",
              help="Folder or manifest of the recordings; none needed for synthetic.")
@click.option("--split", default="auto", metavar="SPLIT",
              help="loso, emobox, group:K, speakers:A+B, clips:K, none (all clips as one fold), or auto.")
@click.option("--folds", "fold", type=click.IntRange(min=0), metavar="N", help="Test this fold only.")
@renamed("--fold", "--folds")
@click.option("--all", "everything", is_flag=True,
              help="Test all clips, fold by fold: the default for a corpus that the model was not trained on.")
@click.option("--known-labels", is_flag=True,
              help="Leave out clips of emotions that the model does not know.")
@click.option("--seed", type=click.IntRange(min=0), default=None, metavar="S",
              help="Seed of the synthetic corpus; default: that of the model's training.")
@click.option("--workers", type=click.IntRange(min=1), default=None, metavar="N",
              help="Processes that compute features; default: one per core.")
@click.option("--csv", "table", type=Target(folder=False), metavar="FILE",
              help="Write a row per clip: path, speaker, gender, fold, target, prediction, probabilities.")
@click.option("--picture", type=Target(folder=False), metavar="FILE",
              help="Draw the confusion matrix (.png, .svg or .pdf).")
@click.option("--calibrate", "copy", type=Target(folder=True), metavar="NEW_DIR",
              help="Fit the temperature of the probabilities and the sets of emotions on these clips, and write the "
                   "model with them to NEW_DIR.")
@encoder_option
@json_option
def evaluate(model: Path, corpus: str, data: Path | None, split: str, fold: int | None, everything: bool,
             known_labels: bool, seed: int | None, workers: int | None, table: Path | None, picture: Path | None,
             copy: Path | None, encoder: str | None, as_json: bool) -> None:
    """Evaluate a model on a corpus: UAR both ways, by gender and for the worst speaker, with intervals over speakers,
    and calibration.

    On the corpus of the model's training, the default is to test the fold that training left out.

    --calibrate fits the temperature of the model's probabilities, which changes no decision, and the thresholds of its
    sets of emotions. The clips must be of
    speakers that no peer trained on.

    Example: p2pser evaluate runs/ring/peer-3/model --corpus emodb --data emodb/
    """
    if everything and fold is not None:
        raise click.UsageError("--all tests every fold, --folds one: give one of them")
    if copy is not None and copy.exists():
        raise click.UsageError(f"{copy} exists already; remove it, or write the calibrated model elsewhere")
    from p2pser.config import CorpusSettings
    from p2pser.config.problems import section
    from p2pser.corpora import combined as several
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
    trial = evaluation.choose(predictor.card, whole, seed=chosen, split=split, fold=fold,
                              everything=everything, known_labels=known_labels)
    report = evaluation.evaluate(predictor, trial, workers=workers, progress=not as_json)
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
        note(f"drawn in {picture}: the confusion matrix")
    if as_json:
        print_json({"model": str(model), **report.to_dict()})
    else:
        click.echo(report.text())
