"""``p2pser topology``: list, show, compare and plot topologies, and make the file of a run between sites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from p2pser.base.wording import counted
from p2pser.cli.common import json_option, renamed
from p2pser.cli.kinds import PICTURE, Source
from p2pser.cli.output import echo, note, print_json, print_table

F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 64
"""Largest number of peers whose neighbours are printed."""

_parameters = click.option("--parameters", type=click.IntRange(min=1), default=100_000, show_default=True,
                           help="Number of model parameters, which gives the bytes of an exchange.")


def _graph_options(command: F) -> F:
    return click.argument("file")(_size_options(command))


def _size_options(command: F) -> F:
    command = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                           help="Seed of random graphs whose file has none.")(command)
    return click.option("--peers", type=click.IntRange(min=1),
                        help="Number of peers.  [default: the topology's]")(command)


@click.group()
def topology() -> None:
    """List, show, compare and plot topologies; make the file of a run between sites.

    FILE is a topology file (YAML or GraphML) or the name of a shipped one, such as ring.

    Example: p2pser topology show torus --peers 16
    """


@topology.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the shipped topologies, and the kinds of graphs of installed packages.

    Example: p2pser topology list
    """
    from p2pser.graph import spec, summary

    rows = []
    for path in spec.shipped().values():
        facts = summary.summarise(spec.load(str(path)))
        comment = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
        rows.append({**facts, "about": comment, "file": str(path), "from": None})
    rows += _added_kinds()
    if as_json:
        print_json(rows)
        return
    print_table(("topology", "peers", "links", "degree", "slem", "what for"), [
        (row["name"], str(row["peers"]), str(row["edges"]), _degrees(row["degree"]), f"{row['slem']:.3f}",
         row["about"] + (f" ({row['from']})" if row["from"] else "")) for row in rows], left=(0, 5), folded=True)


def _added_kinds() -> list[dict[str, Any]]:
    """Return a row for each kind of graph and schedule of other packages, at the smallest possible size from 8 up."""
    from p2pser.base.errors import TopologyError
    from p2pser.base.registries import GRAPHS, SCHEDULES
    from p2pser.graph import spec, summary
    from p2pser.graph.kind import registered

    rows = []
    for registry in (GRAPHS, SCHEDULES):
        for name in dict(registry.items()):
            origin = registry.origin(name)
            if origin.builtin:
                continue
            try:
                kind = registered(registry, name)
                peers = next((size for size in (*range(8, 65), *range(1, 8)) if kind.fits(size)), 8)
                example = spec.parse({"graph": {"kind": name, "peers": peers}}, str(origin), name)
            except TopologyError as error:
                note(f"left out: {error}")
                continue
            rows.append({**summary.summarise(example), "about": kind.description, "file": None, "from": str(origin)})
    return rows


@topology.command(short_help="Show a topology in numbers.")
@_graph_options
@_parameters
@json_option
def show(file: str, peers: int | None, seed: int, parameters: int, as_json: bool) -> None:
    """Show a topology in numbers: size, degrees, diameter, and how fast gossip on it converges.

    Of schedules and one-way links also: period, contraction, consensus in finite time, messages and bytes.

    Example: p2pser topology show ring --peers 16 --json
    """
    from p2pser.base.signing import fingerprint
    from p2pser.graph import spec, summary

    loaded = spec.load(file, peers, seed)
    facts = summary.summarise(loaded, parameters)
    if as_json:
        print_json(facts)
        return
    changes = loaded.schedule is not None
    print_table(("", ""), [(label, str(value)) for label, value in (
        ("peers", facts["peers"]),
        ("links that any exchange uses" if changes else "links", facts["edges"]),
        ("messages sent (min, mean, max)" if changes else "degree (min, mean, max)",
         f"{facts['degree']['min']}, {facts['degree']['mean']:.3g}, {facts['degree']['max']}"),
        ("diameter", f"{facts['diameter']} links"),
        ("weights", facts["weights"]),
        *(_schedule_lines(facts, parameters) if changes else [("slem of W", f"{facts['slem']:.6f}")]),
        ("spectral gap", f"{facts['spectral_gap']:.6f}"),
        ("exchanges to 1e-6", _or_never(facts["rounds_to_1e-6"])),
        ("a curious peer can solve for", _exposure(facts)),
        ("own keys", "yes" if any(entry.key for entry in loaded.peers.values()) else "no"),
        ("epoch", loaded.epoch),
        *([("signed by", fingerprint(loaded.signed_by))] if loaded.signed_by else []),
        *([("retired", ", ".join(map(str, loaded.retired)))] if loaded.retired else []),
        ("digest", loaded.digest()),
    )], title=loaded.name, left=(0, 1), folded=True)
    names = {i: label for i, label in loaded.graph.nodes(data="label") if label is not None}
    print_table(("peer", "neighbours", *(["name in the file"] if names else [])), [
        (str(i), ", ".join(map(str, loaded.neighbours(i))), *([names.get(i, "")] if names else []))
        for i in range(min(loaded.size, SHOWN))], left=(1, 2), folded=True)
    if loaded.size > SHOWN:
        note(f"neighbours of the first {SHOWN} of {loaded.size} peers")


