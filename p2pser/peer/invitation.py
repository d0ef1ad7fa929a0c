"""Invitations to a run, the sites' replies, and the topology file that is made of them.

Each is a small YAML file that its author signs (base/signing.py) and may send by any means: it holds no secret. An
invitation names the settings that all sites share, the graph and the sites; a site's reply gives its address and its
public key. A file from another site is validated completely before it is used.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, Field

from p2pser.base.atomic import new_file
from p2pser.base.documents import kind_of_file, read_outside
from p2pser.base.errors import ConfigError, P2PSERError, in_one_line
from p2pser.base.registries import GRAPHS, SCHEDULES
from p2pser.base.signing import SIGNED, author, fingerprint, signed
from p2pser.config import Config, configured
from p2pser.config.problems import settings_of, validated
from p2pser.config.section import Section
from p2pser.features import clip_features, encoders
from p2pser.graph import spec
from p2pser.graph.file_format import NOWHERE, EntryForm
from p2pser.graph.graphs import is_random
from p2pser.graph.schedule import Static
from p2pser.graph.spec import Topology
from p2pser.network.keys import KeyPair, raw_key

F = TypeVar("F", bound="_Form")

LEAST, MOST = 2, 100
"""Fewest and most sites of a run."""
DAYS = 30
"""Days for which an invitation can be accepted."""
COMMON = ("privacy.mode", "network.round_timeout", "network.ping_after", "network.suspect_after", "network.dead_after",
          "network.serve_after")
"""Settings that an invitation may hold in addition to those that all peers must have equal."""
ENCODERS = (encoders.SPEECH.setting, encoders.TEXT.setting)
"""Settings of each site that an invitation holds as identities, by which a site finds the encoders on its machine."""
RUN, KEY, REPLY, TOPOLOGY = "run.yaml", "author.key", "reply.yaml", "topology.yaml"


def _site(text: str) -> str:
    if not re.fullmatch(r"\w([\w .'()&-]{0,38}\w)?", text):
        raise ValueError("a site's name has 1 to 40 letters, digits, spaces, dots and dashes, and begins and ends with "
                         "a letter or digit")
    return text


def _sites(names: tuple[str, ...]) -> tuple[str, ...]:
    if not LEAST <= len(names) <= MOST:
        raise ValueError(f"there are {len(names)}: an invitation is for {LEAST} to {MOST} sites")
    if len({name.casefold() for name in map(_site, names)}) != len(names):
        raise ValueError("two sites have the same name: each needs its own")
    return names


def _day(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise ValueError("write a day as 2027-01-31")
    date.fromisoformat(text)
    return text


def _code(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise ValueError("must be 32 hexadecimal digits, as p2pser invite writes them")
    return text


class _Form(Section):
    """The entries that all these files have. ``code`` ties a reply to its invitation."""

    p2pser: str = Field(description="what the file is")
    version: Literal[1] = Field(description="version of this format")
    run: str = Field(description="name of the run")
    peer: int = Field(ge=0, lt=MOST, description="id of the invited site")
    code: Annotated[str, AfterValidator(_code)] = Field(description="random number of this invitation")
    signed: dict[str, str] = Field(description="public key and signature of the author of the file")

    @property
    def by(self) -> str:
        """The public key of the file's author."""
        return self.signed["by"]

    def check(self) -> None:
        """Raise ValueError or P2PSERError where the parts do not fit together."""


class Invitation(_Form):
    """An invitation for one site."""

    p2pser: Literal["invitation"]
    sites: Annotated[tuple[str, ...], AfterValidator(_sites)] = Field(description="names of the sites, by id")
    expires: Annotated[str, AfterValidator(_day)] = Field(description="last day on which it can be accepted")
    settings: dict[str, Any] = Field(description="settings of the run, by name")
    topology: dict[str, Any] = Field(description="graph, weights and hub")

    @property
    def site(self) -> str:
        """The name of the invited site."""
        return self.sites[self.peer]

    def check(self) -> None:
        if self.peer >= len(self.sites):
            raise ValueError(f"it is for peer {self.peer}, and the {len(self.sites)} sites are 0 to "
                             f"{len(self.sites) - 1}")
        self.config()
        self.graph()

    def config(self) -> Config:
        """Return the settings of the run. Raises ConfigError where one is wrong, or is each site's own."""
        for name in self.settings:
            if name not in _sent():
                raise ConfigError(f"{name} is not a setting of a whole run: each site sets its own")
        for name in ENCODERS:
            encoder = self.settings.get(name)
            if encoder is not None and encoders.IDENTIFIED.fullmatch(str(encoder)) is None:
                raise ConfigError(f"{name} is {encoder!r} and must be an identity (NAME@IDENTITY): make the invitation "
                                  "with p2pser invite")
        return configured({**self.settings, "name": self.run})

    def graph(self) -> Topology:
        """Return the topology, without addresses and keys. Raises P2PSERError where it does not fit the sites."""
        unknown = set(self.topology) - {"graph", "weights", "hub"}
        graph = self.topology.get("graph")
        if unknown or not isinstance(graph, Mapping):
            raise ConfigError("topology must hold graph, weights and hub only")
        # A file of another site must not name files of this machine, or generators that accept any size.
        if "graphml" in graph or ("kind" in graph and not _is_known(graph)):
            raise ConfigError("its graph must be a list of edges, or of a kind that p2pser has itself")
        if graph.get("peers") != len(self.sites):
            raise ConfigError(f"its graph must have the {len(self.sites)} peers that are the sites")
        return spec.parse(self.topology, "its topology", self.run)


