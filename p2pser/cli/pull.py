"""``p2pser pull``: fetch a model from a Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from p2pser.cli.common import encoder_option, json_option
from p2pser.cli.kinds import Target
from p2pser.cli.output import echo, note, print_json
from p2pser.corpora.manifest import ARRAYS


@click.command()
@click.argument("repo", metavar="OWNER/NAME")
@click.argument("out", metavar="NEW_DIR", type=Target(folder=True))
@click.option("--revision", metavar="COMMIT|TAG|BRANCH",
              help="Revision to fetch; a commit always names the same model.  [default: main]")
@encoder_option
@json_option
def pull(repo: str, out: Path, revision: str | None, encoder: str | None, as_json: bool) -> None:
    """Fetch a model from a Hugging Face hub into a new directory, and check it.

    Example: p2pser pull ada/emotions model/
    """
    from p2pser.inference import hub

    stored = hub.pull(repo, out, revision=revision, encoder=encoder)
    if stored.card.warning:
        note(f"p2pser: the model was {stored.card.warning}")
    if as_json:
        print_json({"repo": stored.repo, "commit": stored.commit, "model": str(out),
                    "labels": list(stored.card.labels)})
    else:
        echo(f"{stored.repo} {stored.commit}")
    own = stored.card.corpus.name == ARRAYS  # which no recording gives
    note(f"written to {out}; next: " + (f"p2pser.load({str(out)!r}).answers(features) in Python" if own else
                                        f"p2pser predict {quote(str(out))} RECORDING.wav"))