def _schedule_lines(facts: dict[str, Any], parameters: int) -> list[tuple[str, str]]:
    period, factor = facts["period"], facts["contraction"]
    what = {
        "exact": f"{factor:.6g} over one period",
        "asymptotic": f"{factor:.6g} over one period, in the end (the second eigenvalue)",
        "estimated": f"{factor:.6g} an exchange, mean-square, estimated over seeded draws",
    }[facts["contraction_is"]]
    finite = facts["finite_time_rounds"]
    return [
        ("stochastic", {"doubly": "doubly", "row": "rows only: the mean moves a little",
                        "column": "columns only: for push-sum"}[facts["stochastic"]]),
        ("period", "never repeats" if period is None else counted(period, "exchange")),
        ("contraction", what),
        ("consensus in finite time", "no" if finite is None else f"after {counted(finite, 'exchange')}"),
        ("messages per exchange", f"{facts['messages_per_exchange']:g}"),
        ("bytes per exchange", f"{facts['bytes_per_exchange']:,.0f} (float32, {parameters:,} parameters)"),
        ("contraction per exchange", f"{facts['slem']:.6f}"),
    ]


def _exposure(facts: dict[str, Any]) -> str:
    seen = facts["exposure"]
    return f"{seen['peers']} of {facts['peers'] - 1} others" + \
        (f", after {counted(seen['exchanges'], 'exchange')} of gossip" if seen["peers"] else "")


def _or_never(rounds: int | None) -> str:
    return "never" if rounds is None else str(rounds)


