"""What several commands share: options, and how results are printed."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pser.cli.kinds import Source, Target

if TYPE_CHECKING:
    from p2pser.config import Config
    from p2pser.graph.spec import Topology

F = TypeVar("F", bound=Callable[..., Any])

encoder_option = click.option(
    "--encoder", default=None, metavar="DIR|NAME",
    help="Folder or Hugging Face name of the encoder, of speech or text.  [default: looked for by its identity]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")

from_option = click.option(
    "--from", "start", type=Source(file_okay=False), metavar="MODEL",
    help="Model directory whose parameters the run starts from, of the same family and features; emotions may be added "
         "or left out. All peers start from a copy of one model.")


@dataclass(frozen=True)
class RunOptions:
    """The options that make the settings of a run, as given; None where one is not given."""

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
    """Options that may name several things; the command reads them."""

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
        numbered = re.fullmatch(r"\d+(\s*,\s*\d+)*", self.folds or "")
        return tuple(dict.fromkeys(map(int, numbered[0].split(",")))) if numbered else None

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


def run_options(topology: str = "ring", *, peers: int | None = None, lists: Mapping[str, str] | None = None,
                folds: str | None = None) -> Callable[[F], F]:
    """Return a decorator that adds the options of a run and passes them to the command as ``options: RunOptions``.

    Parameters
    ----------
    topology : the default of ``--topology``.
    peers : the default of ``--peers``; None: the topology's.
    lists : {option: help} of the options that may name several things here (``topology``, ``folds``, ``features``,
        ``algorithm``), and of others whose meaning differs (``peers``).
    folds : the default of ``--folds``.
    """
    own = lists or {}

    def text(option: str, single: str) -> str:
        return own.get(option, single)

    options = (
        click.option("--topology", default=topology, show_default=True,
                     metavar="NAME|FILE" + ",..." * ("topology" in own),
                     help=text("topology", "Topology file, or the name of a shipped one.")),
        click.option("--peers", type=click.IntRange(min=1), default=peers, show_default=peers is not None,
                     help=text("peers", "Number of peers.  [default: the topology's]" if peers is None
                               else "Number of peers.")),
        click.option("--run", "run_file", type=Source(dir_okay=False), help="Run file (YAML) with the run's settings."),
        click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
                     help="Override one setting of the run (may be given several times)."),
        click.option("--corpus", metavar="NAME|PATH",
                     help="A corpus (p2pser corpus list) or a path; several: emodb=DIR,ravdess=DIR,synthetic:es."),
        click.option("--data", type=Source(),
                     help="Folder or manifest of the recordings; of several corpora a folder with a folder for each."),
        click.option("--folds", default=folds, show_default=folds is not None,
                     metavar="all|0,1,...|SPLIT" if "folds" in own else "N",
                     help=text("folds", "Number of the fold that is held out for testing.  [default: 0]")),
        click.option("--features", metavar="KIND" + ",..." * ("features" in own),
                     help=text("features", "Kind of features (features.kind).")),
        click.option("--encoder", metavar="DIR|NAME", help="Speech encoder; makes ssl the default of --features."),
        click.option("--algorithm", metavar="NAME" + ",..." * ("algorithm" in own),
                     help=text("algorithm", "Gossip algorithm (p2pser algorithms).")),
        click.option("--rounds", type=click.IntRange(min=0), help="Communication rounds."),
        click.option("--seed", type=click.IntRange(min=0), help="Seed of everything random."),
        click.option("--name", help="Name of the run."),
        click.option("--out", type=Target(folder=True),
                     help="Folder of the results.  [default: below runs/]"),
        click.option("--purpose", metavar="WORD",
                     help="Purpose of the run, such as research or medical: equal at all peers, and in the card."),
        renamed("--topologies", "--topology"), renamed("--algorithms", "--algorithm"), renamed("--fold", "--folds"),
    )

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def call(**values: Any) -> Any:
            given = {field.name: values.pop(field.name) for field in fields(RunOptions) if field.name in values}
            return command(options=RunOptions(**given, lists=frozenset(own)), **values)

        return _with(call, options)  # type: ignore[return-value]

    return decorate


def device_option(command: F) -> F:
    """Add the option ``--device``, which the command gets as ``device``: checked, before anything is computed."""
    def checked(ctx: click.Context, parameter: click.Parameter, device: str | None) -> str | None:
        if device is not None and not ctx.resilient_parsing:
            from p2pser.training.at_once import require_device

            require_device(device)
        return device

    return click.option("--device", type=click.Choice(["cpu", "cuda"]), callback=checked,
                        help="Where the peers take their local steps (training.device).  [default: cpu]")(command)


def worker_options(command: F) -> F:
    """Add ``--workers`` (a number of processes) and ``--cluster`` (the address of a Ray cluster), which the command
    gets as ``workers``.
    """
    @functools.wraps(command)
    def call(*args: Any, workers: int | None, cluster: str | None, **options: Any) -> Any:
        if workers is not None and cluster is not None:
            raise click.UsageError("--workers counts processes of this machine, and --cluster takes the cores of a "
                                   "cluster: give one of them")
        return command(*args, workers=cluster or workers, **options)

    return _with(call, (  # type: ignore[return-value]
        click.option("--workers", type=click.IntRange(min=1), help="Number of processes.  [default: one per core]"),
        click.option("--cluster", metavar="auto|ADDRESS",
                     help="Run on a Ray cluster (extra cluster) instead of processes of this machine: its address, or "
                          "auto for the cluster that this machine belongs to."),
    ))


def experiment_options(command: F) -> F:
    """Add the options of several runs: ``--seeds``, ``--tune`` (a tuple), ``--inner``, and those of ``worker_options``.
    """
    return _with(worker_options(command), (
        click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True,
                     help="Number of seeds, counted from --seed on."),
        click.option("--tune", multiple=True, metavar="SETTING=VALUE,VALUE,...",
                     help="Choose the best value on inner folds for each scheme and baseline, such as "
                          "training.lr=0.02,0.05,0.1 (several times: the whole grid)."),
        click.option("--inner", type=click.IntRange(min=2), default=3, show_default=True,
                     help="Number of inner folds, of training speakers."),
    ))


def _with(command: F, options: Sequence[Callable[[F], F]]) -> F:
    """Return a command with options, in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def renamed(old: str, new: str) -> Callable[[F], F]:
    """Return an option that is no longer there: given, it is refused with its new name."""
    def refuse(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise click.UsageError(f"{old} is now {new}: write {new} {value}", ctx)

    # A name of its own: with that of the new option's parameter the new option would be refused too.
    name = f"renamed_{old.strip('-').replace('-', '_')}"
    return click.option(old, name, hidden=True, expose_value=False, callback=refuse)


def listed(text: str | None) -> list[str]:
    """Return the parts of ``a,b``."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


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
    parts = [name_and_path(text.strip()) for text in ([corpus] if whole else corpus.split(","))]
    paths = [path for _, path in parts]
    if data is not None and any(paths):
        raise ConfigError(f"--corpus {corpus} names paths, and --data another: give one of them")
    names = "+".join(name for name, _ in parts)
    if not any(paths):
        return names, data
    return names, paths if len(paths) > 1 else paths[0]


def print_json(document: Any) -> None:
    """Print one JSON document on standard output (numbers finite or null, keys in the given order).

    It is in ASCII where a name in it cannot be written otherwise: in another encoding, or one that is no text.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, allow_nan=False)
    click.echo(text)


def note(sentence: str) -> None:
    """Print a sentence on standard error."""
    click.echo(sentence, err=True)


def print_findings(lines: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each thing that was looked at; MEND marks what hinders the run, ``?`` what is not known."""
    for line in lines:
        mark = "ok" if line["fits"] else "?" if line.get("state") == "dials us" else "MEND"
        click.echo(f"{mark:4} {line['sentence']}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None,
                sections: Collection[int] = ()) -> None:
    """Print a table of text on standard output. It is never cut to the width of the terminal: it holds the results.

    Parameters
    ----------
    head : the names of the columns; the first is aligned to the left, the others to the right.
    rows : the cells.
    title : a line above the table.
    sections : numbers of the rows that a line follows.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for number, row in enumerate(rows):
        table.add_row(*row, end_section=number in sections)
    needed = Console(width=10_000, emoji=False, markup=False).measure(table).maximum
    Console(width=max(Console().width, needed), emoji=False, markup=False).print(table)
