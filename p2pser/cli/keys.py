"""``p2pser keys``: make the keys by which peers authenticate each other."""

from __future__ import annotations

from pathlib import Path

import click

from p2pser.cli.common import json_option
from p2pser.cli.kinds import Target
from p2pser.cli.output import echo, note, print_json


@click.command()
@click.option("--out", type=Target(folder=True), default=Path("keys"),
              show_default=True, help="Folder of the key files.")
@click.option("--id", "peer", type=click.IntRange(min=0), help="Id of the peer whose key pair is made.")
@click.option("--peers", type=click.IntRange(min=1, max=100_000),
              help="Number of peers, from 0 on, whose key pairs are made.")
@json_option
def keys(out: Path, peer: int | None, peers: int | None, as_json: bool) -> None:
    """Make the keys by which peers authenticate each other.

    Writes OUT/peer-ID.key, which only you can read; that peer uses it by --set network.secret_key=FILE. Prints the
    public key in the form of the topology file, under peers. Each operator makes a key pair, and sends the others only
    the printed line.

    Example: p2pser keys --out keys --id 3
    """
    if (peer is None) == (peers is None):
        raise click.UsageError("--id makes the keys of one peer, and --peers those of several: give one of them")

    from p2pser.base.errors import ConfigError
    from p2pser.network.keys import make, write_key_pair

    ids = [peer] if peer is not None else list(range(peers or 0))
    files = {i: out / f"peer-{i}.key" for i in ids}
    # All or none: a mixture of new and old keys is hard to notice.
    if taken := [str(path) for path in files.values() if path.exists()]:
        raise ConfigError(f"{taken[0]} exists: to replace its key, remove it first")
    entries = []
    for i, path in files.items():
        pair = make()
        write_key_pair(path, pair)
        entries.append({"peer": i, "key": pair.public, "file": str(path)})
    if as_json:
        print_json({"keys": entries})
        return
    for entry in entries:
        echo(f'key: "{entry["key"]}"' if peer is not None else f'{entry["peer"]}: {{key: "{entry["key"]}"}}')
    note(f"secret keys, which stay with their peers: {', '.join(map(str, files.values()))}")
