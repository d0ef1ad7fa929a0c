"""A model's card as a hub shows it: README.md with metadata in YAML, made of the model's own card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from p2pser.base.errors import ModelError, P2PSERError
from p2pser.base.registries import CORPORA
from p2pser.base.wording import counted
from p2pser.config.privacy import LAW
from p2pser.corpora.adapter import About
from p2pser.corpora.manifest import ARRAYS
from p2pser.models.directory import Card

TAGS = ["speech-emotion-recognition", "federated-learning", "gossip-learning", "p2pser"]

LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")


def readme(card: Card, repo: str, licence: str | None, results: Mapping[str, Any] | None, light: bool) -> str:
    """Return the text of README.md.

    Parameters
    ----------
    card : the model's. repo : OWNER/NAME.
    licence : as the hub names it, or None.
    results : what ``p2pser evaluate --json`` printed, or None.
    light : whether the repository holds the network for installations without torch.

    Raises ModelError where the licence is not such a name, or the results are not those of an evaluation.
    """
    if results is not None:
        require_results(results)
    body = "\n".join(_body(card, repo, results, light))
    return f"---\n{_metadata(card, repo, licence, results)}\n---\n\n{body}\n"


def _metadata(card: Card, repo: str, licence: str | None, results: Mapping[str, Any] | None) -> str:
    from huggingface_hub import ModelCardData

    if licence is not None and not LICENCE.fullmatch(licence):
        raise ModelError(f"{licence!r} is not a licence of the hub: write its short name, such as apache-2.0 "
                         "or cc-by-4.0")
    known = _corpora(card)
    languages = sorted({code for about in known.values() if about is not None for code in about.languages})
    data = ModelCardData(language=languages or None, license=licence, library_name="p2pser", tags=TAGS,
                         pipeline_tag="audio-classification", datasets=list(known) or None, metrics=["recall"],
                         **_evaluated(repo, results))
    return str(data.to_yaml())


def _evaluated(repo: str, results: Mapping[str, Any] | None) -> dict[str, Any]:
    from huggingface_hub import EvalResult

    if results is None:
        return {}
    return {"model_name": repo.rpartition("/")[2], "eval_results": [EvalResult(
        task_type="audio-classification", task_name="Speech emotion recognition", dataset_type=str(results["corpus"]),
        dataset_name=f"{results['corpus']} {results['version']}, {results['split']}", metric_type="recall",
        metric_name="UAR (unweighted average recall)", metric_value=round(results["uar"]["folds"], 4))]}


def require_results(results: Any) -> None:
    """Raise ModelError where results are not those of an evaluation with emotions."""
    try:
        complete = isinstance(results["uar"]["folds"], float) and \
            all(key in results for key in ("corpus", "version", "split", "clips", "speakers"))
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise ModelError("the results have no UAR: give what p2pser evaluate MODEL --json printed")


def _corpora(card: Card) -> dict[str, About | None]:
    """Return the corpora that a model was trained on by name, with what is known of each."""
    origin, known = card.corpus, {}
    if origin.name == ARRAYS:
        return {}
    for name in origin.train or tuple(origin.corpora) or (origin.name,):
        try:
            known[name] = CORPORA[name.partition(":")[0]].about
        except (P2PSERError, KeyError, AttributeError):
            known[name] = None
    return known


def _body(card: Card, repo: str, results: Mapping[str, Any] | None, light: bool) -> Iterator[str]:
    own = card.corpus.name == ARRAYS
    how = {key: card.training.get(key, "unknown") for key in ("peers", "algorithm", "topology", "rounds")}
    yield f"# {repo.rpartition('/')[2]}\n"
    yield (f"Speech emotion recognition: {', '.join(card.labels) or ', '.join(card.dimensions)}. "
           f"Model {card.model.name} on the features {'of its author' if own else card.features.kind}, trained with "
           f"p2pser by gossip: {how['peers']} peers, {how['algorithm']} on {how['topology']}, {how['rounds']} rounds. "
           "Such peers exchange parameters, not recordings.\n")
    if card.warning:
        yield f"**It was {card.warning}.**\n"
    yield "## Use\n"
    pulled = f"p2pser pull {repo} model/"
    if own:
        yield (f"```sh\n{pulled}\n```\n\nIt takes features that its author computed, not recordings: in Python "
               "`p2pser.load(\"model/\").answers(features)`.\n")
    else:
        yield f"```sh\n{pulled}\np2pser predict model/ clip.wav\n```\n"
    if light:
        yield "It also answers without torch: `pip install p2pser-predict`.\n"
    yield "## What it is worth\n"
    if results is not None:
        yield (f"UAR {results['uar']['folds']:.3f} on {results['corpus']} {results['version']} ({results['split']}, "
               f"{counted(results['clips'], 'clip')} of {counted(results['speakers'], 'speaker')}).\n")
    elif not own:
        yield "It was not evaluated when it was written here: `p2pser evaluate model/ --data FOLDER`.\n"
    yield "\n".join(f"- {line}" for line in card.facts.lines()) + "\n"
    yield (f"Normalisation of features: {card.normalise}; "
           f"probabilities are {'calibrated' if card.temperature else 'not calibrated'}. A probability is that of an "
           "acted or labelled emotion in the training corpora, not a measurement of what a person feels; it is worse "
           f"for languages, ages and recording conditions that these lack. Not for work and education: {LAW}.\n")
    yield "## Trained on\n"
    if own:
        yield "- features of its author"
    for name, about in _corpora(card).items():
        yield f"- {name}" + ("" if about is None else f": {about.title} ({', '.join(about.languages)}); licence: "
                             f"{about.licence}")
