"""What a peer keeps on disk of the secure sums that it gave to: nothing that was given is ever forgotten."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from p2pser.config import Config
from p2pser.gossip.secrets import Given
from p2pser.graph.spec import load
from p2pser.network import keys
from p2pser.peer.folder import PeerFolder
from p2pser.peer.summing import PeerSecrets


def secrets(place: Path, told: list[str] | None = None) -> PeerSecrets:
    """Those of a process that begins."""
    topology = load("ring", peers=3)
    folder = PeerFolder(Config().with_settings(["name=run", f"peer.out={place}"]), topology, 0)
    folder.path.mkdir(parents=True, exist_ok=True)
    heard = [] if told is None else told
    return PeerSecrets(keys.make(), {}, "run", folder, None, lambda round, sentence: heard.append(sentence))


def given(number: int) -> Given:
    return Given(bytes([number]) * 16, bytes([number + 1]) * 16, 3)


def test_what_was_given_is_known_after_a_start_also_behind_a_line_that_was_torn(tmp_path: Path) -> None:
    assert secrets(tmp_path).give(0, 1, given(1))
    with (tmp_path / "run" / "peer-0" / "sums.jsonl").open("ab") as file:
        file.write(b'[2, "\xff')  # the machine lost its power
    again = secrets(tmp_path)
    assert again.given(0) == {1: given(1)}
    assert again.give(0, 2, given(2))
    assert secrets(tmp_path).given(0) == {1: given(1), 2: given(2)}


def test_a_peer_gives_nothing_whose_record_does_not_fit_on_the_disk(
        tmp_path: Path, room: Callable[[int], AbstractContextManager[None]]) -> None:
    told: list[str] = []
    ours = secrets(tmp_path, told)
    assert ours.give(0, 1, given(1))
    with room((tmp_path / "run" / "peer-0" / "sums.jsonl").stat().st_size + 20):
        given_too = ours.give(0, 2, given(2))
    assert not given_too
    assert "No space left" in told[0]
    assert ours.given(0) == secrets(tmp_path).given(0) == {1: given(1)}
