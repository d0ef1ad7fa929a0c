"""A simulated run as files and as text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pser.base.atomic import put
from p2pser.base.errors import ConfigError
from p2pser.evaluation.outputs import in_short
from p2pser.experiments.report.runs import MEAN_CCC, UAR, run_picture
from p2pser.models import directory
from p2pser.models.calibrated import NOT_ASKED, Calibrated
from p2pser.models.start import Start
from p2pser.run import budget
from p2pser.run.account import account
from p2pser.run.card import card

if TYPE_CHECKING:
    from torch import Tensor

    from p2pser.experiments.simulation import SimulatedRun
    from p2pser.simulation.results import Simulation

MODELS = {"consensus": "consensus model", "mean_peer": "mean peer", "worst_peer": "worst peer",
          "fine_tuned": "personal (mean)", "local_only": "local-only (mean)", "pooled": "pooled"}
"""Keys of the figures, and what the text calls the models."""


def write(result: SimulatedRun, folder: Path) -> None:
    """Write metrics.jsonl, run.png, model/ and a model of each smaller width, replacing those of an earlier run.

    Raises ConfigError where the folder cannot be written.
    """
    run = result.simulation
    try:
        put(folder / "metrics.jsonl", "".join(json.dumps(round.to_dict()) + "\n" for round in run.history).encode())
        for earlier in (folder / "model", *folder.glob("model-*")):
            if (earlier / directory.CARD).is_file():
                shutil.rmtree(earlier)
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}; give another --out") from None
    _draw(folder / "run.png", result)
    agreed = account(run.topology.size, run.final)["agreed"]
    for name, width, row in _models(run):
        # The calibration is of the model that was evaluated, the widest.
        directory.save(folder / name, row, run.networks[width].schema, card(
            run.config, run.topology, run.federation, run.statistics, agreed=agreed, width=width,
            calibrated=result.calibrated if name == "model" else NOT_ASKED, budget=run.budget,
            start=Start.of(run.config), predictions=run.predictions if name == "model" else None,
            energy=None if result.energy is None else result.energy.to_dict()))


def _draw(path: Path, result: SimulatedRun) -> None:
    run, document = result.simulation, result.to_dict()
    names = {"consensus model": "consensus", "mean peer": "mean", "worst peer": "worst"}
    if document["labels"]:
        curves = {name: [round.uar[key] for round in run.history] for name, key in names.items()}
        levels = document["uar"]
    else:
        curves = {name: [None if round.ccc is None else in_short(round.ccc[key]) for round in run.history]
                  for name, key in names.items()}
        levels = {name: in_short(ccc) for name, ccc in document["ccc"].items()} if document["ccc"] else document["uar"]
    run_picture(
        path, topology=run.topology, dead=document["peers_dead"], rounds=document["rounds"], uar=curves,
        baselines={"pooled": levels["pooled"], "local-only": levels["local_only"]},
        score=UAR if document["labels"] else MEAN_CCC,
        distance=[round.distance for round in run.history], final_distance=list(run.final_distance), slem=run.slem)


def _models(run: Simulation) -> Iterator[tuple[str, float, Tensor]]:
    """Yield (folder, width, row) of the widest model, and of one of each other width."""
    by_width = {run.widths[i]: i for i in reversed(run.living)}
    for width in sorted(by_width, reverse=True):
        row = run.networks[width].own(run.final.rows[by_width[width]].float())
        yield "model" if width == max(by_width) else f"model-{width:g}", width, row


def text(document: dict[str, Any]) -> list[str]:
    """Return the lines of ``SimulatedRun.to_dict()`` for a reader."""
    return [*_figures(document), *_conditions(document), *document["notes"]]


def _figures(document: dict[str, Any]) -> Iterator[str]:
    uar, ccc, emotions = document["uar"], document["ccc"] or {}, bool(document["labels"])
    measures = " and ".join(["UAR"] * emotions + ["CCC"] * bool(ccc))
    kind = " (synthetic: for trying the system only)" if document["synthetic"] else ""
    yield (f"{document['corpus']}{kind}, {document['split']}: {measures} on the held-out speakers "
           f"{', '.join(document['test_speakers'])}")
    columns = ["UAR"] * emotions + list(next(filter(None, ccc.values()), {}))
    if ccc:
        yield f"  {'':<18} " + "  ".join(f"{column:>5}" for column in columns)
    for key, name in MODELS.items():
        values = [uar[key]] * emotions + list((ccc.get(key) or {}).values()) if key in uar else []
        if any(value is not None for value in values):
            cells = ["–" if value is None else f"{value:.3f}" for value in values]
            yield f"  {name:<18} " + "  ".join(f"{cell:>{max(5, len(column))}}" for cell, column in zip(cells, columns))
    for width, value in document["uar_by_width"].items():
        if value is not None:
            yield f"  {f'width {width}':<18} {value:.3f}"
    for corpus, figures in document["uar_by_corpus"].items():
        each = ", ".join(f"{MODELS[key]} {value:.3f}" for key, value in figures.items() if value is not None)
        if each:
            yield f"  on {corpus}: {each}"


def _conditions(document: dict[str, Any]) -> Iterator[str]:
    chance = f"chance {1 / len(document['labels']):.3f}, " if document["labels"] else ""
    yield (f"{chance}normalisation {document['normalise']}, test speakers that were trained on: "
           f"{document['speaker_overlap']}")
    if document["privacy"] is not None:
        yield budget.in_words(document["privacy"])
    yield from Calibrated.read(document).lines()
    final = document["final"]
    end = f"{final['exchanges']} exchanges of the final consensus ({'agreed' if final['converged'] else 'gave up'})"
    if final["bound"] is None:
        end = "no final consensus (the model is one peer's)"
    yield (f"consensus distance {document['consensus_distance']:.1e} after {document['rounds']} rounds and {end}; "
           f"{document['bytes_per_peer'] / 1e6:.2f} MB sent per peer; {document['wall_s']:.1f} s")
    if document["simulated_s"] is not None:
        yield f"over such a network and with such peers it would take {document['simulated_s']:.1f} s"
    if (asynchronous := document["asynchronous"]) is not None:
        stale = asynchronous["staleness"]
        yield (f"staleness of exchanges: mean {stale['mean']:.2f}, at most {stale['max']} rounds (bound "
               f"{stale['bound']}); {asynchronous['refused']} refused, drift {asynchronous['drift']:.1e}")
