"""The command of benchmarks/against: what it reads, in which order it runs, what it keeps, and its table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def against(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    names = ("run", "systems", "table", "job", "on_p2pser")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for folder in ("benchmarks/against/drivers", "benchmarks/against"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    import run  # type: ignore[import-not-found]

    yield run
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("given", "sentence"), [
    (["--models", "mlp,rnn"], "'mlp,rnn' must be some of mlp, cnn"),
    (["--peers", "8,many"], "'8,many' must be numbers of peers, as in 8,100; 0 for none"),
    (["--processes", "2"], "'2': a ring needs 3 peers at least"),
    (["--source", "flower=."], "'flower=.' must be gossipy=FOLDER or decentralizepy=FOLDER"),
    (["--source", "gossipy=nowhere"], "'gossipy=nowhere': there is no such folder"),
    (["--repeats", "0"], "--repeats must be at least 1"),
])
def test_a_wrong_call_is_one_sentence(against: ModuleType, given: list[str], sentence: str,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        against.main(given)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(sentence)


def test_systems_take_turns_and_another_begins_each_time(against: ModuleType) -> None:
    given = against.options().parse_args(["--models", "cnn", "--peers", "8", "--processes", "0", "--repeats", "2",
                                          "--systems", "gossipy-dfl,pfl"])
    assert [(cell.name, system.name.partition(" ")[0], repeat) for cell, system, repeat in against.turns(given)] == [
        ("simulated-cnn-8", "p2pser", 0), ("simulated-cnn-8", "gossipy-dfl", 0), ("simulated-cnn-8", "pfl", 0),
        ("simulated-cnn-8", "gossipy-dfl", 1), ("simulated-cnn-8", "pfl", 1), ("simulated-cnn-8", "p2pser", 1)]


def figures(seconds: float, repeat_memory: float = 300) -> dict[str, Any]:
    return {"round_s": [9.0, seconds, 0.0], "cpu_s": [seconds / 2] * 3, "memory_mb": repeat_memory, "setup_s": 1.0}


@pytest.fixture
def played(against: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Runs answer at once: p2pser's 2nd turn is three times slower, as the others' is; pfl breaks once."""
    seen: list[tuple[str, int]] = []
    speed = {"p2pser": 0.1, "gossipy": 0.4}

    def measured(system: Any, cell: Any, python: str, path: list[str], limit: float) -> dict[str, Any]:
        name = system.name.partition(",")[0]
        turn = sum(one == system.name for one, _ in seen)
        seen.append((system.name, cell.peers))
        if name == "pfl" and turn == 0:
            return {"error": "no module of this name"}
        return figures(speed.get(name, 0.2) * (3 if turn == 1 else 1))

    def prepared(system: Any, *_: Any) -> tuple[str, list[str]]:
        if system.environment == "flower":
            raise against.Missing("there is no wheel")
        return "python", []

    monkeypatch.setattr(against, "measured", measured)
    monkeypatch.setattr(against, "prepared", prepared)
    return seen


def test_ratios_are_those_of_the_same_turn_and_a_failure_costs_its_row(
        against: ModuleType, played: list[tuple[str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--models", "mlp", "--peers", "100", "--processes", "0", "--repeats", "2", "--results", str(tmp_path),
            "--systems", "gossipy,flower"]
    against.main(call)
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in capsys.readouterr().out.splitlines()}
    assert lines["p2pser"] == "| p2pser | 200 (100–300) |  | 100 (50–150) |  | 300 |"
    assert lines["gossipy"] == "| gossipy | 800 (400–1,200) | 4.00 | 400 (200–600) | 4.00 | 300 |"
    assert "it could not be installed: there is no wheel" in lines["Flower's simulation"]


def test_an_interrupted_call_goes_on_and_what_failed_is_tried_again(
        against: ModuleType, played: list[tuple[str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--models", "mlp", "--peers", "8", "--processes", "0", "--repeats", "1", "--results", str(tmp_path),
            "--systems", "pfl"]
    against.main(call)
    assert "no module of this name" in capsys.readouterr().out
    against.main([*call, "--json"])
    [cell] = json.loads(capsys.readouterr().out)
    assert played == [("p2pser", 8), ("pfl", 8), ("pfl", 8)]
    assert cell["systems"]["pfl"][0]["round_s"] == [9.0, pytest.approx(0.6), 0.0]
    [broken] = tmp_path.rglob("p2pser-0.json")
    broken.write_text('{"round_s"')  # a file that was cut off is no result
    against.main(call)
    assert played[3:] == [("p2pser", 8)]


@pytest.mark.parametrize(("model", "parameters"), [("mlp", 96_052), ("cnn", 98_420)])
def test_p2pser_trains_the_model_that_the_others_train(against: ModuleType, model: str, parameters: int) -> None:
    import job  # type: ignore[import-not-found]
    import on_p2pser  # type: ignore[import-not-found]

    from p2pser.config import Config
    from p2pser.models import build

    asked = job.Job(model=model, peers=3, rounds=1)
    theirs = job.build(asked)
    config = Config().with_settings(on_p2pser.settings(asked))
    ours = build(config.model, job.SHAPES[model], job.CLASSES, 0)
    assert sum(one.numel() for one in ours.parameters()) == parameters
    with torch.no_grad():
        for own, other in zip(in_order(ours), in_order(theirs), strict=True):
            own.copy_(other)
    x, _ = job.clips(asked, 1)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)
    assert len(x) == config.training.local_steps * config.training.batch_size


def in_order(module: torch.nn.Module) -> list[torch.Tensor]:
    """The parameters, those of each convolution followed by those of its norm, which p2pser keeps in two lists."""
    kinds = [one for one in module.modules() if isinstance(one, (torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.Linear))]
    pairs = [one for kind in (torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.Linear) for one in kinds
             if isinstance(one, kind)]
    return [parameter for one in pairs for parameter in one.parameters()]
