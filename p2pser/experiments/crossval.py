"""Cross-validation of federated training: every fold and several seeds, of gossip and its baselines.

For each model the runs are a plan (``p2pser.experiments.planning``) of one topology with the baselines asked for. On
inner folds of training speakers each scheme chooses its settings, where a grid is given, and its temperature
(``evaluation.calibration``) is fitted on the logits that the models of the chosen settings give for speakers they
were not trained on. Test speakers play no part in either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from p2pser.base.errors import ConfigError, nearest
from p2pser.base.frames import flat, frame
from p2pser.base.registries import FAMILIES
from p2pser.config import Config, FeatureSettings
from p2pser.config.problems import section
from p2pser.corpora.partitioning import partition_corpus, splits
from p2pser.evaluation import listing
from p2pser.evaluation.calibration import scaled
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import pool
from p2pser.experiments.differences import mean
from p2pser.experiments.jobs import Document, Plan, file_name
from p2pser.experiments.planning import baselines_of, fold_numbers, plan
from p2pser.experiments.results import Results
from p2pser.experiments.scheme_figures import figures
from p2pser.graph import spec
from p2pser.graph.spec import Topology

if TYPE_CHECKING:
    import pandas

ALONE = (
    "one peer trains alone, since a fold has one training speaker only, or --peers asks for it: gossip exchanges "
    "nothing, and its figures are those of local training")
"""The note of such a cross-validation."""
SCHEMES = {"gossip": "gossip", "fedavg": "server", "pooled": "pooled", "pooled-steps": "pooled-steps",
           "local": "local-only"}
"""The kind of runs of each scheme, in the order of reports."""

VOTING = "voting"
"""The kind of runs in the place of ``fedavg`` for trees, which a server cannot average: local models vote."""

Models: TypeAlias = "list[list[Predictions]]"
"""For each seed, each model's predictions of all folds."""


@dataclass(frozen=True)
class ModelRow:
    """The figures of one model.

    ``schemes`` holds those of each scheme (``scheme_figures.figures``). ``seconds_per_round`` is of simulated gossip,
    all peers in one process; ``clips_drawn`` counts the clips of one scheme's training, None for trees.
    """

    model: str
    features: str
    normalise: str
    parameters: int | None
    seconds_per_round: float | None
    rounds: int
    local_steps: int
    algorithm: str
    clips_drawn: int | None
    selection: str
    schemes: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation found.

    ``models`` are the rows of its tables. ``clips``, ``speakers``, ``clips_per_speaker`` (fewest, most), ``chance``
    and ``majority`` are of the held-out clips; ``speaker_overlap`` counts test speakers that were trained on.
    ``predictions`` has those behind the figures, by model and scheme; empty where no emotions are learned.
    """

    corpus: dict[str, Any]
    split: str
    folds: list[int]
    folds_of_split: int
    seeds: list[int]
    labels: list[str]
    clips: int
    speakers: int
    clips_per_speaker: list[int]
    speaker_overlap: int
    peers: int
    topology: str
    partition: str
    task: str
    chance: float | None
    majority: float | None
    models: list[ModelRow]
    notes: list[str]
    predictions: dict[str, dict[str, Models]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as ``crossval.json`` holds it."""
        document = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "predictions"}
        return {**document, "models": [asdict(row) for row in self.models]}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each model and scheme, without nested values."""
        for row in self.models:
            same = {"model": row.model, "features": row.features, "normalise": row.normalise,
                    "parameters": row.parameters, "rounds": row.rounds, "algorithm": row.algorithm}
            for scheme, values in row.schemes.items():
                yield flat({**same, "scheme": scheme, **{key: value for key, value in values.items()
                                                         if key not in ("confusion", "labels")}})

    def prediction_rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each prediction: of every clip, by every model, scheme, seed and (local only) peer.

        Columns: corpus, model, scheme, seed, peer, path, speaker, gender, fold, target, predicted, and ``p_LABEL`` for
        each label, scaled by the temperature where one was fitted.
        """
        for row in self.models:
            for scheme, by_seed in self.predictions.get(row.model, {}).items():
                temperatures = row.schemes[scheme]["temperatures"]
                for seed, models in zip(self.seeds, by_seed):
                    for place, model in enumerate(models):
                        peer = place if len(models) > 1 else ""
                        for line in listing.rows(ready(model, temperatures), self.labels, corpus=self.corpus["name"],
                                                 model=row.model, scheme=scheme, seed=seed, peer=peer):
                            yield {**line, "fold": self.folds[line["fold"]]}

    def to_frame(self, of: Literal["schemes", "predictions"] = "schemes") -> pandas.DataFrame:
        """Return a pandas table with a row for each model and scheme, or for each prediction.

        Raises ConfigError where pandas is not installed.
        """
        if of not in ("schemes", "predictions"):
            raise ConfigError(f"a cross-validation has no table {of!r}: there are schemes and predictions")
        return frame(list(self.rows() if of == "schemes" else self.prediction_rows()))


