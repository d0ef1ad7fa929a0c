"""``p2pser invite``: a run file, and for each site an invitation to send."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote

import click

from p2pser.base.wording import listed
from p2pser.cli.common import RunOptions, json_option, some_run_options
from p2pser.cli.kinds import Source
from p2pser.cli.output import echo, note, print_json


@click.command()
@click.option("--sites", required=True, metavar="NAME,...",
              help="Names of the 2 to 100 sites; the first is peer 0.")
@some_run_options("topology", "run", "set", "rounds", "name")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True,
              help="Days until the invitations expire.")
@click.option("--key", "key_file", type=Source(dir_okay=False),
              help="Your key file, whose key signs.  [default: a new file OUT/author.key]")
@click.option("--out", "folder", type=click.Path(path_type=Path, file_okay=False),
              help="Folder to make; it must be new or empty.  [default: the name of the run]")
@json_option
def invite(sites: str, options: RunOptions, days: int, key_file: Path | None, folder: Path | None,
           as_json: bool) -> None:
    """Make a run file and an invitation for each site.

    Writes OUT/run.yaml, OUT/author.key (which stays with you), and OUT/invitation-0.yaml and so on, signed with that
    key. Send each site its invitation, and tell it the printed fingerprint by telephone. Each site replies with p2pser
    accept; p2pser topology assemble makes the topology file from the replies.

    Example: p2pser invite --sites berlin,lyon,porto --rounds 40 --name pilot
    """
    from datetime import datetime, timezone

    from p2pser.base.atomic import missing_or_empty, put
    from p2pser.base.errors import ConfigError
    from p2pser.base.signing import fingerprint
    from p2pser.network.keys import make, read_secret_key, write_key_pair
    from p2pser.peer import invitation

    names = listed(sites)
    config = options.config()
    out = folder or Path(config.name)
    if not invitation.LEAST <= len(names) <= invitation.MOST:
        raise ConfigError(f"--sites names {len(names)} sites: give {invitation.LEAST} to {invitation.MOST}, as a,b,c")
    graph = replace(options, peers=len(names)).graph(config)
    pair = make() if key_file is None else read_secret_key(key_file)
    documents = invitation.invitations(config, graph, names, pair, today=datetime.now(timezone.utc).date(), days=days)
    try:
        if not missing_or_empty(out):
            raise ConfigError(f"{out} is not an empty folder: choose another --out")
        put(out / invitation.RUN, invitation.run_file(config).encode())
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}; choose another --out") from None
    if key_file is None:
        write_key_pair(out / invitation.KEY, pair)
    files = [out / f"invitation-{peer}.yaml" for peer in range(len(names))]
    for site, file, document in zip(names, files, documents):
        invitation.write(file, document, f"p2pser: invitation of {site} to the run {config.name}.\nNext, at {site}: "
                         f"p2pser accept {file.name} --data FOLDER --address tcp://HOST:PORT")
    author = fingerprint(documents[0]["signed"]["by"])
    if as_json:
        print_json({"run": config.name, "fingerprint": author, "expires": documents[0]["expires"], "out": str(out),
                    "invitations": {site: str(file) for site, file in zip(names, files)}})
        return
    echo(f"run {config.name}, {len(names)} sites; your fingerprint: {author}")
    for site, file in zip(names, files):
        echo(f"  {site}: {file}")
    note(f"Next: send each site its file, and tell it the fingerprint by telephone; by {documents[0]['expires']} each "
         f"runs p2pser accept. With all replies: p2pser topology assemble {quote(str(out))} REPLY...")
