"""The results of a grid as rows: of each trial, of each of its rounds, and of each of its peers.

Times of this machine are not in them, so that a comparison that was interrupted ends with the same tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.base.frames import frame
from p2pser.evaluation import metrics
from p2pser.experiments.grid.cells import Place
from p2pser.experiments.jobs import Document, Job, Plan
from p2pser.experiments.results import Results, predictions
from p2pser.graph import spectral, theory
from p2pser.graph.spec import Topology
from p2pser.graph.summary import FLOAT32, summarise

if TYPE_CHECKING:
    import pandas

Row = dict[str, Any]
"""One line of a table."""


@dataclass(frozen=True)
class Tables:
    """The tables of a grid, each a list of rows with the same columns.

    trials : a row a trial: where it belongs, its figures at the end, and its topology's. Of baselines, the columns
        that only gossip has are None.
    rounds : a row a trial and round.
    peers : a row a trial and peer that took part to the end: its own model after the last round, before the consensus.
    """

    trials: list[Row]
    rounds: list[Row]
    peers: list[Row]

    def to_frame(self, table: str = "trials") -> pandas.DataFrame:
        """Return one of the tables as a pandas frame. Raises ConfigError for another name, or without pandas."""
        if table not in ("trials", "rounds", "peers"):
            raise ConfigError(f"a grid has no table {table!r}: there are trials, rounds and peers")
        rows: list[Row] = getattr(self, table)
        return frame(rows)


def tables(by_place: Mapping[Place, Results]) -> Tables:
    """Return the tables of the results of a grid's places, whatever is missing."""
    made = Tables([], [], [])
    for place, results in by_place.items():
        for job, document in results.outer.items():
            where = _where(place, job, results.plan)
            made.trials.append({**where, **_trial(job, document, results.plan)})
            made.rounds.extend({**where, **row} for row in _rounds(document))
            made.peers.extend({**where, **row} for row in _peers(job, document, results.plan))
    return made


def _where(place: Place, job: Job, plan: Plan) -> Row:
    """The columns that name a trial. A scheme's algorithm is its label without the topology's name."""
    topology = plan.topologies.get(job.scheme)
    name = "" if topology is None else topology.name
    algorithm = job.scheme.removeprefix(name).strip() if job.scheme else ""
    return {**asdict(place), "kind": job.kind, "scheme": job.scheme or job.kind, "topology": name,
            "algorithm": algorithm, "seed": job.seed, "fold": job.fold}


def _trial(job: Job, document: Document, plan: Plan) -> Row:
    models = [metrics.uar_folds(model) for model in predictions(document)]
    peers = [metrics.uar_folds(model) for model in predictions(document, "predicted_peers")] \
        if "predicted_peers" in document else models if job.kind == "local-only" else []
    row: Row = {
        "uar": float(np.mean(models)), "uar_mean_peer": float(np.mean(peers)) if peers else None,
        "uar_worst_peer": min(peers, default=None), "uar_best_peer": max(peers, default=None),
        "uar_sd_peers": float(np.std(peers)) if peers else None, "one_model": len(models) == 1,
        "settings": plan.settings(job).gossip.algorithm if job.kind == "gossip" else "",
        "tuned": plan.chosen.get((job.kind, job.scheme, job.fold), ""), "skew": document.get("skew"),
        "clips": len(document["test"]["targets"]), "speakers": len(set(document["test"]["speakers"])),
        "speaker_overlap": document["speaker_overlap"]}
    history, final = document.get("history") or [], document.get("final") or {}
    gossip = job.kind == "gossip"
    row |= {
        "rounds": len(history) if history else None,
        "consensus_distance": history[-1]["distance"] if history and gossip else None,
        "bytes_per_peer": _bytes(job, document, plan),
        "bytes_final_per_peer": document.get("bytes_final_per_peer") if gossip else None,
        "messages_per_peer": document.get("messages_per_peer") if gossip else None,
        "seconds": history[-1]["seconds"] if history and gossip else None,
        "final_exchanges": final.get("exchanges") if gossip else None,
        "converged": final.get("converged") if gossip else None,
        "parameters": document.get("parameters"),
        "peers_left": len(document["living"]) if gossip else None,
        "slem": document.get("slem") if gossip else None,
    }
    return row | graph_facts(plan.topologies.get(job.scheme))


def _bytes(job: Job, document: Document, plan: Plan) -> float | None:
    """Return the payload that a peer sent in the rounds; a client of a server sends its row once a round."""
    if job.kind == "server":
        return float(FLOAT32 * document["parameters"] * plan.config.training.rounds)
    return document["bytes_per_peer"] if job.kind == "gossip" else None


@lru_cache(maxsize=64)
def _measured(topology: Topology) -> tuple[dict[str, Any], float | None]:
    """Return a topology's facts, and the factor by which an exchange reduced the distance from a random start."""
    exchanges = theory.measured(topology)
    return summarise(topology), None if not exchanges else float(spectral.EPSILON ** (1 / exchanges))


def graph_facts(topology: Topology | None) -> Row:
    """Return the columns that follow from a topology alone; None each where there is none."""
    if topology is None:
        return dict.fromkeys(("degree_min", "degree_mean", "degree_max", "spectral_gap", "contraction_measured",
                              "exposed_peers", "exposed_after"))
    facts, contraction = _measured(topology)
    return {"degree_min": facts["degree"]["min"], "degree_mean": float(facts["degree"]["mean"]),
            "degree_max": facts["degree"]["max"], "spectral_gap": float(facts["spectral_gap"]),
            "contraction_measured": contraction, "exposed_peers": facts["exposure"]["peers"],
            "exposed_after": facts["exposure"]["exchanges"]}


def _rounds(document: Document) -> Iterator[Row]:
    """Yield the rounds, and after them the exchanges of the final consensus, which have a distance only."""
    single = len(document["predicted"]) == 1
    history = document.get("history") or []
    for entry in history:
        uar = entry["uar"]
        yield {"phase": "training", "round": entry["round"], "loss": entry["loss"],
               "uar": uar["consensus" if single else "mean"], "uar_mean_peer": uar["mean"],
               "uar_worst_peer": uar["worst"], "distance": entry["distance"], "bytes_per_peer": entry["bytes"],
               "seconds": entry["seconds"]}
    for exchange, distance in enumerate((document.get("final") or {}).get("distances", [])):
        yield {"phase": "consensus", "round": exchange, "loss": None, "uar": None, "uar_mean_peer": None,
               "uar_worst_peer": None, "distance": distance, "bytes_per_peer": None, "seconds": None}


def _peers(job: Job, document: Document, plan: Plan) -> Iterator[Row]:
    topology = plan.topologies.get(job.scheme)
    if topology is None or "predicted_peers" not in document:
        return
    sent = theory.messages(topology.without_gaps()).mean(axis=0)
    for peer, model in zip(document["living"], predictions(document, "predicted_peers")):
        yield {"peer": peer, "degree": float(sent[peer]), "clips": document["clips"][peer],
               "uar": metrics.uar_folds(model)}
