"""The cost of a budget (privacy.epsilon) in UAR, by the number of peers, and a lower bound on epsilon by an audit.

    python benchmarks/budget.py --corpus ravdess --data ravdess/ --folds all --seeds 1

**Cost.** Peers of one speaker each, privacy.unit=speaker, a linear model. Rows with the corpus's own peers are whole
simulated runs. Rows with more peers estimate the same run with more peers like these: the mean update of the corpus's
peers, with the noise, the delta and the divisor of so many. More speakers would also improve the model, so these rows
are a cautious estimate, not a proof.

**Audit.** T. Steinke, M. Nasr, M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023: units that
each take part by the toss of a coin, with updates of the largest norm in random directions, through the mechanism
itself (``private_mean``). The attacker is the colluding minority: it knows the directions, all totals and its own
noise. It guesses that the quarter of units with the best fit to the totals took part, and that the quarter with the
worst fit did not. The lower bound on epsilon holds with 95 %. The control is the same sum with almost no noise: its
bound is the largest that so many guesses can show. Hyper-parameters were chosen on the same folds, which no epsilon
here accounts for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from pairs import each, kept, options, settings
from scipy.stats import binom

from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.gossip.agreement.budget import Budget
from p2pser.gossip.agreement.masks import FixedPoint
from p2pser.gossip.agreement.private_mean import contribution, private_mean
from p2pser.graph.spec import Topology, load
from p2pser.run.participant import Cohort
from p2pser.simulation.engine import simulate
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.simulation.secrets import SeedSecrets

EPSILONS = (8.0, 3.0)
ROUNDS = (3, 10, 20)
MORE = (24, 100, 400, 2000)
LINEAR = ("model.hidden=[]", "training.lr=0.1", "gossip.algorithm=secure-average", "privacy.norm=0.5")
CANARIES, PEERS, AUDITED_ROUNDS, NUMBERS = 400, 24, 10, 5536


def uar(config: Config, peers: int, epsilon: float | None, many: int) -> float | None:
    """Return the UAR on the held-out speakers of a run of ``peers``, as if they were ``many``."""
    federation = federate(config, peers)
    if epsilon is not None:
        config = config.with_settings([f"privacy.epsilon={epsilon}", f"privacy.units={many}"])
    if many == peers:
        run = simulate(config, load("ring", peers=peers), federation, each_peer=False)
        return None if run.outputs is None else run.outputs.uar
    cohort = Cohort(config, federation, federation.train)
    work, x = cohort.prepare(torch.zeros(0, dtype=torch.float64), peers), cohort.initial()[0]
    budget = Budget.of(config, many)
    assert budget is not None
    all_shares = math.sqrt(budget.peers / (budget.peers - budget.colluding))
    deviation = budget.noise * budget.norm * all_shares / budget.units
    noise = np.random.default_rng(config.seed)
    for round in range(config.training.rounds):
        updates = [work.update(b, x, round, 0).double().numpy() for b in range(peers)]
        mean = np.mean([budget.integers(update) / budget.scale for update in updates], axis=0)
        x = x + torch.from_numpy(mean + noise.normal(0.0, deviation, len(mean))).float()
    return cohort.evaluate(x).uar


def lower_bound(right: int, guesses: int, delta: float, units: int) -> float:
    """Return the largest epsilon that ``right`` of ``guesses`` guesses refute with 95 % (Steinke et al., theorem 5.2).
    """
    def likely(epsilon: float) -> float:
        chance = 1.0 / (1.0 + math.exp(-epsilon))
        tail = binom.sf(np.arange(right - 1, -1, -1), guesses, chance)  # of right - i for i = 0 .. right - 1
        alpha = max(((tail[i] - tail[0]) / i for i in range(1, right)), default=0.0)
        return float(tail[0] + 2 * units * delta * alpha)

    low, high = 0.0, 20.0
    if likely(0.0) > 0.05:
        return 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if likely(middle) <= 0.05 else (low, middle)
    return low


def audit(config: Config, seed: int, noise: float | None = None) -> Mapping[str, float]:
    """Return the claimed epsilon and its lower bound by the attacker's guesses. noise : replaces the budget's."""
    units = CANARIES + PEERS
    budget = Budget.of(config.with_settings([
        "privacy.unit=speaker", f"privacy.units={units}", f"training.rounds={AUDITED_ROUNDS}",
        *([] if noise is None else [f"privacy.noise={noise}"])]), PEERS)
    assert budget is not None
    claimed = budget.spent([PEERS] * AUDITED_ROUNDS, budget.colluding)
    draws = np.random.default_rng(seed)
    directions = draws.normal(size=(CANARIES, NUMBERS))
    directions *= budget.norm / np.linalg.norm(directions, axis=1, keepdims=True)
    there = draws.random(CANARIES) < 0.5
    graph, secrets = load("ring", peers=PEERS), SeedSecrets(seed)
    mechanism = budget if noise is None else replace(budget, epsilon=math.inf)  # else the control would make no sum
    scores = sum((directions @ _total(graph, secrets, round, directions, there, mechanism)
                  for round in range(AUDITED_ROUNDS)), np.zeros(CANARIES))
    order, quarter = np.argsort(scores), CANARIES // 4
    right = int(there[order[-quarter:]].sum() + (~there[order[:quarter]]).sum())
    return {"claimed": claimed, "right": right / (2 * quarter),
            "bound": lower_bound(right, 2 * quarter, budget.delta, CANARIES)}


def _total(graph: Topology, secrets: SeedSecrets, round: int, directions: NDArray[np.float64],
           there: NDArray[np.bool_], budget: Budget) -> NDArray[np.float64]:
    """Return the mean of a round less what the colluding peers, which hold no canary, gave to it."""
    honest = PEERS - budget.colluding
    held = {i: [directions[k] for k in range(i, CANARIES, honest) if there[k]] if i < honest else []
            for i in range(PEERS)}
    released = private_mean(SimulatedMixer(graph, secrets=secrets), round, held, NUMBERS, budget,
                            FixedPoint(64, 32.0, PEERS), graph.graph, least=3)[0]
    assert released is not None
    known = np.sum([contribution(secrets.own(i), round, [], NUMBERS, budget) for i in range(honest, PEERS)], axis=0)
    return released[0] - budget.decode(known.astype(np.float64), PEERS)


def main() -> None:
    """Print both tables, or JSON."""
    parser = options(__doc__, "budget")
    parser.add_argument("--peers", type=int, default=20, help="one for each training speaker of a fold")
    parser.add_argument("--audits", type=int, default=3, help="seeds of the audit")
    given = parser.parse_args()
    base = settings(given, *LINEAR)
    rows: dict[str, list[float]] = {}
    for config in each(base, given):
        for rounds in ROUNDS:
            for epsilon, many in [(None, given.peers), *product(EPSILONS, (given.peers, *MORE))]:
                its = config.with_settings([f"training.rounds={rounds}"])
                value = kept(given.out, its, lambda: uar(its, given.peers, epsilon, many),  # noqa: B023
                             epsilon=epsilon, many=many, peers=given.peers)
                rows.setdefault(f"{rounds} rounds, epsilon {epsilon or 'none'}, {many} peers", []).append(value)
    audits = {f"epsilon {epsilon:g}" + (", control without noise" if noise else ""):
              [audit(base.with_settings([f"privacy.epsilon={epsilon:g}"]), seed, noise) for seed in range(given.audits)]
              for epsilon, noise in [*((epsilon, None) for epsilon in EPSILONS), (EPSILONS[0], 1e-3)]}
    if given.json:
        print(json.dumps({"uar": rows, "audits": audits}))
        return
    for name, values in rows.items():
        print(f"{name}: UAR {np.mean(values):.3f} (sd {np.std(values):.3f}, n {len(values)})")
    for name, findings in audits.items() if given.audits else ():
        print(f"{name}: claimed {findings[0]['claimed']:.2f}, " + "; ".join(
            f"{finding['right']:.3f} right, at least {finding['bound']:.2f}" for finding in findings))


if __name__ == "__main__":
    main()
