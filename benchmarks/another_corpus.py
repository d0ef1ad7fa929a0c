"""A model of one corpus, tested by ``predict`` on the recordings of another.

For each pair of corpora: emotions of both, one speaker per peer, gossip on an exponential graph, temperatures on three
inner folds. Printed are UAR, mean confidence and calibration error with training statistics and without a temperature
(as in version 0.1), of ``predict`` on each recording alone, on all together, and with enrolled clips of each speaker.

    python benchmarks/another_corpus.py emodb=D/emodb ravdess=D/ravdess
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pser.config import Config
from p2pser.corpora.manifest import Corpus
from p2pser.evaluation import metrics
from p2pser.evaluation.calibration import ece
from p2pser.experiments import simulation
from p2pser.experiments.report import simulation as report
from p2pser.features import audio
from p2pser.features.federation import federate
from p2pser.graph import spec
from p2pser.inference.answers import Answer
from p2pser.inference.predictor import Predictor, load
from p2pser.models.heard import COUNTS


def trained(name: str, data: str, labels: Sequence[str], out: Path, more: Sequence[str]) -> Predictor:
    """Return the predictor of a calibrated model of a corpus; trained once for each folder."""
    folder = out / name
    if not (folder / "model").exists():
        config = Config().with_settings([
            f"corpus.name={name}", f"corpus.data={data}", "corpus.split=none", f"corpus.labels={','.join(labels)}",
            "peer.evaluate_every=1000", *more])
        speakers = len({clip.speaker for clip in corpus_of(name, data).clips})
        topology = spec.load("exponential", speakers)
        result = simulation.run(config, topology, federate(config, speakers), baselines=False, calibrate=3,
                                show_progress=True)
        folder.mkdir(parents=True, exist_ok=True)
        report.write(result, folder)
    return load(folder / "model")


def corpus_of(name: str, data: str) -> Corpus:
    from p2pser.corpora import loading

    return loading.load(name, Path(data))


def figures(answers: Sequence[Answer], labels: Sequence[str], right: NDArray[np.int64]) -> str:
    chances = np.array([[answer.probabilities[label] for label in labels] for answer in answers])
    table = metrics.confusion(right, chances.argmax(axis=1), len(labels))
    return f"UAR {metrics.uar(table):.3f}  confidence {chances.max(axis=1).mean():.2f}  ECE {ece(chances, right):.3f}"


def test(model: Predictor, corpus: Corpus) -> None:
    """Print the figures of a model on a corpus."""
    clips = [clip for clip in corpus.clips if clip.emotion in model.labels]
    right = np.array([model.labels.index(clip.emotion or "") for clip in clips])
    paths = [clip.path for clip in clips]
    features = np.stack([model.features(audio.read(path, model.card.features.sample_rate)) for path in paths])
    plain = Predictor(model.module, model.card)
    plain.temperatures = lambda scaled, own=None: np.ones(len(scaled))  # type: ignore[method-assign]
    print("  before           ", figures(plain.answers(features), model.labels, right))
    print("  each alone       ", figures(model.answers(features), model.labels, right))
    print("  together         ", figures(list(model.each(paths, together=True)), model.labels, right), flush=True)
    speakers = np.array([clip.speaker for clip in clips])
    for count in COUNTS[1:]:
        answers: list[Answer | None] = [None] * len(clips)
        for speaker in np.unique(speakers):
            theirs = np.flatnonzero(speakers == speaker)
            known = np.random.default_rng(0).permutation(theirs)[:count]
            own = model.enrol([paths[place] for place in known])
            for place, answer in zip(theirs, model.answers(features[theirs], own)):
                answers[place] = answer
        print(f"  {count:2} enrolled      ", figures([a for a in answers if a is not None], model.labels, right),
              flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--out", type=Path, default=Path("runs/another-corpus"))
    parser.add_argument("--set", dest="more", action="append", default=[], metavar="SETTING=VALUE")
    chosen = parser.parse_args()
    where = dict(pair.split("=", 1) for pair in chosen.corpora)
    for source, target in itertools.permutations(where, 2):
        both = [corpus_of(name, where[name]) for name in (source, target)]
        labels = sorted(set.intersection(*({clip.emotion for clip in each.clips if clip.emotion} for each in both)))
        model = trained(source, where[source], labels, chosen.out / f"{source}-{target}", chosen.more)
        print(f"a model of {source} tested on {target} ({', '.join(labels)})", flush=True)
        test(model, both[1])


if __name__ == "__main__":
    main()
