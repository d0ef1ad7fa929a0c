"""``p2pser export``: a model for other programs, or for an installation without torch."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.cli.common import encoder_option, json_option
from p2pser.cli.kinds import Source, Target
from p2pser.cli.output import echo, note, print_json


@click.command()
@click.argument("model", metavar="MODEL_DIR", type=Source())
@click.option("--onnx", "out", type=Target(folder=False, endings=(".onnx",)), metavar="OUT.onnx",
              help="File to write for other programs; beside it OUT.json describes the input.")
@click.option("--light", type=Target(folder=True), metavar="NEW_DIR",
              help="Model directory to write for p2pser-predict, the distribution without torch.")
@encoder_option
@json_option
def export(model: Path, out: Path | None, light: Path | None, encoder: str | None, as_json: bool) -> None:
    """Write a model as ONNX.

    --onnx writes normalisation, network and probabilities, and for log-mel the features too. --light writes a model
    directory for p2pser predict, listen and serve without torch.

    Example: p2pser export runs/demo/peer-3/model --onnx emotions.onnx

    Example: p2pser export runs/demo/peer-3/model --light emotions/
    """
    from p2pser.models import directory
    from p2pser.models import export as writing

    if light is not None and out is None:
        card = writing.export_light(model, light)
        if as_json:
            print_json({"model": str(model), "light": str(light), "labels": list(card.labels)})
        note(f"written to {light}: p2pser predict, listen and serve read it, with and without torch")
        return
    if out is None or light is not None:
        raise click.UsageError("the form of the model is missing or given twice: give --onnx OUT.onnx for other "
                               "programs, or --light NEW_DIR for p2pser without torch")
    described = out.with_suffix(".json")
    if described.exists() and not out.exists():  # another program's file
        raise click.UsageError(f"{described}, which describes the input of {out}, exists already: give --onnx another "
                               "name")
    network, card = directory.load(model, encoder)
    document = writing.export(network, card, out)
    if card.warning:
        note(f"p2pser: the model was {card.warning}")
    if as_json:
        print_json({"model": str(model), "onnx": str(out), **document})
    else:
        echo(f"{out}: {document['input']} {document['input_shape']} to {', '.join(document['outputs'])}")
        echo(f"input: {document['input_is']}")
    note(f"written to {out} and {described}")
