"""``p2pser push``: write a model to a Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path

import click

from p2pser.base.documents import read_text
from p2pser.base.errors import ConfigError
from p2pser.cli.common import encoder_option, json_option
from p2pser.cli.kinds import Source
from p2pser.cli.output import echo, note, print_json


@click.command()
@click.argument("model", metavar="MODEL_DIR", type=Source())
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--licence", metavar="ID",
              help="The model's licence as the hub names it, such as apache-2.0.")
@click.option("--results", type=Source(dir_okay=False), metavar="JSON",
              help="Output of p2pser evaluate MODEL_DIR --json, for the hub's card.")
@click.option("--private", is_flag=True, help="Make a new repository private: visible to its owner only.")
@click.option("--revision", metavar="BRANCH", help="Revision to write: a branch.  [default: main]")
@click.option("--keep-readme", is_flag=True, help="Leave the repository's README.md as it is.")
@encoder_option
@json_option
def push(model: Path, repo: str, licence: str | None, results: Path | None, private: bool, revision: str | None,
         keep_readme: bool, encoder: str | None, as_json: bool) -> None:
    """Write a model to a Hugging Face hub, with a card in its format.

    A missing repository is created. Log in first: hf auth login, or the variable HF_TOKEN.

    Example: p2pser push runs/demo/peer-3/model ada/emotions --licence apache-2.0
    """
    from p2pser.inference import hub

    report = None
    if results is not None:
        try:
            report = json.loads(read_text(results, "the results", ConfigError))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"cannot read the results {results}: {error}; give the output of p2pser evaluate --json"
                              ) from None
    stored = hub.push(model, repo, licence=licence, private=private, revision=revision, results=report,
                      keep_readme=keep_readme, encoder=encoder)
    if stored.card.warning:
        note(f"p2pser: the model was {stored.card.warning}")
    if stored.card.statistics is not None:
        note("p2pser: its card holds the feature statistics of "
             f"{stored.card.training.get('statistics_of', 'the training speakers')}")
    if as_json:
        print_json({"repo": stored.repo, "commit": stored.commit})
    else:
        echo(f"{stored.repo} {stored.commit}")
    note(f"next: p2pser pull {stored.repo} NEW_DIR --revision {stored.commit}")
