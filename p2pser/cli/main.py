"""``p2pser``: the group of commands, each imported only when it is called."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import sys
from typing import Any

import click

from p2pser.base.errors import FULL, P2PSERError, in_one_line
from p2pser.base.paths import tell_of_caches
from p2pser.base.version import TWICE, __version__, installed_twice

COMMANDS = {
    "peer": "Run one peer until the network has its model.",
    "status": "Show the state of a run: rounds, awaited neighbours, quality, problems.",
    "watch": "Watch a run live or replay it, on the terminal or in the browser.",
    "runs": "List runs; write their measurements as CSV, or for TensorBoard, MLflow or Trackio.",
    "demo": "Run several peers on this machine and compare with local-only and pooled training.",
    "simulate": "Run all peers in one process.",
    "plan": "Estimate what a run costs each site: bytes, hours, memory, exposure.",
    "compare": "Compare topologies and algorithms.",
    "bench": "Measure topologies and algorithms on a frozen benchmark, and rank results.",
    "audit": "Measure by attacks what a neighbour learns about a peer's recordings.",
    "algorithms": "List the gossip algorithms and their hyper-parameters.",
    "models": "List the families of models, their parameters and multiply-adds.",
    "topology": "List, show, compare and plot topologies; make the file of a run between sites.",
    "corpus": "List, fetch, scan and describe corpora.",
    "features": "Compute the features of a corpus into the cache.",
    "crossval": "Cross-validate gossip, a server, pooled and local-only training.",
    "crosscorpus": "Train on each of several corpora and on all, test on each.",
    "evaluate": "Evaluate a model on a corpus.",
    "predict": "Predict the emotion of recordings.",
    "listen": "Predict the emotion of speech while it is spoken.",
    "serve": "Answer predictions over HTTP, with a page for the browser.",
    "export": "Write a model as ONNX.",
    "push": "Write a model to a Hugging Face hub.",
    "pull": "Fetch a model from a Hugging Face hub.",
    "settings": "List the settings of a run with default, unit and meaning.",
    "forget": "Exclude a speaker's clips from every later start of a peer.",
    "invite": "Make a run file and an invitation for each site.",
    "accept": "Accept an invitation: make a key, check the recordings, and write the reply.",
    "keys": "Make the keys by which peers authenticate each other.",
}
"""Every command with its one-line help, so that ``--help`` imports none of them."""


ONLY_WHOLE = ("torch", "scipy", "librosa", "zmq", "networkx", "msgpack", "safetensors", "matplotlib", "filelock",
              "cryptography")
"""Packages that p2pser requires and p2pser-predict, the distribution for predictions only, does not."""


class LazyGroup(click.Group):
    """A group whose command NAME is the attribute NAME of ``p2pser.cli.NAME``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse the character 0, and empty arguments, which a shell makes of an unset variable."""
        for before, argument in zip(("", *args), args):
            if "\0" in argument:
                raise click.UsageError(f"the argument {argument!r} holds a character 0: leave it out", ctx)
            if not argument or (argument.startswith("--") and argument.endswith("=") and argument.count("=") == 1):
                after = argument[:-1] or before
                raise click.UsageError(f"an argument is empty{f', after {after}' if after else ''}: give a value, or "
                                       "leave the option out", ctx)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"p2pser.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="p2pser")
def cli() -> None:
    """Gossip federated learning for speech emotion recognition, peer to peer.

    Each peer trains on its own recordings and exchanges messages with its neighbours only.

    Example: p2pser demo --peers 8 --topology ring --kill 3@10
    """
    if installed_twice():
        click.echo(f"p2pser: {TWICE}", err=True)
    tell_of_caches(lambda sentence: click.echo(sentence, err=True))


class _Lossy(io.FileIO):
    """Standard error whose reader may be gone, or whose log may be on a full disk: a run goes on without it."""

    def write(self, data: Any) -> int:
        """Write, or drop what cannot be written."""
        written = None
        with contextlib.suppress(OSError):
            written = super().write(data)
        return len(data) if written is None else written


def main() -> None:
    """Run the command line: 0 done, 1 the run failed, 2 the call or a file is wrong, 3 not all peers agreed."""
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(_Lossy(sys.stderr.fileno(), "w", closefd=False)),
                                      sys.stderr.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may hold what the terminal's encoding lacks
            with contextlib.suppress(OSError, ValueError):  # it flushes, which a closed one refuses
                stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        vars(error)["message"] = in_one_line(error.message)
        error.show()
        sys.exit(error.exit_code)
    except P2PSERError as error:
        click.echo(f"p2pser: {in_one_line(error)}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ONLY_WHOLE:
            raise
        click.echo(f"p2pser: this command needs {error.name}, and this installation is for predictions only "
                   "(p2pser-predict): install p2pser in another environment", err=True)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno == errno.ENOSPC:
            click.echo("p2pser: cannot write: no space is left on the disk", err=True)
            sys.exit(1)
        if error.filename is None:  # the error of no file that the user could change
            raise
        click.echo(f"p2pser: {in_one_line(f'cannot use {str(error.filename)!r}: {error.strerror}')}", err=True)
        sys.exit(1 if error.errno in FULL else 2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("p2pser: interrupted", err=True)
        sys.exit(130)
    # Without its own error handling click returns the code of an Exit, and what a command returns: None here.
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
