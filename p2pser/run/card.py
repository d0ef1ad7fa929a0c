"""The card of a run's model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from p2pser.config import Config
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.tested import by_group
from p2pser.features.federation import Federation
from p2pser.features.normalisation import Statistics
from p2pser.graph.spec import Topology
from p2pser.models.calibrated import NOT_ASKED, Calibrated
from p2pser.models.directory import Card
from p2pser.models.facts import Facts
from p2pser.models.origin import Origin
from p2pser.models.start import Start
from p2pser.models.widths import of_width

CONSENSUS = "none: the consensus after the last round"


def card(config: Config, topology: Topology, federation: Federation, statistics: Statistics | None, *,
         agreed: int | None, statistics_of: str = "the training speakers", width: float = 1.0,
         selection: str = CONSENSUS, calibrated: Calibrated = NOT_ASKED, budget: Mapping[str, Any] | None = None,
         start: Start | None = None, predictions: Predictions | None = None,
         energy: Mapping[str, Any] | None = None) -> Card:
    """Return the card of a model trained between processes or simulated: equal for the same run.

    Parameters
    ----------
    config, topology, federation : the run's.
    statistics, statistics_of : the training statistics of features, and a description of the clips behind them.
    agreed : the number of peers that agreed on one model; None if each peer keeps its own.
    width : of the model.
    selection : how this model was selected.
    calibrated : its temperature, figures and sets of emotions, by speakers outside its training.
    budget : the privacy loss of a unit in the run (``Algorithm.budget_report``); None without a budget.
    start : the model that the run started from; None: its parameters were drawn.
    predictions : the model's, of the held-out clips with an emotion; None: there are none.
    energy : of the process (``base.energy.Energy``).
    """
    how = {**config.training.model_dump(mode="json"), **config.gossip.model_dump(mode="json"),
           "augment": config.augment.model_dump(mode="json", exclude_defaults=True),
           "peers": topology.size, "agreed": agreed, "topology": topology.name, "seed": config.seed,
           "purpose": config.privacy.purpose, "statistics_of": statistics_of,
           "why_normalised": federation.why_normalised,
           **({"calibration": calibrated.how} if calibrated.how else {}),
           **({} if budget is None else {"privacy": dict(budget)}),
           **({} if start is None else {"start": start.facts})}
    shape = next(iter(federation.train.values())).features.shape[1:]
    return Card(labels=federation.labels, shape=shape, model=of_width(config.model, width), features=config.features,
                normalise=federation.normalise, statistics=statistics,
                corpus=Origin.of(config, federation.corpus, chain.from_iterable(federation.held)),
                training=how, selection=selection, temperature=calibrated.temperature, heard=calibrated.heard,
                sets=calibrated.sets, task=config.training.task,
                facts=Facts(by_group(federation, predictions), energy=energy))
