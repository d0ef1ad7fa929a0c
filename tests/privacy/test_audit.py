"""The audit of plain gossip fails, for the reasons that are known; what an attack is given is what is received."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.cli.main import cli
from p2pser.config import Config
from p2pser.features.federation import Federation
from p2pser.gossip.mixer import Step
from p2pser.graph.spec import load, parse
from p2pser.privacy.audit import Audit, audit
from p2pser.privacy.findings import Finding
from p2pser.privacy.report import FILES, MEANING, MEASURES, page, verdict, write
from p2pser.privacy.subjects import Shadow, by_speaker, groups_of, subjects
from p2pser.privacy.wire import Wire
from p2pser.wire.codec import Received

Make = Callable[..., tuple[Config, Federation]]


def of(found: Audit, about: str, attack: str, seen: str, rounds: int | None = None,
       measure: str | None = None) -> Finding:
    """The one finding that these words name."""
    (one,) = (each for each in found.findings if (each.about, each.attack, each.seen, each.rounds) ==
              (about, attack, seen, rounds) and measure in (None, each.measure))
    return one


def test_plain_gossip_fails(made_up: Make) -> None:
    config, federation = made_up()
    found = audit(config, load("ring", 12, 0), federation, rounds=(1, 2))
    solved = {each.seen: each.value for each in found.findings if each.measure == "other peers"}
    assert solved == {"statistics": 11, "round 1": 2, "round 2": 2, "final consensus": 11}
    assert {each.targets for each in found.findings if each.measure == "other peers"} == {11}
    assert of(found, "sex", "threshold on the mean pitch", "statistics").value == 1.0
    assert of(found, "speaker", "nearest mean", "statistics").value == 1.0
    assert of(found, "speaker", "templates", "rows", 1).value > 0.6
    assert of(found, "membership", "row space", "rows", 1, "AUC").value > 0.999
    assert of(found, "membership in the run", "row space", "rows", 1, "AUC").value > 0.999
    assert of(found, "labels", "last layer's bias", "rows", 1, "correlation").value > 0.8
    assert of(found, "sex", "shadow model", "rows", 1).targets == 12
    inputs = of(found, "features", "inversion", "rows", 1)
    assert inputs.value > inputs.chance + 0.2
    assert {each.about for each in found.exceeded} == {"sums", "rows", "sex", "speaker", "membership", "labels"}
    assert verdict(found).startswith("Not passed: with dfedavg on ring with 12 peers, one neighbour learned more")


def test_a_first_layer_that_stays_at_home_hides_inputs_and_not_the_labels(made_up: Make) -> None:
    config, federation = made_up(**{"gossip.share": "upper"})
    found = audit(config, load("ring", 12, 0), federation, rounds=(1,))
    assert not {"row space", "inversion"} & {each.attack for each in found.findings}
    assert of(found, "membership", "loss", "rows", 1, "AUC").targets == 12
    assert of(found, "labels", "last layer's bias", "rows", 1, "correlation").value > 0.8
    assert of(found, "speaker", "templates", "rows", 1).targets == 12


def test_sums_under_masks_pass(made_up: Make) -> None:
    config, federation = made_up(normalise="none", **{"gossip.algorithm": "secure-average"})
    found = audit(config, load("ring", 12, 0), federation, rounds=(1, 2), seeds=3)
    assert [each for each in found.findings if each.exceeded] == []
    assert {each.seen: each.value for each in found.findings if each.measure == "other peers"} == {
        "statistics": 0, "round 1": 0, "round 2": 0, "final consensus": 0}
    for what in ("rows", "masked sums"):  # both were attacked
        assert of(found, "membership", "row space", what, 1, "AUC").value <= 0.55
        inputs = of(found, "features", "inversion", what, 1)
        assert inputs.value < inputs.chance + 0.1
    assert of(found, "membership", "row space", "rows", 1, "AUC").targets == 12
    assert verdict(found).startswith("Passed: with secure-average on ring with 12 peers, one neighbour learned no more")


def test_the_algorithm_is_the_one_that_peers_would_run(made_up: Make) -> None:
    config, federation = made_up(peers=4, normalise="none", **{"training.rounds": 1})
    keys = {i: {"key": key} for i, key in enumerate((
        "^MP/$=-z=pLRA#]N[[YZx1(193hlJ(FubRPC^1nK", "bY<2WL0[!zlQ1%gY5lzIl<rNhh8LAA=bSLp!6F)9",
        "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"))}
    sites = parse({"graph": {"kind": "ring", "peers": 4}, "peers": keys}, "a test", "sites")
    assert audit(config, sites, federation, rounds=(1,)).config.gossip.algorithm == "secure-average"
    local = audit(config, load("ring", 4, 0), federation, rounds=(1,))
    assert local.config.gossip.algorithm == "dfedavg"


def test_sums_whose_masks_are_missing_fail(made_up: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pser.gossip.agreement.secure_sum.mask",
                        lambda secrets, peer, roster, view, size, dtype: np.zeros(size, dtype))
    config, federation = made_up(normalise="none", **{"gossip.algorithm": "secure-average"})
    found = audit(config, load("star", 12, 0), federation, rounds=(1,))  # each leaf sends its input to the centre
    assert of(found, "membership", "row space", "masked sums", 1, "AUC").value > 0.9
    assert {each.seen for each in found.exceeded} == {"masked sums"}


def test_the_others_in_a_sum_are_known_without_the_observers(made_up: Make) -> None:
    config, federation = made_up(peers=3, normalise="none", **{"gossip.algorithm": "secure-average"})
    found = audit(config, load("ring", 3, 0), federation, rounds=(1,), colluding=2)
    # Two of three together know the third: no sum hides a peer from all others.
    assert of(found, "membership", "row space", "rows", 1, "AUC").value > 0.99
    assert of(found, "rows", "linear algebra", "round 1").value == 1


def test_nothing_is_found_in_what_is_not_sent(made_up: Make) -> None:
    config, federation = made_up(normalise="none")
    found = audit(config, load("ring", 12, 0), federation, rounds=(1,))
    assert of(found, "sums", "linear algebra", "statistics").value == 0
    assert not [each for each in found.findings if each.seen == "statistics" and each.about != "sums"]
    assert not [each for each in found.findings if each.about == "clip counts"]


def test_clip_counts_are_found_where_they_weigh(made_up: Make) -> None:
    config, federation = made_up(**{"gossip.weighting": "clips"})
    found = audit(config, load("ring", 12, 0), federation, rounds=(1,))
    assert of(found, "clip counts", "reading", "roll call").value == 11


def test_several_runs_name_the_same_targets(made_up: Make) -> None:
    config, federation = made_up()
    found = audit(config, load("complete", 12, 0), federation, rounds=(1,), seeds=2, colluding=2, rejoins=True)
    assert of(found, "sex", "templates", "rows", 1).targets == 12
    rows = of(found, "rows", "linear algebra", "round 1")
    assert (rows.value, rows.targets) == (10, 10)  # all but the two
    assert found.to_dict()["colluding"] == 2
    assert "2 neighbours together, sent the run's state anew, learned" in verdict(found)


def test_a_shadow_corpus_gives_the_threshold(made_up: Make) -> None:
    config, federation = made_up()
    _, other = made_up(peers=6)
    shadow = Shadow("other", by_speaker(other.train.values()), groups_of(other.corpus))
    found = audit(config, load("ring", 12, 0), federation, rounds=(1,), shadows=[shadow])
    assert of(found, "sex", "threshold on the mean pitch from other", "statistics").value == 1.0
    assert of(found, "sex", "templates from other", "rows", 1).targets == 12
    assert of(found, "sex", "shadow model from other", "rows", 1).targets == 12
    assert "other" in found.notes[0]


def test_a_shadow_model_is_not_trained_on_the_own_speaker_of_the_attacked_peer(
        made_up: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[int, ...]] = []
    centres: set[bytes] = set()

    def model(update: np.ndarray, updates: np.ndarray, groups: list[str], centre: np.ndarray) -> dict[str, float]:
        trained.append((len(updates), groups.count("f"), groups.count("m")))
        centres.add(centre.tobytes())
        return {"f": 1.0, "m": 0.0}

    monkeypatch.setattr("p2pser.privacy.attacks.templates.shadow_model", model)
    config, federation = made_up(peers=4)
    _, other = made_up(peers=6)
    shadow = Shadow("other", by_speaker(other.train.values()), groups_of(other.corpus))
    found = audit(config, load("ring", 4, 0), federation, rounds=(1,), shadows=[shadow])
    # Of two women and two men the others; of another corpus all six.
    assert sorted(trained) == [(3, 1, 2)] * 2 + [(3, 2, 1)] * 2 + [(6, 3, 3)] * 4
    assert len(centres) == 2  # one of each corpus, the same for all attacked peers
    assert of(found, "sex", "shadow model", "rows", 1).value == 0.5  # all are called women


def test_places_are_drawn_and_clips_halved(made_up: Make) -> None:
    _, federation = made_up()
    drawn = subjects(federation, 3)
    places = [drawn.federation.train[place].speakers[0] for place in range(12)]
    assert sorted(places) == sorted(f"s{i}" for i in range(12))
    assert places != [f"s{i}" for i in range(12)]
    for place in range(12):
        kept, other = set(drawn.federation.train[place].paths), set(drawn.others[place].paths)
        assert (len(kept), len(other), kept & other) == (8, 8, set())
        assert {path.split("/")[0] for path in kept | other} == {places[place]}
    assert drawn.group("sex", places.index("s0")) == "f"
    assert drawn.group("language", 0) == ""


# ---- what observers know ------------------------------------------------------------------------------------

def row(peer: int, round: int) -> torch.Tensor:
    """The row that a peer sends in a round."""
    return torch.tensor([10.0 * round + peer, float(peer)])


def recorded(edges: list[tuple[int, int]]) -> Wire:
    """A wire on a ring of five on which these edges carried rows in two rounds."""
    wire = Wire(load("ring", 5, 0), torch.zeros(2), frozenset({0, 1}))
    for round in (0, 1):
        wire.trained(round, torch.stack([row(peer, round) for peer in range(5)]))
        for dst, src in edges:
            wire.received(Step(round, 0), (dst, src), Received(src, row(src, round)))
    return wire


def test_a_view_holds_what_its_observer_received() -> None:
    wire = recorded([(1, 0), (1, 2)])
    view = wire.view(0, (1,), 0)
    assert view is not None
    assert view.own
    assert torch.equal(view.start, torch.zeros(2))
    assert torch.equal(view.update, row(0, 0))
    later = wire.view(0, (1,), 1)
    assert later is not None
    # Peer 0 mixed its own row, peer 1's and peer 4's, by 1/3 each; peer 1 knows the first two and guesses the third.
    known = (row(0, 0) + row(1, 0)) / 2
    assert torch.allclose(later.start, known, rtol=0, atol=1e-6)
    assert torch.allclose(later.update, row(0, 1) - known, rtol=0, atol=1e-6)


def test_colluding_neighbours_know_where_a_peer_began() -> None:
    wire = recorded([(1, 0), (4, 0)])
    later = wire.view(0, (1, 4), 1)
    assert later is not None
    assert torch.allclose(later.start, (row(0, 0) + row(1, 0) + row(4, 0)) / 3, rtol=0, atol=1e-6)


def test_who_rejoins_is_sent_where_a_peer_began() -> None:
    wire = recorded([(1, 0), (1, 2)])
    wire.rejoins = True
    wire.held(1, torch.stack([row(peer, 5) for peer in range(5)]))
    later = wire.view(0, (1,), 1)
    assert later is not None
    assert torch.equal(later.start, row(0, 5))


def test_a_row_that_went_elsewhere_is_not_known() -> None:
    wire = recorded([(2, 0)])
    assert wire.view(0, (1,), 0) is None
    wire.held(0, torch.zeros(5, 2))
    wire.held(1, torch.stack([torch.full((2,), 4.0 * i) for i in range(5)]))
    view = wire.view(0, (1,), 0)
    assert view is not None
    assert not view.own
    # What the observer's row became, 4, less a third of its own, which was 1.
    assert torch.allclose(view.update, torch.full((2,), 5.5), rtol=0, atol=1e-6)


def test_the_sum_that_an_algorithm_sends_is_divided_by_its_weight() -> None:
    wire = Wire(load("ring", 5, 0), torch.zeros(2), frozenset({0}))
    wire.received(Step(0, 0), (1, 0), Received(0, torch.tensor([6.0, 3.0, 1.5], dtype=torch.float64)))
    wire.received(Step(0, 0), (1, 2), Received(2, torch.tensor([6.0, 3.0, 7.0, 8.0])))  # trackers, for example
    assert {edge: row.tolist() for edge, row in wire.rows[0].items()} == {(1, 0): [4.0, 2.0], (1, 2): [6.0, 3.0]}


def test_an_observer_knows_its_share_of_a_sum_over_all() -> None:
    wire = Wire(load("ring", 5, 0), torch.zeros(2), frozenset({0}), shares=np.array([0.1, 0.4, 0.2, 0.2, 0.1]))
    wire.held(0, torch.zeros(5, 2))
    wire.trained(0, torch.stack([row(peer, 0) for peer in range(5)]))
    total = 0.4 * row(1, 0) + 0.2 * row(2, 0) + 0.2 * row(3, 0) + 0.1 * row(4, 0)
    wire.held(1, total.expand(5, 2))
    view = wire.view(0, (1,), 0)
    assert view is not None
    assert torch.allclose(view.update, (total - 0.4 * row(1, 0)) / 0.6, rtol=0, atol=1e-6)


def test_rows_that_observers_hold_together() -> None:
    wire = recorded([(1, 0), (1, 2), (3, 2), (3, 4), (3, 1)])
    assert [wire.direct(observers, 0) for observers in ((1,), (3,), (1, 3), (2,))] == [2, 3, 3, 0]


def test_observers_are_the_next_neighbours() -> None:
    wire = Wire(load("ring", 5, 0), torch.zeros(2), frozenset())
    assert [wire.observers(i, 1) for i in range(5)] == [(1,), (2,), (3,), (4,), (0,)]
    assert wire.observers(0, 2) == (1, 4)


def test_sums_are_read_from_the_first_message() -> None:
    wire = Wire(load("ring", 3, 0), torch.zeros(2), frozenset())
    first, later = np.array([2.0, 5.0, 13.0]), np.array([1.0, 1.0, 1.0])
    for slot, sums in enumerate((first, later)):
        wire.received(Step(-2, slot), (1, 0), Received(0, sums.astype("<f8").tobytes() + b"trailer"))
    found = wire.sums_of(0, (1,), 3)
    assert found is not None
    assert found.tolist() == [2.0, 5.0, 13.0]
    assert wire.sums_of(0, (2,), 3) is None


# ---- refused, and written ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("setting", "says"), [
    ("gossip.algorithm=ad-psgd", "an asynchronous algorithm"),
    ("model.width=[1.0,0.5]", "peers of different widths"), ("training.task=dimensions", "training.task=dimensions")])
def test_what_it_cannot_audit_is_refused(made_up: Make, setting: str, says: str) -> None:
    config, federation = made_up()
    with pytest.raises(ConfigError, match=f"no attacks yet on {says}"):
        audit(config.with_settings([setting]), load("ring", 12, 0), federation)


def test_messages_that_it_cannot_read_are_refused(made_up: Make) -> None:
    config, federation = made_up(peers=4, **{"gossip.algorithm": "power-gossip", "training.rounds": 1})
    with pytest.raises(ConfigError, match="no attacks yet on the messages of power-gossip"):
        audit(config, load("ring", 4, 0), federation, rounds=(1,))


def test_rounds_that_are_none_of_the_run_are_refused(made_up: Make) -> None:
    config, federation = made_up(peers=4)
    with pytest.raises(ConfigError, match="the run has 3 rounds, and none"):
        audit(config, load("ring", 4, 0), federation, rounds=(10,))


def test_two_peers_have_nothing_to_hide() -> None:
    with pytest.raises(ConfigError, match="at least 3 peers"):
        audit(Config(), load("ring", 2, 0), None)  # type: ignore[arg-type]


def test_the_page_explains_all_that_it_shows(made_up: Make, tmp_path: Path) -> None:
    config, federation = made_up(peers=6, **{"gossip.weighting": "clips", "name": "a"})
    found = audit(config, load("ring", 6, 0), federation, rounds=(1,))
    text = page(found)
    for each in found.findings:
        assert MEANING[each.about] in text.replace("&#x27;", "'")
        assert MEASURES[each.measure] in text
    assert "Not passed" in text
    write(found, tmp_path / "audit")
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == sorted(FILES)
    document = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert (document["passed"], document["peers"]) == (False, 6)
    assert document["findings"][0]["low"] is None


def test_a_call_that_cannot_be_audited_is_refused(tmp_path: Path) -> None:
    call = ["audit", "--peers", "4", "--out", str(tmp_path)]
    with pytest.raises(ConfigError, match=r"/run has no recorded messages of peers 0, 1, 2, 3: run all peers with "
                                          r"--set privacy\.record=10, or give --before"):
        CliRunner().invoke(cli, call, catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"corpus\.partition=own each site has its own: give --before"):
        CliRunner().invoke(cli, [*call, "--set", "corpus.partition=own"], catch_exceptions=False)
    assert not list(tmp_path.iterdir())
    done = CliRunner().invoke(cli, ["audit", "--before", "--after-rounds", "0"])
    assert done.exit_code == 2
    assert "'0' must be numbers of rounds from 1 on: write, for example, 1,3,10" in done.output
