"""``p2pser watch``: a run live or in replay, on the terminal or as a page for the browser."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from p2pser.base.errors import ConfigError
from p2pser.base.wording import extra
from p2pser.cli.kinds import Source
from p2pser.cli.output import serve_until_interrupted
from p2pser.cli.status import show

PORT = 8765


@click.command()
@click.argument("folder", type=Source(), required=False)
@click.option("--web", is_flag=True, help="Show a page for the browser on this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True,
              help="Port at which the server listens; 0: a free one.")
@click.option("--once", is_flag=True, help="Print the state as p2pser status does, and exit.")
def watch(folder: Path | None, web: bool, port: int, once: bool) -> None:
    """Watch a run. FOLDER is that of a run or of one peer; in another folder, by default this one, the newest run is
    meant.

    The command reads the files that the peers on this machine write: all peers of a run on one machine, or this site's
    own peer with its knowledge of its neighbours. The page is served at 127.0.0.1. q ends the terminal view, Ctrl-C the
    page. Where the output is not a terminal, the state is printed once.

    Example: p2pser watch runs/demo --web
    """
    from p2pser.peer.view import look, run_folder

    folder = run_folder(folder or Path())
    if once or not (web or terminal()):
        show(folder, as_json=False)
    look(folder)  # a wrong folder is refused before anything opens
    try:
        if web:
            _page(folder, port)
        else:
            from p2pser.watch.screen import TerminalView

            TerminalView(folder).run()
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ConfigError(f"p2pser watch needs {package}, of the extra watch: {extra('watch')}; p2pser status prints "
                          "the state without it") from None


def terminal() -> bool:
    """Whether the output is a terminal."""
    return sys.stdout.isatty()


def _page(folder: Path, port: int) -> None:
    from p2pser.base.pages import listen
    from p2pser.watch.document import Observer
    from p2pser.watch.server import serve

    with listen(port) as sock:
        serve_until_interrupted(sock, lambda: serve(Observer(folder), sock))
