"""The options of a run: the same in all commands, old spellings refused, and what they set."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.cli.common import RunOptions, run_options
from p2pser.cli.compare import compare
from p2pser.cli.corpus_split import split
from p2pser.cli.crosscorpus import crosscorpus
from p2pser.cli.crossval import crossval
from p2pser.cli.demo import demo
from p2pser.cli.evaluate import evaluate
from p2pser.cli.peer import peer
from p2pser.cli.simulate import simulate

RUNS = (peer, demo, simulate, compare, crossval, crosscorpus)
SAME = ("--topology", "--peers", "--run", "--set", "--corpus", "--data", "--folds", "--features", "--algorithm",
        "--rounds", "--seed", "--name", "--out", "--json")


@pytest.mark.parametrize("command", RUNS, ids=lambda command: command.name)
def test_every_run_has_the_same_options(command: click.Command) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    assert options >= set(SAME)
    shown = CliRunner().invoke(command, ["--help"]).output
    assert all(f"{name} " in shown for name in SAME)
    assert not any(f"{name} " in shown for name in ("--topologies", "--algorithms", "--fold"))


@pytest.mark.parametrize("command", RUNS, ids=lambda command: command.name)
@pytest.mark.parametrize(("old", "new", "value"), [
    ("--topologies", "--topology", "ring,star"), ("--algorithms", "--algorithm", "k-gt"), ("--fold", "--folds", "3")])
def test_an_old_spelling_names_the_new_one(command: click.Command, old: str, new: str, value: str) -> None:
    done = CliRunner().invoke(command, ["--id", "0", old, value] if command is peer else [old, value])
    assert done.exit_code == 2
    assert f"Error: {old} is now {new}: write {new} {value}" in done.output


@pytest.mark.parametrize(("command", "arguments"), [(split, ["x", "--peers", "2", "--out", "y"]), (evaluate, ["x"])])
def test_the_fold_elsewhere(command: click.Command, arguments: list[str]) -> None:
    done = CliRunner().invoke(command, [*arguments, "--fold", "3"])
    assert (done.exit_code, "--fold is now --folds: write --folds 3" in done.output) == (2, True)


def given(*arguments: str, **how: object) -> RunOptions:
    """The options that a command would get."""
    kept: list[RunOptions] = []

    @click.command()
    @run_options(**how)  # type: ignore[arg-type]
    def command(options: RunOptions) -> None:
        kept.append(options)

    done = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return kept[0]


def test_what_the_options_set(tmp_path: Path) -> None:
    config = given("--folds", "2", "--features", "logmel", "--algorithm", "k-gt", "--rounds", "7", "--seed", "3",
                   "--name", "night", "--out", str(tmp_path), "--corpus", "emodb", "--data", "x: y").config()
    assert (config.corpus.fold, config.features.kind, config.gossip.algorithm) == (2, "logmel", "k-gt")
    assert (config.training.rounds, config.seed, config.name, config.peer.out) == (7, 3, "night", tmp_path)
    assert (config.corpus.name, config.corpus.data) == ("emodb", Path("x: y"))


def test_an_encoder_alone_asks_for_its_features() -> None:
    alone = given("--encoder", "some/encoder").config()
    assert (alone.features.kind, alone.features.encoder) == ("ssl", "some/encoder")
    joined = given("--encoder", "some/encoder", "--features", "functionals+ssl").config()
    assert joined.features.kind == "functionals+ssl"
    assert given("--set", "features.encoder=some/encoder").config().features.kind == "ssl"
    assert given("--set", "features.encoder=none").config().features.kind == "functionals"


def test_set_overrides_options_and_options_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("training: {rounds: 3, lr: 0.2}\ngossip: {algorithm: d2}\n", encoding="utf-8")
    options = given("--run", str(path), "--rounds", "4", "--set", "training.lr=0.3", "--algorithm", "k-gt",
                    "--set", "training.momentum=0,")
    with pytest.raises(ConfigError, match=r"training.momentum = '0,': must be a number of 0 or more and below 1"):
        options.config()
    config = given("--run", str(path), "--rounds", "4", "--set", "training.lr=0.3", "--algorithm", "k-gt").config()
    assert (config.training.rounds, config.training.lr, config.gossip.algorithm) == (4, 0.3, "k-gt")
    assert given("--rounds", "4", "--set", "training.rounds=5").config().training.rounds == 5
    assert given("--run", str(path)).config({"training.lr": 0.5, "training.momentum": None}).training.lr == 0.5


def test_lists_are_the_commands_own() -> None:
    lists = {"topology": "", "folds": "", "features": "", "algorithm": ""}
    options = given("--algorithm", "k-gt,d2", "--features", "logmel,functionals", "--folds", "2, 0,2", "--topology",
                    "ring, star", "--peers", "5", lists=lists)
    config = options.config()
    assert (config.gossip.algorithm, config.features.kind, config.corpus.fold) == ("dfedavg", "functionals", 0)
    assert options.fold_numbers() == (2, 0)
    assert [graph.name for graph in options.graphs(config)] == ["ring", "star"]
    assert {graph.size for graph in options.graphs(config)} == {5}


@pytest.mark.parametrize(("text", "numbers", "name"), [("all", None, "auto"), ("loso", None, "loso"),
                                                       ("group:5", None, "group:5"), ("1", (1,), "auto")])
def test_folds_are_numbers_all_or_a_split(text: str, numbers: tuple[int, ...] | None, name: str) -> None:
    options = given("--folds", text, lists={"folds": ""})
    assert options.fold_numbers() == numbers
    assert options.config().corpus.split == name


@pytest.mark.parametrize("text", ["all", "loso", "0,1"])
def test_one_run_holds_out_one_fold(text: str) -> None:
    with pytest.raises(click.UsageError, match=f"--folds {text}: this command holds out one fold"):
        given("--folds", text).config()


def test_own_data_is_not_partitioned(tmp_path: Path) -> None:
    config = given("--data", str(tmp_path)).config(own_data=True)
    assert (config.corpus.name, config.corpus.partition, config.corpus.split) == ("auto", "own", "none")
    shared = given("--data", str(tmp_path), "--corpus", "emodb").config(own_data=True)
    assert (shared.corpus.name, shared.corpus.partition, shared.corpus.split) == ("emodb", "auto", "auto")


def test_a_random_graph_has_the_seed_of_the_run() -> None:
    graphs = [given("--topology", "erdos-renyi", "--peers", "12", "--seed", seed) for seed in ("1", "2", "1")]
    edges = [sorted(options.graph(options.config()).graph.edges) for options in graphs]
    assert edges[0] == edges[2] != edges[1]


@pytest.mark.parametrize("command", [simulate, compare, crossval], ids=lambda command: command.name)
def test_a_device_that_is_not_here_is_refused_first(command: click.Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^training.device=cuda, and torch \S+ finds no GPU with CUDA here"):
        CliRunner().invoke(command, ["--device", "cuda"], catch_exceptions=False)
