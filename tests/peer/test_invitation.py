"""Invitations, replies and the topology file made of them: what is taken, and the sentence for everything else."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from p2pser.base.errors import ConfigError, P2PSERError, TopologyError
from p2pser.base.signing import author, fingerprint, signed
from p2pser.config import Config
from p2pser.features import encoders
from p2pser.graph.spec import load
from p2pser.network.keys import KeyPair, raw_key
from p2pser.peer.identity import signature
from p2pser.peer.invitation import (
    Invitation,
    assembled,
    invitations,
    read_invitation,
    read_reply,
    reply_to,
    write,
)

TODAY = date(2026, 11, 29)
AUTHOR, *SITES = (KeyPair.of(bytes([i]) * 32) for i in range(1, 5))
NAMES = ("berlin", "lyon", "porto")
ADDRESSES = ("tcp://192.0.2.10:5700", "tcp://[2001:db8::1]:5701", "none")

BY = signed({}, bytes(32))["signed"]["by"].encode()

Document = dict[str, Any]


@pytest.fixture
def invited(tmp_path: Path) -> list[Invitation]:
    config = Config().with_settings(["name=pilot", "training.rounds=7", "corpus.labels=anger,sadness"])
    made = invitations(config, load("ring", 3), NAMES, AUTHOR, today=TODAY)
    for peer, document in enumerate(made):
        write(tmp_path / f"invitation-{peer}.yaml", document, "a comment")
    return [read_invitation(tmp_path / f"invitation-{peer}.yaml", TODAY) for peer in range(3)]


def replies(invited: list[Invitation], folder: Path) -> list[tuple[str, Any]]:
    answers = []
    for one, keys, address in zip(invited, SITES, ADDRESSES):
        path = folder / f"reply-{one.peer}.yaml"
        write(path, reply_to(one, keys, address, None), "a comment")
        answers.append((str(path), read_reply(path)))
    return answers


def test_from_invitations_to_a_topology_that_the_author_has_signed(invited: list[Invitation], tmp_path: Path) -> None:
    assert [one.site for one in invited] == list(NAMES)
    assert invited[2].config().training.rounds == 7
    assert invited[2].config().name == "pilot"
    assert "model.hidden" not in invited[0].settings
    write(tmp_path / "topology.yaml", assembled(invited, replies(invited, tmp_path), AUTHOR), "comment")
    topology = load(str(tmp_path / "topology.yaml"))
    assert topology.digest() == load("ring", 3).digest()
    assert [topology.peers[i].address for i in range(3)] == list(ADDRESSES)
    assert [topology.peers[i].key for i in range(3)] == [keys.public for keys in SITES]
    assert topology.signed_by == invited[0].by
    secrets = [keys.secret for keys in (AUTHOR, *SITES)]
    assert not any(secret in path.read_text() for secret in secrets for path in tmp_path.glob("*.yaml"))


@pytest.mark.parametrize("name", ["star", "complete", "erdos-renyi", "one-peer-exponential", "directed-ring", "server"])
def test_other_graphs_come_through_an_invitation(name: str) -> None:
    graph = load(name, 4)
    made = invitations(Config(), graph, ["a", "b", "c", "d"], AUTHOR, today=TODAY)[3]
    read = Invitation.model_validate(made).graph()
    assert (read.digest(), read.hub) == (graph.digest(), graph.hub)


@pytest.mark.parametrize("sites", [2, 100])
def test_two_sites_and_a_hundred(sites: int, tmp_path: Path) -> None:
    names = [f"site {i}" for i in range(sites)]
    made = invitations(Config(), load("ring", sites), names, AUTHOR, today=TODAY)
    for i in (0, sites - 1):
        write(tmp_path / f"{i}.yaml", made[i], "")
    invited = [Invitation.model_validate(one) for one in made]
    answers = [(f"reply {i}", read_reply_of(one, i, tmp_path)) for i, one in enumerate(invited)]
    write(tmp_path / "topology.yaml", assembled(invited, answers, AUTHOR), "")
    assert load(str(tmp_path / "topology.yaml")).size == sites
    assert read_invitation(tmp_path / f"{sites - 1}.yaml").site == f"site {sites - 1}"


def read_reply_of(one: Invitation, i: int, folder: Path) -> Any:
    write(folder / "one.yaml", reply_to(one, KeyPair.of(bytes([i, 7]) * 16), f"tcp://192.0.2.7:{5000 + i}", None), "",
          overwrite=True)
    return read_reply(folder / "one.yaml")


def test_a_changed_topology_and_another_authors_are_refused(invited: list[Invitation], tmp_path: Path) -> None:
    document = assembled(invited, replies(invited, tmp_path), AUTHOR)
    path = tmp_path / "topology.yaml"
    write(path, document, "a comment")
    path.write_text(path.read_text().replace("# a comment", "\n").replace("metropolis", "'metropolis'"))
    known = Config().with_settings([f"network.author={invited[0].by}"])
    assert signature(known, load(str(path))) == f"topology pilot, signed by {fingerprint(invited[0].by)}"
    assert "compare this fingerprint" in signature(Config(), load(str(path)))
    path.write_text(path.read_text().replace("192.0.2.10", "192.0.2.11"))
    with pytest.raises(TopologyError, match=r"was changed after [0-9a-f-]{29} had signed it"):
        load(str(path))
    write(path, signed(document, raw_key(SITES[0].secret)), "", overwrite=True)
    with pytest.raises(TopologyError, match=r"is signed by [0-9a-f-]{29}, and this site accepted an invitation of"):
        signature(known, load(str(path)))
    plain = {name: value for name, value in document.items() if name != "signed"}
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(TopologyError, match="is not signed, and this site accepted"):
        signature(known, load(str(path)))
    assert signature(Config(), load(str(path))) == ""


# ---- files from outside ----------------------------------------------------------------------------------------

def with_value(*place: str | int, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        inner: Any = document
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = value

    return change


@pytest.mark.parametrize(("change", "words"), [
    (with_value("peer", value=3), "it is for peer 3, and the 3 sites are 0 to 2"),
    (with_value("peer", value=-1), "peer = -1: must be a whole number"),
    (with_value("peer", value=True), "must be a whole number"),
    (with_value("run", value="../../etc"), "must be 1 to 64 letters"),
    (with_value("version", value=2), "has version '2' of its format"),
    (with_value("sites", value=["a"]), "an invitation is for 2 to 100 sites"),
    (with_value("sites", value=["a", "A", "b"]), "two sites have the same name"),
    (with_value("sites", value=["a\nb", "c", "d"]), "a site's name has"),
    (with_value("sites", value=[f"s{i}" for i in range(101)]), "an invitation is for 2 to 100 sites"),
    (with_value("expires", value="soon"), "write a day as 2027-01-31"),
    (with_value("expires", value="2026-13-01"), "expires"),
    (with_value("expires", value="2026-11-28"), "could be accepted until 2026-11-28"),
    (with_value("code", value="0"), "must be 32 hexadecimal digits"),
    (with_value("settings", "network.secret_key", value="/root/.ssh/id"), "network.secret_key is not a setting of a"),
    (with_value("settings", "peer.out", value="/etc"), "peer.out is not a setting of a whole run"),
    (with_value("settings", "corpus.data", value="/home"), "corpus.data is not a setting of a whole run"),
    (with_value("settings", "training.lr", value=-1), "training.lr = -1: must be a number above 0"),
    (with_value("settings", "features.encoder", value="/etc"), "features.encoder is '/etc' and must be an identity"),
    (with_value("settings", "features.encoder", value="a/b"), "features.encoder is 'a/b' and must be an identity"),
    (with_value("settings", "no.such", value=1), "no.such is not a setting of a whole run"),
    (with_value("settings", value="x"), "settings = 'x'"),
    (with_value("topology", "graph", value={"graphml": "/etc/passwd"}), "its graph must be a list of edges"),
    (with_value("topology", "graph", value={"kind": "complete_graph", "n": 10**9, "peers": 3}),
     "its graph must be a list of edges"),
    (with_value("topology", "graph", value={"kind": "sequence", "files": ["/etc/passwd"], "peers": 3}),
     "its graph must be a list of edges"),
    (with_value("topology", "graph", "peers", value=10**9), "its graph must have the 3 peers that are the sites"),
    (with_value("topology", "graph", value={"edges": [[0, 9]], "peers": 3}), "the edges name peer 9"),
    (with_value("topology", "graph", value={"edges": [[0, 1]], "peers": 3}), "not connected"),
    (with_value("topology", "peers", value={}), "topology must hold graph, weights and hub only"),
    (with_value("more", value=1), "'more'"),
    (with_value("p2pser", value="reply"), "is a reply (for p2pser topology assemble): give the invitation"),
])
def test_invitations_that_do_not_fit_are_refused_in_one_sentence(
    invited: list[Invitation], tmp_path: Path, change: Callable[[Document], None], words: str
) -> None:
    document = copy.deepcopy(yaml.safe_load((tmp_path / "invitation-1.yaml").read_text()))
    change(document)
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(signed(document, raw_key(AUTHOR.secret))))
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        read_invitation(path, TODAY)
    assert str(caught.value).startswith(f"the invitation {path}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("text", "words"), [
    (b"", "is another file: give the invitation that p2pser invite writes for the site"),
    (b"- 1\n", "is another file: give the invitation that p2pser invite writes for the site"),
    (b"\xff\xfe\x00", "is not UTF-8"),
    (b"a: [", "is not YAML"),
    (b"a: 1\na: 2\n", "is given twice"),
    (b"x" * (256 * 1024 + 1), "is larger than 256 KiB"),
    (b"[" * 60_000, "is not YAML"),
    (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 2 repeats a value by its name (*a)"),
    (b"p2pser: invitation\nversion: 1\n", "is not signed"),
    (b"p2pser: invitation\nversion: 1\nsigned: 3\n", "holds no signature"),
    (b"p2pser: invitation\nversion: 1\nsigned: {by: '" + BY + b"', signature: '" + b"0" * 128 + b"'}\n",
     "was changed after"),
    (b"p2pser: invitation\nversion: 1\nrate: .nan\nsigned: {by: '" + b"1" * 64 + b"', signature: '" + b"a" * 128
     + b"'}\n", "was changed after"),
])
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_invitation(path)


def test_no_file_a_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path, Path("/dev/zero"), tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match=r"is no file|cannot be read"):
            read_invitation(path)


def test_an_invitation_that_was_changed_on_the_way_is_refused(invited: list[Invitation], tmp_path: Path) -> None:
    path = tmp_path / "invitation-1.yaml"
    path.write_text(path.read_text().replace("training.rounds: 7", "training.rounds: 8"))
    with pytest.raises(ConfigError, match="was changed after"):
        read_invitation(path)


def test_the_author_is_told_what_cannot_be_sent(tmp_path: Path) -> None:
    ring = load("ring", 3)
    with pytest.raises(ConfigError, match=r"corpus\.data is not a setting of a whole run"):
        invitations(Config().with_settings(["corpus.data=x"]), ring, NAMES, AUTHOR, today=TODAY)
    with pytest.raises(ConfigError, match="two sites have the same name"):
        invitations(Config(), ring, ["a", "a", "b"], AUTHOR, today=TODAY)


def test_encoders_are_sent_by_their_identities(tmp_path: Path) -> None:
    folder = tmp_path / "clinic"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).write_text(name)
    config = Config().with_settings(["features.kind=ssl", f"features.encoder={folder}"])
    sent = invitations(config, load("ring", 3), NAMES, AUTHOR, today=TODAY)[1]
    assert re.fullmatch("@[0-9a-f]{16}", sent["settings"]["features.encoder"])
    assert "clinic" not in str(sent)
    write(tmp_path / "invitation.yaml", sent, "a comment")
    received = read_invitation(tmp_path / "invitation.yaml", TODAY).config()
    assert encoders.folder(str(received.features.encoder), None) == folder


def changed(reply: Any, **values: Any) -> Any:
    return reply.model_copy(update=values)


def test_replies_that_do_not_fit_together_are_named(invited: list[Invitation], tmp_path: Path) -> None:
    answers = replies(invited, tmp_path)
    first, second, third = answers

    def refused(words: str, *given: tuple[str, Any]) -> None:
        with pytest.raises(P2PSERError, match=re.escape(words)):
            assembled(invited, given, AUTHOR)

    refused("2 of 3 sites have replied; missing: porto (peer 2)", first, second)
    refused("answers another invitation", first, second, ("late.yaml", changed(third[1], code="0" * 32)))
    refused("answers another invitation", first, second, ("late.yaml", changed(third[1], run="other")))
    refused("late.yaml says that it comes from peer 1, and it answers the invitation of peer 2 (porto)", first, second,
            ("late.yaml", changed(third[1], peer=1)))
    refused("are two different replies of lyon (peer 1)", *answers, ("new.yaml", changed(second[1], address="none")))
    with pytest.raises(ConfigError, match="2 invitations to a run of 3 sites"):
        assembled(invited[:2], answers, AUTHOR)
    with pytest.raises(ConfigError, match="the invitations were signed by"):
        assembled(invited, answers, SITES[0])
    refused("have the same key", first, second, ("new.yaml", changed(third[1], key=second[1].key)))
    refused("have the same address", first, second, ("new.yaml", changed(third[1], address=second[1].address)))
    refused("neighbours and neither can be dialled", first, ("new.yaml", changed(second[1], address="none")), third)
    assert assembled(invited, [*answers, first], AUTHOR)["peers"][0]["address"] == ADDRESSES[0]


@pytest.mark.parametrize(("values", "words"), [
    ({"address": "tcp://0.0.0.0:5700"}, "no other machine can dial it"),
    ({"address": "192.0.2.1"}, "write it as tcp://HOST:PORT"),
    ({"address": "tcp://h:0"}, "its port must be a number from 1 to 65535"),
    ({"address": "none", "listen": "tcp://*:5700"}, "does not listen"),
    ({"key": "short"}, "a public key is 40 Z85 characters"),
    ({"address": float("inf")}, "was changed after"),
])
def test_replies_that_do_not_fit_are_refused(invited: list[Invitation], tmp_path: Path, values: Document,
                                             words: str) -> None:
    path = tmp_path / "reply.yaml"
    document = {**reply_to(invited[1], SITES[1], ADDRESSES[1], None), **values}
    path.write_text(yaml.safe_dump(document if "was changed" in words else signed(document, bytes(32))))
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_reply(path)


def test_a_signature_is_of_what_is_meant() -> None:
    document = {"name": "x", "peers": {0: {"key": "a"}}}
    made = signed(document, bytes(32))
    by = author(made, "it", ConfigError)
    assert by == author({**dict(reversed(made.items()))}, "it", ConfigError)
    assert signed(made, bytes(32)) == made
    assert author(document, "it", ConfigError) is None
    assert re.fullmatch(r"([0-9a-f]{4}-){5}[0-9a-f]{4}", fingerprint(str(by)))
    for other in ({**made, "name": "y"}, {**made, "more": 1}, {**made, "peers": {1: {"key": "a"}}}):
        with pytest.raises(ConfigError, match="was changed"):
            author(other, "it", ConfigError)