def ready(predictions: Predictions, temperatures: Sequence[float] | None) -> Predictions:
    """Return predictions with logits divided by the temperature of their fold, where there are both."""
    if temperatures is None or predictions.logits is None:
        return predictions
    return scaled(predictions, dict(enumerate(temperatures)))


def crossval(setup: Setup, *, jobs: int | str | None = None, progress: bool = False) -> CrossValidation:
    """Compute the runs that are missing, and return the figures of all models and schemes.

    jobs : how many processes, or the address of a Ray cluster (``pool.run``). progress : show a bar on standard error.

    >>> setup = prepare(topology_for(Config(), "ring"), Config(), models=("mlp",), seeds=1)  # doctest: +SKIP
    >>> crossval(setup).models[0].schemes["gossip"]["uar"]["folds"]  # doctest: +SKIP
    """
    return summarised(setup, pool.run_all(setup.plans, processes=jobs, progress=progress))


@dataclass(frozen=True)
class Setup:
    """plans: of each model's runs; split: its name; folds: how many it has; notes: on how the runs were set up."""

    plans: dict[str, Plan]
    split: str
    folds: int
    notes: list[str]


def topology_for(config: Config, name: str, peers: int | None = None, folds: Sequence[int] | None = None) -> Topology:
    """Return a topology by its file or name, of ``peers`` peers.

    By default there is a peer for each training speaker (in the fold with the fewest), and one more for a hub.
    """
    if peers is not None:
        return spec.load(name, peers)
    speakers = _split(config, folds).speakers
    topology = spec.load(name, speakers)
    return topology if topology.hub is None else spec.load(name, speakers + 1)


def prepare(
    topology: Topology,
    config: Config,
    *,
    models: Sequence[str],
    features: Sequence[str] = (),
    schemes: Sequence[str] = tuple(SCHEMES),
    folds: Sequence[int] | None = None,
    seeds: int = 3,
    tune: str = "",
    inner: int = 3,
    calibrate: bool = True,
    out: Path | None = None,
    progress: bool = False,
) -> Setup:
    """Return the runs of each model: every fold with several seeds, by gossip and by its baselines.

    Parameters
    ----------
    topology : of gossip (``topology_for`` makes one of a size that fits the corpus).
    config : the settings of all runs.
    models : each ``NAME[:SECTION.FIELD=VALUE]…``.
    features : kinds of features. A model takes the first that has the form it needs (vector or matrix), and its own
        default where none has; empty: those of ``config``.
    schemes : of ``SCHEMES``.
    calibrate : fit temperatures, for which the inner folds run even where nothing is chosen.
    folds, seeds, tune, inner, out, progress : as of ``planning.plan``.

    Raises ConfigError, CorpusError, ModelError or TopologyError where these do not fit.
    """
    for scheme in schemes:
        if scheme not in SCHEMES:
            raise ConfigError(f"there is no scheme {scheme!r}{nearest(scheme, SCHEMES)}")
    if not schemes or len(set(schemes)) < len(schemes):
        raise ConfigError(f"name each scheme once, and at least one of {', '.join(SCHEMES)}")
    if not models or len(set(models)) < len(models):
        raise ConfigError("name each model once, and at least one, such as mlp")
    calibrate = calibrate and config.training.task != "dimensions"  # dimensions have no probabilities
    split = _split(config, folds)
    if (tune or calibrate) and split.speakers < inner:
        raise ConfigError(f"{inner} inner folds need as many training speakers, and there are {split.speakers}: give "
                          "fewer with --inner, or leave out --tune and give --no-calibrate")
    plans, notes = {}, []
    if topology.size - (topology.hub is not None) == 1:
        notes.append(ALONE)
    for model in models:
        settings, note = configured(config, model, features)
        notes += [note] if note else []
        plans[model] = plan(settings, [topology], kinds=_kinds(settings, schemes), seeds=seeds, folds=folds, tune=tune,
                            inner=inner, calibrate=calibrate, dimensions=True,
                            out=None if out is None else out / file_name(model), progress=progress)
    return Setup(plans, split.name, split.folds, notes)


