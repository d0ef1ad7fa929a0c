"""The options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pser.base.wording import listed
from p2pser.cli.kinds import Source, Target
from p2pser.cli.output import note

if TYPE_CHECKING:
    from p2pser.config import Config
    from p2pser.features.normalisation import Statistics
    from p2pser.graph.spec import Topology
    from p2pser.inference.predictor import Predictor

F = TypeVar("F", bound=Callable[..., Any])

SEVERAL = "(may be given several times)"
ALGORITHMS_HELP = (
    "Gossip algorithms, each on each topology, with hyper-parameters after colons; a name with a dot is a setting: "
    "k-gt:training.momentum=0; several values to tune this algorithm by: training.lr=0.1|0.2")

encoder_option = click.option(
    "--encoder", metavar="DIR|NAME",
    help="Folder or Hugging Face name of the encoder, of speech or text.  [default: found by its identity]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
RUN_OPTION: dict[str, Callable[[Any], Any]] = {
    "topology": click.option("--topology", default="ring", show_default=True, metavar="NAME|FILE",
                             help="Topology file, or the name of a shipped one."),
    "peers": click.option("--peers", type=click.IntRange(min=1),
                          help="Number of peers.  [default: the topology's]"),
    "run": click.option("--run", "run_file", type=Source(dir_okay=False),
                        help="Run file (YAML) with the settings of the run."),
    "set": click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
                        help=f"Override one setting of the run {SEVERAL}."),
    "corpus": click.option(
        "--corpus", metavar="NAME|PATH",
        help="A corpus (p2pser corpus list) or a path; several: emodb=DIR,ravdess=DIR,synthetic:es."),
    "data": click.option(
        "--data", type=Source(),
        help="Folder or manifest of the recordings; of several corpora a folder with a folder for each."),
    "folds": click.option("--folds", metavar="N",
                          help="Fold that is held out for testing: its number.  [default: 0]"),
    "features": click.option("--features", metavar="KIND", help="Kind of features (features.kind)."),
    "encoder": click.option("--encoder", metavar="DIR|NAME", help="Folder or Hugging Face name of the speech encoder; "
                                                                  "makes ssl the default of --features."),
    "algorithm": click.option("--algorithm", metavar="NAME", help="Gossip algorithm (p2pser algorithms)."),
    "rounds": click.option("--rounds", type=click.IntRange(min=0), help="Communication rounds."),
    "seed": click.option("--seed", type=click.IntRange(min=0), help="Seed of everything random."),
    "name": click.option("--name", help="Name of the run."),
    "out": click.option("--out", type=Target(folder=True), help="Folder of the results.  [default: runs]"),
    "purpose": click.option(
        "--purpose", metavar="WORD",
        help="Purpose of the run, such as research or medical: equal at all peers, and in the card."),
}
"""The options of a run on one topology, by name."""
workers_option = click.option("--workers", type=click.IntRange(min=1),
                              help="Number of processes.  [default: one per core]")
new_folder_option = click.option("--out", type=Target(folder=True), required=True,
                                 help="Folder to make; it must be new or empty.")
id_option = click.option("--id", "me", type=click.IntRange(min=0), required=True,
                         help="Id of this peer in the topology.")
split_option = click.option(
    "--split", metavar="SPLIT",
    help="How clips are held out for testing: loso, emobox, group:K, speakers:A+B, clips:K, each, corpus:NAME, none "
         "(all clips as one fold) or auto.  [default: auto]")
from_option = click.option(
    "--from", "start", type=Source(file_okay=False), metavar="MODEL_DIR",
    help="Model directory whose parameters the run starts from, of the same family and features; emotions may be added "
         "or left out. All peers start from a copy of one model.")


@dataclass(frozen=True)
class RunOptions:
    """The options that make the settings of a run, as given; None for an option that is not."""

    run_file: Path | None = None
    settings: tuple[str, ...] = ()
    corpus: str | None = None
    data: Path | None = None
    folds: str | None = None
    features: str | None = None
    encoder: str | None = None
    algorithm: str | None = None
    rounds: int | None = None
    seed: int | None = None
    name: str | None = None
    out: Path | None = None
    purpose: str | None = None
    topology: str = "ring"
    peers: int | None = None
    lists: frozenset[str] = frozenset()
    """Options that take a list; the command reads them."""

    def config(self, more: Mapping[str, object] | None = None, *, own_data: bool = False) -> Config:
        """Return the settings of the run.

        Parameters
        ----------
        more : further settings by name, which ``--set`` overrides; None is no value.
        own_data : ``--data`` without ``--corpus`` is this peer's alone and not partitioned over the peers.

        Raises
        ------
        ConfigError : an option or the run file is wrong.
        """
        from p2pser import config
        from p2pser.base.documents import as_yaml

        own = own_data and self.data is not None and self.corpus is None
        corpus, data = which_corpus(self.corpus, self.data)
        split, fold = self._fold()
        given = {"corpus.name": corpus, "corpus.data": data, "corpus.fold": fold, "corpus.split": split,
                 "training.rounds": self.rounds, "seed": self.seed, "name": self.name, "peer.out": self.out,
                 "privacy.purpose": self.purpose,
                 "gossip.algorithm": None if "algorithm" in self.lists else self.algorithm,
                 "features.kind": None if "features" in self.lists else self.features,
                 "features.encoder": self.encoder,
                 **({"corpus.partition": "own", "corpus.split": "none"} if own else {}), **(more or {})}
        plain = [f"{field}={as_yaml(value)}" for field, value in given.items() if value is not None]
        return config.load(self.run_file, [*plain, *self.settings])

    def graph(self, config: Config) -> Topology:
        """Return the topology of ``--topology`` and ``--peers``. Raises TopologyError."""
        from p2pser.graph.spec import load

        return load(self.topology, self.peers, config.seed)

    def graphs(self, config: Config) -> list[Topology]:
        """Return the topologies of a list. Raises TopologyError."""
        from p2pser.graph.spec import load

        return [load(name, self.peers, config.seed) for name in listed(self.topology)]

    def fold_numbers(self) -> tuple[int, ...] | None:
        """Return the numbers of ``--folds``; None for all of them (where ``all`` or a split is given)."""
        numbers = listed(self.folds)
        return tuple(dict.fromkeys(map(int, numbers))) if numbers and all(map(str.isdecimal, numbers)) else None

    def _fold(self) -> tuple[str | None, int | None]:
        """Return the split and, for a run on one fold, its number, as ``--folds`` gives them."""
        numbers = self.fold_numbers()
        split = self.folds if numbers is None and self.folds != "all" else None
        if "folds" in self.lists:
            return split, None
        if self.folds is not None and (numbers is None or len(numbers) != 1):
            raise click.UsageError(f"--folds {self.folds}: this command holds out one fold: give its number, such as "
                                   "--folds 0 (and the split by --set corpus.split=SPLIT)")
        return None, numbers[0] if numbers else None


def some_run_options(*names: str) -> Callable[[F], F]:
    """Return a decorator that adds these options of ``RUN_OPTION`` and passes them as ``options: RunOptions``."""
    return _bound({name: RUN_OPTION[name] for name in names})


def run_options(topology: str = "ring", *, peers: int | None = None, lists: Mapping[str, str] | None = None,
                folds: str | None = None) -> Callable[[F], F]:
    """Return a decorator that adds all options of a run and passes them as ``options: RunOptions``.

    Parameters
    ----------
    topology : the default of ``--topology``.
    peers : the default of ``--peers``; None: the topology's.
    lists : {option: help} of the options that take a list here (``topology``, ``folds``, ``features``,
        ``algorithm``), and of those with another default (``peers``, ``out``).
    folds : the default of ``--folds``.
    """
    own = lists or {}
    special = {
        "topology": click.option("--topology", default=topology, show_default=True,
                                 metavar="NAME|FILE" + ",..." * ("topology" in own),
                                 help=own.get("topology", "Topology file, or the name of a shipped one.")),
        "peers": click.option("--peers", type=click.IntRange(min=1), default=peers, show_default=True,
                              help=own.get("peers", "Number of peers.")),
        "folds": click.option("--folds", default=folds, show_default=True, metavar="all|0,1,...|SPLIT",
                              help=own.get("folds")),
        "features": click.option("--features", metavar="KIND,...", help=own.get("features")),
        "algorithm": click.option("--algorithm", metavar="NAME,...", help=own.get("algorithm")),
        "out": click.option("--out", type=Target(folder=True), help=own.get("out")),
    }
    changed = {*own, "topology", *(["peers"] if peers is not None else [])}
    options = {name: special[name] if name in changed else option for name, option in RUN_OPTION.items()}
    return _bound(options, frozenset(own), (renamed("--topologies", "--topology"), renamed("--fold", "--folds"),
                                            renamed("--algorithms", "--algorithm")))


def _bound(options: Mapping[str, Callable[[Any], Any]], lists: frozenset[str] = frozenset(),
           old: Sequence[Callable[[Any], Any]] = ()) -> Callable[[F], F]:
    """Return a decorator that adds options and old spellings, and passes the options as ``options: RunOptions``."""
    names = {{"run": "run_file", "set": "settings"}.get(name, name) for name in options}

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def call(**values: Any) -> Any:
            given = {name: values.pop(name) for name in names}
            return command(options=RunOptions(**given, lists=lists), **values)

        return _with(call, [*options.values(), *old])  # type: ignore[return-value]

    return decorate


def require_peer(me: int, topology: Topology) -> None:
    """Raise ConfigError where ``--id`` names a peer that the topology lacks."""
    from p2pser.base.errors import ConfigError

    if me >= topology.size:
        raise ConfigError(f"--id {me}: the topology {topology.name!r} has peers 0 to {topology.size - 1}: give one of "
                          "their ids")


def device_option(command: F) -> F:
    """Add the option ``--device``: a device that is missing here is refused before anything is computed."""
    def checked(ctx: click.Context, parameter: click.Parameter, device: str | None) -> str | None:
        if device is not None and not ctx.resilient_parsing:
            from p2pser.training.at_once import require_device

            require_device(device)
        return device

    return click.option("--device", type=click.Choice(["cpu", "cuda"]), callback=checked,
                        help="Where the peers take their local steps (training.device).  [default: cpu]")(command)


def worker_options(command: F) -> F:
    """Add ``--workers`` (a number) and ``--cluster`` (an address); the command gets the given one as ``workers``."""
    @functools.wraps(command)
    def call(*args: Any, workers: int | None, cluster: str | None, **options: Any) -> Any:
        if workers is not None and cluster is not None:
            raise click.UsageError("--workers counts processes of this machine, and --cluster takes the cores of a "
                                   "cluster: give one of them")
        return command(*args, workers=cluster or workers, **options)

    return _with(call, (  # type: ignore[return-value]
        workers_option,
        click.option("--cluster", metavar="auto|ADDRESS",
                     help="Run on a Ray cluster (extra cluster) instead of processes of this machine: its address, or "
                          "auto for the cluster that this machine belongs to."),
    ))


def seeds_option(default: int) -> Callable[[F], F]:
    """Return the option ``--seeds`` with this default."""
    return click.option("--seeds", type=click.IntRange(min=1), default=default, show_default=True,
                        help="Number of seeds, counted from --seed on.")


def experiment_options(command: F) -> F:
    """Add the options of several runs: ``--seeds``, ``--tune`` (a tuple), ``--inner``, and those of ``worker_options``.
    """
    return _with(worker_options(command), (
        seeds_option(3),
        click.option("--tune", multiple=True, metavar="SETTING=VALUE,VALUE,...",
                     help="Choose the best value on inner folds for each scheme and baseline, such as "
                          f"training.lr=0.02,0.05,0.1; of several settings the best combination {SEVERAL}."),
        click.option("--inner", type=click.IntRange(min=2), default=3, show_default=True,
                     help="Number of inner folds of training speakers."),
    ))


def _with(command: F, options: Sequence[Callable[[F], F]]) -> F:
    """Return the command with these options, in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def renamed(old: str, new: str, *, flag: bool = False, setting: str = "") -> Callable[[F], F]:
    """Return a hidden option that refuses the old spelling of an option and names the new one; ``flag``: it takes no
    value; ``setting``: that of which ``new``, ``--set``, takes the value.
    """
    def refuse(ctx: click.Context, parameter: click.Parameter, value: str | bool | None) -> None:
        if value:
            own = "" if flag else f" {setting}={value}" if setting else f" {value}"
            raise click.UsageError(f"{old} is now {new}: write {new}{own}", ctx)

    # A name of its own: with that of the new option's parameter the new option would be refused too.
    name = f"renamed_{old.strip('-').replace('-', '_')}"
    return click.option(old, name, is_flag=flag, hidden=True, expose_value=False, callback=refuse)