class Reply(_Form):
    """A site's answer to its invitation."""

    p2pser: Literal["reply"]
    address: str = Field(description="address at which neighbours dial the site, tcp://HOST:PORT, or none")
    listen: str | None = Field(None, description="address at which the site listens, if that is another one")
    key: str = Field(description="the site's public CURVE key")

    def entry(self) -> dict[str, str]:
        """Return the site's entry in the topology file. Raises ValueError where it is invalid."""
        entry = {name: value for name in ("address", "listen", "key") if (value := getattr(self, name)) is not None}
        validated(EntryForm, entry)
        if self.address == NOWHERE and self.listen is not None:
            raise ValueError(f"with the address {NOWHERE} no neighbour dials the site, so it does not listen: leave "
                             "the address to listen on out")
        return entry

    def check(self) -> None:
        self.entry()


def _sent() -> set[str]:
    """Return the names of the settings that an invitation may hold."""
    return {*Config().shared(), *COMMON, *ENCODERS}


def _is_known(graph: Mapping[str, Any]) -> bool:
    """Whether a graph is of a kind that every installation of p2pser makes equally: no file, no networkx generator."""
    kind = graph.get("kind")
    return isinstance(kind, str) and "files" not in graph and (
        kind in SCHEDULES or (kind in GRAPHS and not is_random(kind)))


# ---- the author ----------------------------------------------------------------------------------------------

def invitations(config: Config, topology: Topology, sites: Sequence[str], keys: KeyPair, *, today: date,
                days: int = DAYS) -> list[dict[str, Any]]:
    """Return an invitation for each site, signed; site i is peer i.

    config, topology : the run's. keys : the author's. today : the invitations can be accepted for ``days`` from then.

    Raises ConfigError where a setting is each site's own, the names do not fit, or the graph cannot be sent.
    """
    document = {"p2pser": "invitation", "version": 1, "run": config.name, "sites": list(sites),
                "expires": (today + timedelta(days=days)).isoformat(), "settings": _settings(config),
                "topology": _graph(topology)}
    made = [signed({**document, "peer": peer, "code": secrets.token_hex(16)}, raw_key(keys.secret))
            for peer in range(len(sites))]
    for entry in made:
        _checked(Invitation, entry, "the invitation")
    return made


def _settings(config: Config) -> dict[str, Any]:
    """Return the settings that the author has set, by name."""
    features = clip_features.portable(config.features)  # the encoder's folder on the author's machine is not sent
    tree = config.model_copy(update={"features": features}).model_dump(mode="json", exclude_unset=True)
    flat = {}
    for name in dict(settings_of(Config)):
        value: Any = tree
        for part in name.split("."):
            value = value.get(part, SIGNED) if isinstance(value, dict) else SIGNED
        if value is not SIGNED and name != "name":
            flat[name] = value
    return flat


def _graph(topology: Topology) -> dict[str, Any]:
    """Return graph, weights and hub as a topology file has them, without references to files of this machine."""
    given = topology.document
    if topology.retired:
        raise ConfigError(f"the topology {topology.name!r} retires peers, and an invitation is for a new run: leave "
                          "them out")
    graph = dict(given["graph"])
    if not isinstance(topology.schedule, Static | None) and not _is_known(graph):
        raise ConfigError(f"the topology {topology.name!r} reads other files, which an invitation cannot: give its "
                          "edges")
    if _is_known(graph):
        graph["peers"] = topology.size
    elif topology.directed:
        links = sorted([j, i] for i in range(topology.size) for j in topology.sources(i, 0))
        graph = {"peers": topology.size, "edges": links, "directed": True}
    else:
        graph = {"peers": topology.size, "edges": sorted(sorted(edge) for edge in topology.graph.edges)}
    weights = {} if given.get("weights") is None else {"weights": given["weights"]}
    return {"graph": graph, **weights, **({} if topology.hub is None else {"hub": topology.hub})}


