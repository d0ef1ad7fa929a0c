"""``p2pser export``: a model for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.cli.common import encoder_option, json_option, note, print_json
from p2pser.cli.kinds import Source, Target


@click.command()
@click.argument("model", metavar="MODEL_DIR", type=Source())
@click.option("--onnx", "out", required=True, type=Target(folder=False), metavar="OUT.onnx",
              help="File to write; beside it OUT.json describes the input.")
@encoder_option
@json_option
def export(model: Path, out: Path, encoder: str | None, as_json: bool) -> None:
    """Write a model as ONNX: normalisation, network and probabilities, and for log-mel the features too.

    Example: p2pser export runs/ring/peer-3/model --onnx emotions.onnx
    """
    from p2pser.models import directory
    from p2pser.models.export import export as write

    network, card = directory.load(model, encoder)
    document = write(network, card, out)
    if card.warning:
        note(f"p2pser: the model was {card.warning}")
    if as_json:
        print_json({"model": str(model), "onnx": str(out), **document})
    else:
        click.echo(f"{out}: {document['input']} {document['input_shape']} to {', '.join(document['outputs'])}")
        click.echo(f"input: {document['input_is']}")
    note(f"written to {out} and {out.with_suffix('.json')}")
