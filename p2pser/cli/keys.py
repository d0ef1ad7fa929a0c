"""``p2pser keys``: make the keys by which peers authenticate each other."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.cli.common import json_option, note, print_json
from p2pser.cli.kinds import Target


@click.command()
@click.option("--out", type=Target(folder=True), default=Path("keys"),
              show_default=True, help="Folder for the key files.")
@click.option("--id", "peer", type=click.IntRange(min=0), default=None,
              help="Make the key pair of this peer.")
@click.option("--peers", type=click.IntRange(min=1, max=100_000), default=None,
              help="Make the key pairs of peers 0 to N-1.")
@json_option
def keys(out: Path, peer: int | None, peers: int | None, as_json: bool) -> None:
    """Make the keys by which peers authenticate each other.

    Writes OUT/peer-ID.key, which only you can read; give it to that peer as --set network.secret_key=FILE. Prints the
    public key as the topology file needs it under peers. Each operator makes their own key pair and sends the others
    only the printed line.

    Example: p2pser keys --out keys --id 3
    """
    if (peer is None) == (peers is None):
        raise click.UsageError("give either --id, for one peer, or --peers, for several")

    from p2pser.base.errors import ConfigError
    from p2pser.network.keys import make, write_key_pair

    ids = [peer] if peer is not None else list(range(peers or 0))
    files = {i: out / f"peer-{i}.key" for i in ids}
    # All or none: a mixture of new and old keys would be hard to notice.
    if taken := [str(path) for path in files.values() if path.exists()]:
        raise ConfigError(f"{taken[0]} exists; remove it first if its key is to be replaced")
    made = []
    for i, path in files.items():
        pair = make()
        write_key_pair(path, pair)
        made.append({"peer": i, "key": pair.public, "file": str(path)})
    if as_json:
        print_json({"keys": made})
        return
    for entry in made:
        click.echo(f'key: "{entry["key"]}"' if peer is not None else f'{entry["peer"]}: {{key: "{entry["key"]}"}}')
    note(f"Secret keys: {', '.join(str(path) for path in files.values())}. They stay with their peers.")