def assembled(invited: Sequence[Invitation], replies: Sequence[tuple[str, Reply]], keys: KeyPair) -> dict[str, Any]:
    """Return the topology file, signed. replies : each with the name of its file, for errors. keys : the author's.

    Raises ConfigError where a reply is missing, a site has sent two that differ, or a reply is to another invitation.
    """
    first = invited[0]
    if [invitation.peer for invitation in invited] != list(range(len(first.sites))):
        raise ConfigError(f"these are {len(invited)} invitations to a run of {len(first.sites)} sites: give the folder "
                          "as p2pser invite made it")
    codes = {invitation.code: invitation for invitation in invited}
    by_peer: dict[int, tuple[str, Reply]] = {}
    for where, reply in replies:
        answered = codes.get(reply.code)
        if answered is None or reply.run != first.run:
            raise ConfigError(f"{where} answers another invitation (run {reply.run!r}), none of those in this folder: "
                              "ask the site to accept its invitation of this run")
        if answered.peer != reply.peer:
            raise ConfigError(f"{where} says that it comes from peer {reply.peer}, and it answers the invitation of "
                              f"peer {answered.peer} ({answered.site}): ask that site which file it accepted")
        before, other = by_peer.setdefault(reply.peer, (where, reply))
        if other.entry() != reply.entry():
            raise ConfigError(f"{before} and {where} are two different replies of {answered.site} (peer {reply.peer}): "
                              "ask the site which one counts, and leave the other out")
    missing = [invitation for invitation in invited if invitation.peer not in by_peer]
    if missing:
        names = ", ".join(f"{invitation.site} (peer {invitation.peer})" for invitation in missing)
        raise ConfigError(f"{len(by_peer)} of {len(invited)} sites have replied; missing: {names}; remind them, and "
                          "give all replies together")
    document = {"name": first.run, **first.topology,
                "peers": {peer: reply.entry() for peer, (_, reply) in sorted(by_peer.items())}}
    spec.parse(document, "the topology of these replies", first.run)
    made = signed(document, raw_key(keys.secret))
    if made[SIGNED]["by"] != first.by:
        raise ConfigError(f"the invitations were signed by {fingerprint(first.by)}, and this key is of "
                          f"{fingerprint(made[SIGNED]['by'])}: the sites take the same author's file only (--key)")
    return made


# ---- a site --------------------------------------------------------------------------------------------------

def reply_to(invitation: Invitation, keys: KeyPair, address: str, listen: str | None) -> dict[str, Any]:
    """Return a site's reply, signed by its own key. Raises ConfigError where an address is invalid."""
    entry = {"address": address, **({} if listen is None else {"listen": listen}), "key": keys.public}
    document = signed({"p2pser": "reply", "version": 1, "run": invitation.run, "peer": invitation.peer,
                       "code": invitation.code, **entry}, raw_key(keys.secret))
    _checked(Reply, document, "the reply")
    return document


def run_file(config: Config) -> str:
    """Return the run file (YAML) of the settings that the user has set."""
    return yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True)


# ---- files ---------------------------------------------------------------------------------------------------

def read_invitation(path: Path, today: date | None = None) -> Invitation:
    """Return a validated invitation. today : refuse an invitation that has expired; None: accept it.

    Raises ConfigError, in one sentence, for any other file.
    """
    invitation = _read(Invitation, path, "the invitation")
    if today is not None and today > date.fromisoformat(invitation.expires):
        raise ConfigError(f"the invitation {path} could be accepted until {invitation.expires}: ask its author for a "
                          f"new one (or set this machine's clock, which says {today})")
    return invitation


def read_reply(path: Path) -> Reply:
    """Return a validated reply. Raises ConfigError, in one sentence, for any other file."""
    return _read(Reply, path, "the reply")


def _read(form: type[F], path: Path, what: str) -> F:
    return _checked(form, read_outside(path, what, ConfigError), f"{what} {path}")


def _checked(form: type[F], document: Any, where: str) -> F:
    kind = form.model_fields["p2pser"].annotation
    (wanted,) = getattr(kind, "__args__", ("",))
    if not isinstance(document, Mapping) or document.get("p2pser") != wanted:
        origin = "p2pser invite writes for the site" if wanted == "invitation" else "p2pser accept writes at a site"
        raise ConfigError(f"{where} is {kind_of_file(document) or 'another file'}: give the {wanted} that {origin}")
    if document.get("version") != 1:
        raise ConfigError(f"{where} has version {str(document.get('version'))[:20]!r} of its format, and this p2pser "
                          "reads version 1: install the author's version of p2pser")
    if author(document, where, ConfigError) is None:
        raise ConfigError(f"{where} is not signed: get it again from its author")
    try:
        value = validated(form, document)
        value.check()
    except (ValueError, P2PSERError) as error:
        raise ConfigError(f"{where}: {in_one_line(error, 400)}") from None
    return value


def write(path: Path, document: Mapping[str, Any], comment: str, *, overwrite: bool = False) -> None:
    """Write a document as YAML below a comment. Raises ConfigError where that fails, or the file exists."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    text = head + yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100,
                                 default_flow_style=None)
    try:
        with new_file(path, replace=overwrite) as file:
            file.write(text.encode())
    except FileExistsError:
        raise ConfigError(f"{path} exists: choose another folder (--out)") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