@topology.command("compare", short_help="Compare topologies side by side.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_size_options
@_parameters
@click.option("--plot", "out", type=PICTURE, metavar="PNG",
              help="Draw the topologies side by side (.png, .svg or .pdf).")
@renamed("--out", "--plot")
@json_option
def compare_command(files: tuple[str, ...], peers: int | None, seed: int, parameters: int, out: Path | None,
                    as_json: bool) -> None:
    """Compare topologies: load, and how fast gossip on them converges, predicted and measured from a random start.

    Example: p2pser topology compare ring exponential one-peer-exponential base-2 --peers 16 --plot compared.png
    """
    from p2pser.graph import drawing, spec, summary, theory

    loaded = [spec.load(file, peers, seed) for file in files]
    rows = [summary.compare(item, parameters, seed) for item in loaded]
    if out is not None:
        drawing.draw_side_by_side(loaded, out)
    if as_json:
        print_json({"topologies": rows, "parameters": parameters, "seed": seed, "out": str(out) if out else None})
        return
    print_table(("topology", "peers", "degree", "links", "sent", "rate", "exact", "theory", "measured"), [
        (row["name"], str(row["peers"]), _degrees(row["degree"]), str(row["edges"]),
         f"{row['messages_per_exchange']:g}", f"{'~' * (row['contraction_is'] == 'estimated')}{row['slem']:.3f}",
         str(row["finite_time_rounds"] or "–"), _or_never(row["rounds_to_1e-6"]),
         f"> {theory.PATIENCE}" if row["rounds_measured"] is None else str(row["rounds_measured"]))
        for row in rows], folded=True, dense=True)
    note("sent: messages per exchange; rate: slem, or contraction per exchange (~: estimated); exact: exchanges "
         "to exact consensus; theory, measured: exchanges to 1e-6 of the first distance")
    if out is not None:
        note(f"written to {out}")


@topology.command()
@_graph_options
@click.option("--out", type=PICTURE, metavar="PNG",
              help="File to write (.png, .svg or .pdf).  [default: NAME.png]")
@json_option
def plot(file: str, peers: int | None, seed: int, out: Path | None, as_json: bool) -> None:
    """Draw a topology.

    Example: p2pser topology plot hypercube --out hypercube.png
    """
    from p2pser.graph import drawing, spec

    loaded = spec.load(file, peers, seed)
    out = out or Path(f"{Path(loaded.name).name or 'topology'}.png")
    drawing.draw(loaded, out)
    if as_json:
        print_json({"name": loaded.name, "peers": loaded.size, "out": str(out)})
    else:
        echo(str(out))


@topology.command(short_help="Make the topology file from the sites' replies.")
@click.argument("folder", type=Source())
@click.argument("replies", nargs=-1, required=True, type=Source(), metavar="REPLY...")
@click.option("--key", "key_file", type=Source(dir_okay=False),
              help="Your key file, whose key signs.  [default: FOLDER/author.key]")
@json_option
def assemble(folder: Path, replies: tuple[Path, ...], key_file: Path | None, as_json: bool) -> None:
    """Make FOLDER/topology.yaml, the topology file of all sites, from their replies.

    FOLDER is that of p2pser invite. Compare each site's printed fingerprint with the site by telephone before you send
    the file. An earlier topology file there is replaced.

    Example: p2pser topology assemble pilot/ reply-0.yaml reply-1.yaml reply-2.yaml
    """
    from p2pser.base.errors import ConfigError
    from p2pser.base.signing import fingerprint
    from p2pser.network.keys import read_secret_key
    from p2pser.peer import invitation

    sent = sorted(folder.glob("invitation-*.yaml"))
    if not sent:
        raise ConfigError(f"{folder} holds no invitations: give the folder that p2pser invite made")
    invited = sorted((invitation.read_invitation(file) for file in sent), key=lambda site: site.peer)
    pair = read_secret_key(key_file or folder / invitation.KEY)
    answers = [(str(file), invitation.read_reply(file)) for file in replies]
    document = invitation.assembled(invited, answers, pair)
    out = folder / invitation.TOPOLOGY
    invitation.write(out, document, f"p2pser: the topology of the run {document['name']}, equal at all sites.\n"
                     "Next, at each site: p2pser peer --id ID --run RUN --topology FILE --check, then without --check",
                     overwrite=True)
    by_peer = {reply.peer: fingerprint(reply.by) for _, reply in answers}
    author = fingerprint(document["signed"]["by"])
    if as_json:
        print_json({"out": str(out), "fingerprint": author, "sites": [
            {"peer": site.peer, "site": site.site, "fingerprint": by_peer[site.peer], **document["peers"][site.peer]}
            for site in invited]})
        return
    for site in invited:
        echo(f"peer {site.peer} {site.site}: {document['peers'][site.peer]['address']}, {by_peer[site.peer]}")
    echo(str(out))
    note(f"Next: compare each site's fingerprint by telephone, and send {out} to all; each checks it with p2pser peer "
         f"--check. It is signed by {author}.")


@topology.command(short_help="Sign a topology file that you have changed.")
@click.argument("file", type=Source(dir_okay=False))
@click.option("--key", "key_file", required=True, type=Source(dir_okay=False),
              help="Your key file, whose key signs (p2pser invite makes author.key).")
@json_option
def sign(file: Path, key_file: Path, as_json: bool) -> None:
    """Sign a topology file that you have changed, in place; an earlier signature is replaced.

    Example: p2pser topology sign pilot/topology.yaml --key pilot/author.key
    """
    from p2pser.base.documents import read_outside
    from p2pser.base.errors import TopologyError
    from p2pser.base.signing import SIGNED, fingerprint, signed
    from p2pser.graph import spec
    from p2pser.network.keys import raw_key, read_secret_key
    from p2pser.peer.invitation import write

    pair = read_secret_key(key_file)
    document = read_outside(file, "the topology file", TopologyError)
    if isinstance(document, dict):
        document.pop(SIGNED, None)
    loaded = spec.parse(document, str(file), file.stem, file.parent)
    try:
        document = signed(document, raw_key(pair.secret))
    except ValueError as error:
        raise TopologyError(f"{file}: {error}") from None
    write(file, document, f"p2pser: the topology {loaded.name}, equal at all sites.", overwrite=True)
    author = fingerprint(document[SIGNED]["by"])
    if as_json:
        print_json({"out": str(file), "fingerprint": author})
    else:
        echo(f"{file}: signed by {author}")


def _degrees(degree: dict[str, Any]) -> str:
    low, high = degree["min"], degree["max"]
    return str(low) if low == high else f"{low}–{high}"