def _kinds(config: Config, schemes: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of runs that these schemes mean for a model."""
    known = ("gossip", *baselines_of(config))
    return tuple(kind if kind in known else VOTING for scheme, kind in SCHEMES.items() if scheme in schemes)


def schemes_of(runs: Plan) -> dict[str, tuple[str, str]]:
    """Return (kind, label) of the runs of each scheme, in the order of reports."""
    label = next(iter(runs.topologies))
    kinds = {**SCHEMES, VOTING: VOTING}
    return {scheme: (kind, label if kind == "gossip" else "") for scheme, kind in kinds.items() if kind in runs.kinds}


class _Split(NamedTuple):
    """folds: how many; speakers: the number of training speakers in the fold with the fewest."""

    name: str
    folds: int
    speakers: int


def _split(config: Config, folds: Sequence[int] | None) -> _Split:
    """Return the split of these folds (None: all). Raises ConfigError where it holds no clips out."""
    numbers = fold_numbers(folds)
    all_folds, name = splits(config, numbers or ()), config.corpus.split
    if not all_folds[0].test:
        raise ConfigError(f"the split {name!r} holds nothing out: take loso or group:K, for example")
    counts = []
    for number in range(len(all_folds)) if numbers is None else numbers:
        corpus = config.corpus.model_copy(update={"fold": number, "partition": "iid"})
        partitioning = partition_corpus(config.model_copy(update={"corpus": corpus}), 1)
        counts.append(len({partitioning.corpus.clips[index].speaker for index in partitioning.split.train}))
    return _Split(partitioning.corpus.default_split if name == "auto" else name, len(all_folds), min(counts))


def configured(config: Config, model: str, features: Sequence[str]) -> tuple[Config, str]:
    """Return the settings of a model's runs, and a note where it cannot be trained on any of these kinds of features.
    """
    name, *settings = model.split(":")
    family = FAMILIES[name]  # refuses an unknown name before anything runs
    usual = family.defaults.get("features.kind", "functionals")
    fitting = [kind for kind in features if section(FeatureSettings, kind=kind).form == family.takes]
    own = any(setting.startswith("features.kind=") for setting in settings)
    note = ""
    if features and not fitting and not own:
        note = f"{model} takes {usual}: it cannot be trained on {' or '.join(features)}"
    kind = [f"features.kind={(fitting or [usual])[0]}"] if features and not own else []
    chosen = config.with_settings([f"model.name={name}", *kind, *settings])
    # No curves are drawn, and evaluating every round would only take time.
    peer = chosen.peer.model_copy(update={"evaluate_every": max(1, chosen.training.rounds)})
    return chosen.model_copy(update={"peer": peer}), note


def summarised(setup: Setup, results: Mapping[str, Results]) -> CrossValidation:
    """Return the figures of each model's results."""
    rows = [_model(model, result) for model, result in results.items()]
    documents = [document for result in results.values() for document in result.outer.values()]
    runs, first = next(iter(results.values())).plan, documents[0]
    config, counts = runs.config, next(iter(rows[0].schemes.values()))
    return CrossValidation(
        corpus=first["corpus"], split=setup.split, folds=list(runs.folds), folds_of_split=setup.folds,
        seeds=list(runs.seeds), labels=first["labels"], clips=counts["clips"], speakers=counts["speakers"],
        clips_per_speaker=_clips_per_speaker({document["job"]["fold"]: document for document in documents}.values()),
        speaker_overlap=max(document["speaker_overlap"] for document in documents),
        peers=runs.peers, topology=next(iter(runs.topologies.values())).name, partition=config.corpus.partition,
        task=config.training.task, chance=counts.get("chance"), majority=counts.get("majority"), models=rows,
        notes=list(dict.fromkeys([*setup.notes, *(note for document in documents for note in document["notes"])])),
        predictions={model: {scheme: result.models(*part) for scheme, part in schemes_of(result.plan).items()}
                     for model, result in results.items()} if config.training.task != "dimensions" else {},
    )


def _clips_per_speaker(documents: Iterable[Document]) -> list[int]:
    """Return the fewest and the most held-out clips of a speaker, given a result of each fold."""
    counts = [count for document in documents
              for count in Counter((document.get("test") or document["ratings"])["speakers"]).values()]
    return [min(counts), max(counts)]


def _model(model: str, results: Results) -> ModelRow:
    runs, config = results.plan, results.plan.config
    rounds, steps = config.training.rounds, config.training.local_steps
    sizes = [document["parameters"] for document in results.outer.values() if "parameters" in document]
    seconds = [document["wall_s"] for job, document in results.outer.items() if job.kind == "gossip"]
    # Trees are grown on all clips of a peer at once.
    drawn = None if FAMILIES[config.model.name].boosts else runs.peers * rounds * steps * config.training.batch_size
    return ModelRow(
        model=model, features=config.features.kind, normalise=results.first["normalise"],
        parameters=sizes[0] if sizes else None,
        seconds_per_round=mean(seconds) / rounds if seconds and rounds else None,
        rounds=rounds, local_steps=steps, algorithm=config.gossip.algorithm, clips_drawn=drawn,
        selection=runs.selection("scheme and outer fold"), schemes=figures(results, schemes_of(runs)))
