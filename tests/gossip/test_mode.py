"""The private mode is the default between sites, asked for elsewhere, and told in one sentence."""

from __future__ import annotations

import pytest

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.mode import by_mode, what_neighbours_learn
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology, load, parse
from p2pser.network import keys

PUBLIC = [keys.derive(b"m" * 32, "run", i).public for i in range(4)]


def sites(peers: int = 4, **graph: object) -> Topology:
    keyed = {i: {"key": PUBLIC[i]} for i in range(peers)}
    return parse({"graph": {"kind": "ring", "peers": peers, **graph}, "weights": "metropolis", "peers": keyed}, "sites")


def chosen(topology: Topology, *settings: str) -> str:
    return by_mode(Config().with_settings(settings), topology)[0].gossip.algorithm


def test_sites_sum_and_one_users_peers_gossip() -> None:
    assert chosen(sites()) == "secure-average"
    assert chosen(sites(3)) == "secure-average"
    assert chosen(load("ring", peers=4)) == "dfedavg"
    assert chosen(sites(), "privacy.least=5") == "dfedavg"
    assert chosen(sites(2, kind="chain")) == "dfedavg"


@pytest.mark.parametrize("setting", ["privacy.mode=gossip", "gossip.algorithm=dfedavg", "gossip.algorithm=k-gt",
                                     "model.name=xgb"])
def test_gossip_is_asked_for(setting: str) -> None:
    config = Config().with_settings([setting])
    assert by_mode(config, sites()) == (config, "")


def test_the_private_mode_is_asked_for() -> None:
    assert chosen(load("ring", peers=4), "privacy.mode=private") == "secure-average"
    assert chosen(sites(), "privacy.mode=private", "gossip.algorithm=secure-average") == "secure-average"
    with pytest.raises(ConfigError, match=r"gossip\.algorithm=k-gt does: leave the algorithm out"):
        chosen(sites(), "privacy.mode=private", "gossip.algorithm=k-gt")
    with pytest.raises(ConfigError, match=r"privacy\.least"):
        chosen(load("chain", peers=2), "privacy.mode=private")


def test_where_the_settings_do_not_allow_it_the_sentence_says_why() -> None:
    config, instead = by_mode(Config().with_settings(["gossip.share=body"]), sites())
    assert config.gossip.algorithm == "dfedavg"
    sentence = what_neighbours_learn(create("dfedavg", {}, config, sites()), sites(), instead)
    assert sentence.startswith("plain gossip (dfedavg): neighbours can read off the rows")
    assert "; not secure-average, because " in sentence
    private = create("secure-average", {}, config, sites())
    assert what_neighbours_learn(private, sites()) == (
        "private mode (secure-average): neighbours see numbers under masks and the mean over all peers; up to 2 peers "
        "together learn the mean of the others, and of no one peer")
