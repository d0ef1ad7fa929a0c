"""What must hold at the end of every schedule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch

from schedules.lies import HARMLESS

if TYPE_CHECKING:
    from schedules.schedule import Schedule

TOLERANCE = 3e-3
"""Largest relative difference between models that count as one."""
SYMMETRIC = ("dfedavg", "multi-step", "d-psgd", "overlap")
"""Algorithms that mix rows over undirected edges."""
MOST_EVENTS = 4096
"""Longest queue of events."""


def judge(schedule: Schedule) -> None:
    """Add to ``schedule.violations`` what does not hold."""
    for i, machine in schedule.machines.items():
        for process in machine.past:
            if process.ended is not None and process.ended[0] == "crash" and i != schedule.liar:
                schedule.violations.append(f"peer {process.name} ended with a traceback: {process.ended[1]}")
            if process.twice and i != schedule.liar:
                schedule.violations.append(f"peer {process.name} mixed messages twice: {process.twice}")
            if process.io is not None and process.io.events.most > MOST_EVENTS:
                schedule.violations.append(f"peer {process.name} had {process.io.events.most} events waiting")
        if machine.process is None and machine.past and not machine.past[-1].ended and i not in schedule.given_up \
                and not machine.past[-1].dead:
            schedule.violations.append(f"peer {i} neither runs nor has it ended")
    _both_ends(schedule)
    _one_model(schedule)
    _one_sum_a_round(schedule)


def _both_ends(schedule: Schedule) -> None:
    """Of two peers that ran from the start to the end, each has mixed what the other has, but for what drift tells.

    Where their rows were equal, nothing flowed.
    """
    if schedule.algorithm not in SYMMETRIC or schedule.lies is not None:
        return
    for i, j in schedule.topology.graph.edges if schedule.topology.schedule is None else ():
        pair = [schedule.machines[k].past for k in (i, j)]
        if any(len(past) != 1 or past[0].exit_code is None or past[0].ended[0] != "done" for past in pair):
            continue
        one, other = (past[0] for past in pair)
        there, back = (
            {step for (step, k), gap in process.mixer.mixed.items()
             if k == peer and gap and 0 <= step.round < schedule.rounds} for process, peer in ((one, j), (other, i)))
        if there != back and not one.mixer.exchange.drift + other.mixer.exchange.drift > 0:
            schedule.violations.append(f"peers {i} and {j} mixed different exchanges of their edge and tell no drift: "
                                       f"{sorted(map(tuple, there ^ back))}")


def _one_sum_a_round(schedule: Schedule) -> None:
    """Whatever lives a peer had with its folder, it has given one input of a round, to one roster."""
    for path in schedule.folder.glob("run/peer-*/sums.jsonl"):
        rounds = [json.loads(line)[0] for line in path.read_text().splitlines() if line.endswith("]")]
        if len(set(rounds)) != len(rounds):
            schedule.violations.append(f"{path.parent.name} gave inputs of one round to several sums: {rounds}")


def _one_model(schedule: Schedule) -> None:
    rows: dict[int, torch.Tensor] = {}
    for i, machine in schedule.machines.items():
        last = next((p for p in reversed(machine.past) if p.ended is not None), None)
        if last is None or i == schedule.liar or last.ended[0] != "done":
            continue
        if last.exit_code == 0 and last.ended[1]["consensus"]:
            row = _row(Path(last.ended[1]["model"]))
            if row is None:
                schedule.violations.append(f"peer {i} ended with success, and its model cannot be read")
            else:
                rows[i] = row
    parts: list[tuple[torch.Tensor, list[int]]] = []
    for i, row in rows.items():
        for other, members in parts:
            if float((row - other).norm()) <= TOLERANCE * max(float(other.norm()), 1e-9):
                members.append(i)
                break
        else:
            parts.append((row, [i]))
    if len(parts) > 1 and (schedule.lies is None or schedule.lies.kind in HARMLESS):
        schedule.violations.append(f"{len(parts)} models, each a success: of {' and '.join(str(m) for _, m in parts)}")


def _row(folder: Path) -> torch.Tensor | None:
    try:
        tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
    except Exception:
        return None
    return torch.cat([tensors[name].reshape(-1).double() for name in sorted(tensors)])