def which_corpus(corpus: str | None, data: Path | None) -> tuple[str | None, Path | str | list[str | None] | None]:
    """Return ``corpus.name`` and ``corpus.data`` for the values of ``--corpus`` and ``--data``, None where not given.

    Several corpora are ``NAME[=PATH],NAME[=PATH],…``; a path alone is a corpus that is recognised by what lies there.
    Raises ConfigError where paths are given both ways.
    """
    from p2pser.base.errors import ConfigError
    from p2pser.corpora.loading import names as corpus_names

    if corpus is None:
        return (None if data is None else "auto"), data

    def name_and_path(text: str) -> tuple[str, str | None]:
        if text.partition(":")[0] not in corpus_names() and Path(text).exists():
            return "auto", text
        name, _, path = text.partition("=")
        return name.strip(), path.strip() or None

    whole = name_and_path(corpus) == ("auto", corpus)
    parts = [name_and_path(text) for text in ([corpus] if whole else listed(corpus))]
    paths = [path for _, path in parts]
    if data is not None and any(paths):
        raise ConfigError(f"--corpus {corpus} names paths, and --data another: give one of them")
    names = "+".join(name for name, _ in parts)
    if not any(paths):
        return names, data
    return names, paths if len(paths) > 1 else paths[0]


def enrolled(predictor: Predictor, recordings: Path | None, errors: list[tuple[Path, str]]) -> Statistics | None:
    """Return the statistics of the speaker of --enrol; what cannot be used is added to ``errors``."""
    if recordings is None:
        return None
    own = predictor.enrol(recordings, errors)
    if own is None:
        note("p2pser: the model uses no speaker's own statistics: --enrol has no effect")
    return own
