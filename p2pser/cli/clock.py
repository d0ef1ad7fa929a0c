"""Options for the simulated time of a run: lines, devices, slow peers, and peers that leave and return."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pser.base.wording import listed
from p2pser.cli.common import SEVERAL
from p2pser.cli.kinds import Number, Source

if TYPE_CHECKING:
    from p2pser.simulation.churn import Churn
    from p2pser.simulation.clock import Clock

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

LINES_HELP = "lan, wan, dsl, 4g or phone"


def for_peers(text: str, read: Callable[[str], T], example: str) -> tuple[T | None, dict[int, T]]:
    """Return the values of ``VALUE,PEER:VALUE,FIRST-LAST:VALUE``: that of all other peers, or None, and those by peer.

    Raises click.BadParameter for another form, and where ``read`` raises ValueError for a value.
    """
    default: T | None = None
    of: dict[int, T] = {}
    for part in listed(text):
        match = re.fullmatch(r"(?:(\d{1,7})(?:-(\d{1,7}))?:)?([^:]+)", part)
        if match is None or (match[1] is None and default is not None):
            raise click.BadParameter(f"{text!r}: write {example}")
        try:
            value = read(match[3])
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: {error}") from None
        if match[1] is None:
            default = value
        else:
            of |= dict.fromkeys(range(int(match[1]), int(match[2] or match[1]) + 1), value)
    return default, of


def named(of: Mapping[str, T], what: str) -> Callable[[str], T]:
    """Return a function that reads a name as the value of a table; it raises ValueError for an unknown name."""
    def read(name: str) -> T:
        from p2pser.base.errors import nearest

        if name not in of:
            raise ValueError(f"there is no {what} {name!r}{nearest(name, of)}")
        return of[name]

    return read


def clock_options(command: F) -> F:
    """Add the options of simulated time; the command gets ``clock(seed, peers)``, which makes the Clock, and ``timed``,
    whether one of the options was given.
    """
    @functools.wraps(command)
    def call(*args: Any, network: str | None, links: Path | None, devices: str | None, step_seconds: float,
             slow: dict[int, float], **others: Any) -> Any:
        def make(seed: int, peers: int) -> Clock:
            return clock_of(network, links, devices, step_seconds, slow, seed, peers)

        return command(*args, clock=make, timed=bool(network or links or slow or devices), **others)

    for option in reversed((
        click.option("--network", metavar="LINE[,PEER:LINE...]",
                     help=f"Lines of the peers: {LINES_HELP}; of single peers as in dsl,0:lan,3-5:4g.  "
                          "[default: lan]"),
        click.option("--links", type=Source(dir_okay=False), metavar="CSV",
                     help="Known latency and rate of single links, in the place of the peers' lines: a file with the "
                          "columns from,to,latency_ms,mbit."),
        click.option("--devices", metavar="DEVICE[,PEER:DEVICE...]",
                     help="Devices of the peers: server, desktop, laptop, phone or board; of single peers as in "
                          "laptop,0:server.  [default: desktop]"),
        click.option("--step-seconds", type=Number(min=0, min_open=True), default=0.05, show_default=True,
                     help="Simulated seconds of a local step on a desktop."),
        click.option("--slow", multiple=True, metavar="PEER:FACTOR", callback=_slow,
                     help=f"Make the local steps of a peer slower by this factor {SEVERAL}."),
    )):
        call = option(call)
    return call  # type: ignore[return-value]


def clock_of(network: str | None, ways: Path | None, devices: str | None, step_s: float, slow: Mapping[int, float],
             seed: int, peers: int) -> Clock:
    """Return the clock of these options. Raises ConfigError where an option names a peer that does not exist."""
    from p2pser.base.errors import ConfigError
    from p2pser.cli.clock_files import read_ways
    from p2pser.simulation.clock import DEVICES, Clock
    from p2pser.simulation.links import LINES, Links

    line, lines = for_peers(network or "lan", named(LINES, "simulated network"), "dsl, or dsl,0:lan,3-5:4g")
    ordinary, factors = for_peers(devices or "desktop", named(DEVICES, "device"), "laptop, or laptop,0:server")
    beyond = [peer for peer in (*lines, *factors, *slow) if peer >= peers]
    if beyond:
        raise ConfigError(f"--network, --devices or --slow name peer {beyond[0]}, which does not exist: name peers "
                          f"from 0 to {peers - 1}")
    ordinary = ordinary or 1.0
    relative = {peer: factor / ordinary for peer, factor in factors.items()}
    return Clock(step_s * ordinary,
                 relative | {peer: factor * relative.get(peer, 1.0) for peer, factor in slow.items()},
                 links=Links(line or LINES["lan"], lines, read_ways(ways, peers) if ways else {}), seed=seed)


def churn_of(text: str, seed: int, peers: int) -> Churn:
    """Return the absences that ``--churn`` describes. Raises ConfigError for a file of another form."""
    from p2pser.cli.clock_files import read_trace
    from p2pser.simulation.churn import Churn

    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)(?::(\d{1,9}(?:\.\d+)?))?", text)
    if match is not None and float(match[1]) > 0 and float(match[2] or 1) > 0:
        return Churn(per_hour=float(match[1]), away_s=float(match[2] or 300), seed=seed)
    if not Path(text).is_file():
        raise click.BadParameter(f"{text!r} is neither a file nor a rate: write a CSV file, or RATE[:SECONDS] such as "
                                 "0.5:120", param_hint="--churn")
    return Churn(read_trace(Path(text), peers), seed=seed)


def _slow(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[int, float]:
    slow = {}
    for value in values:
        match = re.fullmatch(r"(\d{1,9}):(\d+(?:\.\d+)?)", value)
        if match is None or not 0 < float(match[2]) <= 1e6:
            raise click.BadParameter(f"{value!r}: write PEER:FACTOR, for example 3:5")
        slow[int(match[1])] = float(match[2])
    return slow
