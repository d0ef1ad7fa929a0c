"""p2pser: decentralised, peer-to-peer gossip federated learning for speech emotion recognition.

The names of this module are the public API; everything else may change.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from p2pser.base.arguments import check, several
from p2pser.base.errors import P2PSERError as Error
from p2pser.base.registries import (
    register_algorithm,
    register_compressor,
    register_corpus,
    register_family,
    register_features,
)
from p2pser.base.version import __version__

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from p2pser.corpora.adapter import About, Adapter, NamedClips
    from p2pser.corpora.manifest import Clip
    from p2pser.experiments.compare import Comparison
    from p2pser.experiments.crossval import CrossValidation
    from p2pser.experiments.grid.api import compare_grid
    from p2pser.features.federation import Federation
    from p2pser.features.kind import FeatureKind
    from p2pser.gossip.algorithm import Algorithm
    from p2pser.gossip.mixer import Step
    from p2pser.graph.schedule import Schedule
    from p2pser.graph.spec import Topology
    from p2pser.inference.pipeline import Pipeline
    from p2pser.inference.predictor import Predictor
    from p2pser.inference.recordings import Recording, Recordings
    from p2pser.inference.timeline import Stream, Timeline
    from p2pser.models.family import Family
    from p2pser.peer.launch import Launch
    from p2pser.simulation.estimator import Classifier
    from p2pser.simulation.results import Round, Simulation
    from p2pser.wire.codec import Form

__all__ = ["About", "Adapter", "Algorithm", "Classifier", "Clip", "Error", "Family", "FeatureKind", "Form",
           "NamedClips", "Schedule", "Step", "__version__", "compare", "compare_grid", "crossval", "federate", "launch",
           "load", "pipeline", "register_algorithm", "register_compressor", "register_corpus", "register_family",
           "register_features", "register_graph", "register_schedule", "simulate", "stream", "timeline", "topology"]

_ELSEWHERE = {
    "About": "corpora.adapter", "Adapter": "corpora.adapter", "Algorithm": "gossip.algorithm",
    "Classifier": "simulation.estimator", "Clip": "corpora.manifest", "Family": "models.family",
    "FeatureKind": "features.kind", "Form": "wire.codec", "NamedClips": "corpora.adapter",
    "Schedule": "graph.schedule", "Step": "gossip.mixer", "compare_grid": "experiments.grid.api",
}
"""Public names that are defined in other modules: imported when they are first used."""

T = TypeVar("T")
Settings = Mapping[str, Any]


def load(path: str | os.PathLike[str], *, encoder: str | None = None, coverage: float = 0.9) -> Predictor:
    """Return the predictor of a model directory.

    Parameters
    ----------
    path : the directory.
    encoder : the folder or Hugging Face name of the model's encoder, of speech or text; default: it is looked for where
        p2pser has used it before, in the folders of the variable P2PSER_ENCODERS, and in Hugging Face's cache.
    coverage : of the sets of emotions that its answers have, where it was calibrated for them: 0.8, 0.9 or 0.95.

    Raises
    ------
    Error : where the directory cannot be used, or its encoder is not on this machine.

    >>> p2pser.load("model/").predict("clip.wav")  # doctest: +SKIP
    """
    check(load, locals())
    from p2pser.inference.predictor import load as load_predictor

    return load_predictor(path, encoder, coverage)


def pipeline(model: str | os.PathLike[str] | Predictor, *, top_k: int | None = 5,
             encoder: str | None = None) -> Pipeline:
    """Return a callable that is used as Hugging Face's audio-classification pipeline.

    ``model``: a model's directory, or what ``load`` has returned. ``top_k``: how many of the most probable emotions an
    answer has; None: all. ``encoder``: as for ``load``. Raises Error where the directory cannot be used, or the model
    rates no emotions.

    >>> p2pser.pipeline("model/")("clip.wav", top_k=1)  # doctest: +SKIP
    [{'label': 'anger', 'score': 0.83}]
    """
    check(pipeline, {"model": model, "encoder": encoder})
    from p2pser.inference.pipeline import Pipeline
    from p2pser.inference.predictor import Predictor

    return Pipeline(model if isinstance(model, Predictor) else load(model, encoder=encoder), top_k)


def timeline(model: Predictor, recording: Recording, *, window: float = 3.0, hop: float = 1.0, silence: float = -55.0,
             enrol: Recordings | None = None) -> Timeline:
    """Return the answers of a model for the windows of a recording.

    Parameters
    ----------
    model : from ``load``.
    recording : its path, or its bytes as a file holds them, or an open file.
    window : length of a window [s]; the last one may be shorter.
    hop : time from the beginning of one window to that of the next, 0.1 or more [s].
    silence : a window whose loudest 50 ms are below this level has no answer [dBFS].
    enrol : recordings of the same speaker, whose statistics scale the features; default: those of the training.

    Raises
    ------
    Error : where the recording cannot be used, or ``hop`` is longer than ``window``.

    >>> p2pser.timeline(p2pser.load("model/"), "meeting.wav").to_frame()  # doctest: +SKIP
    """
    check(timeline, locals(), silence=(None, 0))
    from p2pser.inference import recordings
    from p2pser.inference import timeline as along_time

    model.warn(enrol is not None)
    own = None if enrol is None else model.enrol(enrol)
    return along_time.Timeline(
        segment for source in recordings.sources(recording)
        for segment in along_time.timeline(model, source, window=window, hop=hop, silence=silence, own=own))


def stream(model: Predictor, rate: float, *, window: float = 3.0, hop: float = 1.0, silence: float = -55.0,
           enrol: Recordings | None = None, adapt: bool = True) -> Stream:
    """Return what answers for speech while it comes: ``push`` takes its samples, ``close`` its end.

    Parameters
    ----------
    model : from ``load``.
    rate : samples per second [Hz].
    window, hop, silence, enrol : as for ``timeline``.
    adapt : whether the statistics follow the one speaker of the stream, where the model expects a speaker's own.

    Raises
    ------
    Error : where the rate is not that of a recording, or ``hop`` is longer than ``window``.

    >>> stream = p2pser.stream(p2pser.load("model/"), rate=16000)  # doctest: +SKIP
    >>> [segment.answer.label for segment in stream.push(samples)]  # doctest: +SKIP
    """
    check(stream, locals(), silence=(None, 0))
    from p2pser.inference.timeline import Stream

    model.warn(enrol is not None)
    own = None if enrol is None else model.enrol(enrol)
    return Stream(model, rate, window=window, hop=hop, silence=silence, own=own, adapt=adapt)


def topology(name_or_path: str | os.PathLike[str] | Topology, peers: int | None = None) -> Topology:
    """Return a topology.

    Parameters
    ----------
    name_or_path : a topology, a shipped one (``"ring"``, ``"exponential.yaml"``, …), or the path of a topology file.
    peers : number of peers, instead of the file's.

    Raises
    ------
    Error : where there is no such topology, the file is wrong, or the number of peers does not fit.

    >>> topology("ring", peers=5).neighbours(0)
    (1, 4)
    """
    check(topology, locals())
    return _topology(name_or_path, peers)


def federate(*, peers: int, settings: Settings | None = None, features: ArrayLike | None = None,
             labels: Sequence[str] | None = None, speakers: Sequence[str] | None = None,
             test: ArrayLike | None = None, owners: ArrayLike | None = None, genders: Sequence[str] | None = None,
             hub: int | None = None) -> Federation:
    """Return the data of a run: the training clips of each peer, and the held-out clips.

    Without ``features`` they come from the corpus that the settings name (default: the synthetic one), whose features
    are computed. With ``features`` they are the given arrays, and no recordings are needed.

    Parameters
    ----------
    peers : number of peers.
    settings : settings that differ from the defaults, ``{"corpus.name": "emodb", "corpus.data": "emodb/"}``.
    features : (n, D) or (n, bands, frames), not scaled.
    labels : (n,), the emotion of each clip.
    speakers : (n,), the speaker of each clip, ``""`` where unknown; default: all unknown.
    test : (n,) bool, the held-out clips; default: none.
    owners : (n,) int, the peer that holds each training clip; default: as ``corpus.partition`` says.
    genders : (n,), ``"f"``, ``"m"`` or ``""``; default: unknown.
    hub : a peer that holds no clips, where the topology has one.

    Raises
    ------
    Error : where the corpus, the arrays or the settings do not fit together.
    """
    check(federate, locals())
    from p2pser.config import configured
    from p2pser.features.arrays import from_arrays
    from p2pser.features.federation import federate as federate_corpus
    from p2pser.models.start import begun

    config = begun(configured(settings))
    if features is not None:
        return from_arrays(features, labels, speakers, peers=peers, test=test, owners=owners, genders=genders, hub=hub,
                           label_order=config.corpus.labels, normalise=config.features.normalise,
                           partition=config.corpus.partition, seed=config.seed)
    if any(each is not None for each in (labels, speakers, test, owners, genders)):
        raise Error("labels, speakers, test, owners and genders are those of features: give features too")
    return federate_corpus(config, peers, hub=hub)


def simulate(topology: str | os.PathLike[str] | Topology = "ring", *, peers: int | None = None,
             data: Federation | None = None, settings: Settings | None = None, exact: bool = False,
             observe: Callable[[Round], None] | None = None) -> Simulation:
    """Run all peers of a topology in this process and return what was measured.

    Parameters
    ----------
    topology : a topology, or its name or path.
    peers : number of peers, instead of the file's; default with ``data``: its number.
    data : from ``federate``; default: from the settings.
    settings : settings that differ from the defaults, ``{"gossip.algorithm": "k-gt", "training.rounds": 10}``.
    exact : mix bit for bit as peers in processes of their own do (slower).
    observe : called after each round.

    Raises
    ------
    Error : where the settings, the topology and the data do not fit together.

    >>> run = p2pser.simulate("ring", peers=4, settings={"training.rounds": 5})  # doctest: +SKIP
    >>> run.outputs.uar, run.to_frame()  # doctest: +SKIP
    """
    check(simulate, locals())
    from p2pser.config import configured
    from p2pser.simulation.engine import simulate as simulate_run

    config, graph = configured(settings), _topology(topology, peers, data)
    federation = data or federate(peers=graph.size, settings=settings, hub=graph.hub)
    return simulate_run(config, graph, federation, exact=exact, observe=observe)


def compare(topologies: Sequence[str | os.PathLike[str] | Topology], *, algorithms: Sequence[str] = (),
            peers: int | None = None, settings: Settings | None = None, folds: Sequence[int] | None = (),
            seeds: int = 1, out: str | os.PathLike[str] | None = None, jobs: int | None = 1) -> Comparison:
    """Train every topology with every algorithm, beside the baselines, and compare them on held-out speakers.

    Parameters
    ----------
    topologies : topologies of equal size, or their names or paths; or one of them.
    algorithms : each with each topology, written ``NAME[:PARAMETER=VALUE]…``; default: that of the settings.
    peers : number of peers, instead of the files'.
    settings : settings of all runs that differ from the defaults.
    folds : numbers of the folds to test; default: the fold of the settings (``corpus.fold``); None: all.
    seeds : number of seeds, counted from the settings' ``seed``.
    out : the folder in which finished runs are kept, so that a second call computes only the missing ones; None: they
        are not kept.
    jobs : number of processes; None: one per processor. With several, call it under ``if __name__ == "__main__":``.

    Raises
    ------
    Error : where the settings, the topologies and the corpus do not fit together.
    """
    check(compare, locals(), jobs=(1, None))
    from p2pser.config import configured
    from p2pser.experiments.compare import compare as compare_runs
    from p2pser.experiments.planning import plan

    config = configured(settings)
    numbers = (config.corpus.fold,) if isinstance(folds, tuple) and not folds else folds
    graphs = [_topology(given, peers) for given in several(topologies)]
    return compare_runs(plan(config, graphs, folds=numbers, seeds=seeds,
                             algorithms=several(algorithms) or (config.gossip.algorithm,),
                             out=None if out is None else Path(out)), jobs=jobs)


def crossval(*, topology: str | os.PathLike[str] | Topology = "ring", peers: int | None = None,
             models: Sequence[str] = (), settings: Settings | None = None, folds: Sequence[int] | None = None,
             seeds: int = 1, out: str | os.PathLike[str] | None = None, jobs: int | None = 1) -> CrossValidation:
    """Cross-validate gossip beside a server, pooled and local-only training, on the same clips.

    Parameters
    ----------
    topology : a topology, or its name or path.
    peers : number of peers; default: one per training speaker, where the topology is a name.
    models : families of models, each ``NAME[:SECTION.FIELD=VALUE]…``; default: that of the settings.
    settings : settings of all runs that differ from the defaults.
    folds : numbers of the folds to test; None: all.
    seeds : number of seeds, counted from the settings' ``seed``.
    out : the folder in which finished runs are kept, so that a second call computes only the missing ones; None: they
        are not kept.
    jobs : number of processes; None: one per processor. With several, call it under ``if __name__ == "__main__":``.

    Raises
    ------
    Error : where the settings, the topology and the corpus do not fit together.
    """
    check(crossval, locals(), jobs=(1, None))
    from p2pser.config import configured
    from p2pser.experiments import crossval as experiment

    config = configured(settings)
    graph = experiment.topology_for(config, os.fspath(topology), peers, folds) \
        if isinstance(topology, (str, os.PathLike)) else _topology(topology, peers)
    return experiment.crossval(experiment.prepare(
        graph, config, models=several(models) or (config.model.name,), folds=folds, seeds=seeds,
        out=None if out is None else Path(out)), jobs=jobs)


def launch(topology: str | os.PathLike[str] | Topology = "ring", *, peers: int | None = None,
           data: Federation | None = None, settings: Settings | None = None,
           observe: Callable[[dict[str, Any]], None] | None = None) -> Launch:
    """Run all peers of a topology as processes of this machine, over ZeroMQ, and return how they ended.

    Call it under ``if __name__ == "__main__":``, since each process imports the script that calls it.

    Parameters
    ----------
    topology : a topology, or its name or path.
    peers : number of peers, instead of the file's; default with ``data``: its number.
    data : from ``federate``; default: each peer reads its own share of the corpus in the settings.
    settings : settings that differ from the defaults. ``peer.out`` is the folder of the runs.
    observe : called with each record that a peer tells, such as ``{"peer": 0, "round": 3, "loss": 1.2, …}``.

    Raises
    ------
    Error : where a peer fails.
    """
    check(launch, locals())
    from p2pser.config import configured
    from p2pser.peer.launch import run_all

    return run_all(configured(settings), _topology(topology, peers, data), observe, data)


def _topology(given: str | os.PathLike[str] | Topology, peers: int | None, data: Federation | None = None) -> Topology:
    check(topology, {"name_or_path": given})
    from p2pser.graph.spec import load as load_topology

    held = None if data is None else len(data.train)
    if isinstance(given, (str, os.PathLike)):
        graph = load_topology(os.fspath(given), held if peers is None else peers)
    else:
        graph = given
        if peers not in (None, graph.size):
            raise Error(f"the topology {graph.name!r} has {graph.size} peers, not {peers}: leave peers out")
    if held not in (None, graph.size):
        raise Error(f"the topology {graph.name!r} has {graph.size} peers, and data is that of {held}: give one number")
    return graph


def register_graph(name: str, *, fits: Callable[..., bool] | None = None, needs: str = "one peer or more",
                   limits: Mapping[str, tuple[float, float]] | None = None) -> Callable[[T], T]:
    """Return a decorator that registers a function that makes a kind of graph, for ``kind: NAME`` in topology files.

    The function is ``make(peers, parameter=default, …)`` and returns a connected networkx graph on the nodes
    0 … ``peers`` - 1, a DiGraph for one-way links.

    Parameters
    ----------
    name : the value of ``kind``.
    fits : ``fits(peers, **parameters)``, whether the graph exists with that many peers; default: always.
    needs : the same in words, for the message where it does not fit: ``"4 peers or more"``.
    limits : the smallest and largest value of numeric parameters.
    """
    check(register_graph, locals())
    from p2pser.graph import kind

    return kind.register_graph(name, fits=fits or kind.any_size, needs=needs, limits=limits)  # type: ignore[return-value]


def register_schedule(name: str, *, fits: Callable[..., bool] | None = None, needs: str = "one peer or more",
                      limits: Mapping[str, tuple[float, float]] | None = None) -> Callable[[T], T]:
    """Return a decorator that registers a function that makes a schedule, for ``kind: NAME`` in topology files.

    The function is ``make(peers, parameter=default, …)`` and returns a ``p2pser.graph.schedule.Schedule``.

    Parameters
    ----------
    name, fits, needs, limits : as for ``register_graph``.
    """
    check(register_schedule, locals())
    from p2pser.graph import kind

    return kind.register_schedule(name, fits=fits or kind.any_size, needs=needs, limits=limits)  # type: ignore[return-value]


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(f"p2pser.{_ELSEWHERE[name]}"), name)
    raise AttributeError(f"module 'p2pser' has no attribute {name!r}")
