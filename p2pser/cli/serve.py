"""``p2pser serve``: predictions over HTTP, with a page for the browser."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from p2pser.base.errors import ConfigError
from p2pser.base.wording import extra
from p2pser.cli.common import SEVERAL, encoder_option, renamed
from p2pser.cli.kinds import Number, Source
from p2pser.cli.output import note, serve_until_interrupted, shown

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.argument("model", metavar="MODEL_DIR", type=Source())
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Address at which the server listens; 0.0.0.0: all of this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
              help="Port at which the server listens; 0: a free one.")
@click.option("--host-name", "names", multiple=True, metavar="NAME",
              help=f"Another host name, such as a proxy's, by which clients address the server {SEVERAL}.")
@renamed("--name", "--host-name")
@click.option("--at-once", "workers", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N",
              help="Largest number of simultaneous predictions.")
@renamed("--workers", "--at-once")
@click.option("--max-bytes", type=click.IntRange(min=1), default=50_000_000, show_default=True, metavar="N",
              help="Largest size of a recording [B].")
@click.option("--max-seconds", type=Number(min=0, min_open=True), default=600.0, show_default=True, metavar="S",
              help="Longest length of a recording [s].")
@click.option("--timeout", type=Number(min=0, min_open=True), default=60.0, show_default=True, metavar="S",
              help="Longest time of the upload of a recording [s].")
@encoder_option
def serve(model: Path, host: str, port: int, names: tuple[str, ...], workers: int, max_bytes: int, max_seconds: float,
          timeout: float, encoder: str | None) -> None:
    """Answer predictions over HTTP, with a page for the browser, until Ctrl-C.

    POST /predict takes the bytes of a recording and returns JSON; GET /model describes the model.

    Example: p2pser serve runs/demo/peer-3/model

    Example: curl --data-binary @clip.wav "http://127.0.0.1:8000/predict?top_k=3"
    """
    try:
        from p2pser.base.pages import NAMES, listen
        from p2pser.serve.app import app
        from p2pser.serve.run import run
        from p2pser.serve.work import Limits
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ConfigError(f"p2pser serve needs {package}, of the extra serve: {extra('serve')}") from None
    from p2pser.inference.predictor import load

    predictor = load(model, encoder)
    predictor.card.require_recordings()
    if remark := predictor.note():
        note(shown(f"p2pser: {remark}"))
    elsewhere = host not in LOOPBACK
    limits = Limits(max_bytes=max_bytes, seconds=max_seconds, timeout=timeout, workers=workers)
    own = {*NAMES, "::1", host, *names, *([socket.gethostname(), socket.getfqdn()] if elsewhere else ())}
    with listen(port, host) as sock:
        predictor.warm()
        if elsewhere:
            note("p2pser: the server listens beyond this machine without authentication or encryption, so every "
                 "program that reaches the port can use it: put a proxy with both before it")
        serve_until_interrupted(sock, lambda: run(app(predictor, limits, own, elsewhere), sock))
