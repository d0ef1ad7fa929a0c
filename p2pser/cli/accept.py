"""``p2pser accept``: a site's answer to an invitation."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from p2pser.cli.common import SEVERAL, json_option
from p2pser.cli.output import echo, note, print_findings, print_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="PATH|none",
              help="Folder or manifest of this site's recordings; none: this site only relays.")
@click.option("--address", metavar="tcp://HOST:PORT|none",
              help="Address at which the neighbours dial this site; none: it cannot be dialled, and dials them.  "
                   "[default: this machine's address, port network.base_port + ID]")
@click.option("--listen", metavar="tcp://HOST:PORT",
              help="Address at which this site listens.  [default: the port of --address, on all interfaces]")
@click.option("--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE",
              help=f"Override one setting, of this site only, such as corpus.map=irate=anger {SEVERAL}.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="Folder of this site's files and results.  [default: RUN-peer-ID]")
@json_option
def accept(file: Path, data: Path, address: str | None, listen: str | None, settings: tuple[str, ...], out: Path | None,
           as_json: bool) -> None:
    """Accept an invitation: make this site's key, check its recordings, and write the reply to send back.

    Writes OUT/peer.key (which stays here), OUT/run.yaml (the run as this site runs it) and OUT/reply.yaml. Nothing of
    the recordings is in the reply. To change the address or the recordings, repeat the command: the key stays.

    Example: p2pser accept invitation-1.yaml --data my-clips/ --address tcp://ser.example.org:5700
    """
    from datetime import datetime, timezone

    from p2pser.base.paths import expanded
    from p2pser.base.signing import fingerprint
    from p2pser.peer import acceptance, invitation

    invited = invitation.read_invitation(file, datetime.now(timezone.utc).date())
    folder = expanded(out or Path(f"{invited.run}-peer-{invited.peer}")).absolute()
    note(f"{invited.site} is invited as peer {invited.peer} to the run {invited.run} of {len(invited.sites)} sites: "
         f"{', '.join(invited.sites)}")
    note(f"signed by {fingerprint(invited.by)}: compare this fingerprint with its author by telephone")
    site = acceptance.site_of(invited, folder, data, settings)
    for sentence in site.sentences:
        note(sentence)
    checked = [finding.document() for finding in site.findings]
    if not as_json:
        print_findings(checked)
    fits = all(finding.fits for finding in site.findings)
    reply = acceptance.accept(invited, site, address, listen) if fits else None
    own = "" if reply is None else fingerprint(reply["signed"]["by"])
    if as_json:
        print_json({"run": invited.run, "peer": invited.peer, "site": invited.site, "author": fingerprint(invited.by),
                    "fits": fits, "address": reply and reply["address"], "fingerprint": own, "out": str(folder),
                    "site_checks": checked})
    if not fits:
        note("Next: mend what is marked MEND, and give this command again; nothing was written.")
        raise click.exceptions.Exit(2)
    if not as_json and reply is not None:
        echo(f"the neighbours dial this site at: {reply['address']} (--address gives another)")
        echo(f"this site's fingerprint: {own}")
    where = folder / invitation.REPLY
    note(f"Next: send {where} to the author, and tell the fingerprint by telephone; {folder / acceptance.SITE_KEY} "
         "stays here. With the topology file that comes back:\n"
         f"  p2pser peer --id {invited.peer} --run {quote(str(folder / invitation.RUN))} --topology "
         f"{invitation.TOPOLOGY} --check")
