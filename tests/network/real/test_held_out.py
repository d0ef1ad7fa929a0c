"""Real peers calibrate their model on the speakers that they held out, to the simulator's last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.models.calibrated import Calibrated
from p2pser.models.directory import read_card
from p2pser.simulation.engine import simulate

RING = load("ring", peers=4)
EVERYBODY = range(4)


@pytest.mark.parametrize("speakers", [1, 3])
def test_a_site_holds_out_some_of_its_speakers_or_as_a_whole_all(real: Any, tones: Path, speakers: int) -> None:
    header, *lines = tones.read_text(encoding="utf-8").splitlines()
    manifest, few = real.folder / "site.csv", [line for line in lines if line.split(",")[1] < f"s{speakers}"]
    manifest.write_text("\n".join([header, *(str(tones.parent / line) for line in few)]), encoding="utf-8")
    config = real.config("out", f"corpus.data={manifest}", "corpus.partition=own", "corpus.split=none",
                         "training.held_out=0.34", "corpus.labels=[calm, excited]")
    each = [federate(config, 3, only=i, workers=1) for i in range(3)]
    trained, held = ([len(set(part[i].speakers)) if i in part else 0 for i, part in enumerate(parts)]
                     for parts in ([one.train for one in each], [one.held_out for one in each]))
    assert (sorted(trained), sorted(held)) == (([0, 1, 1], [0, 0, 1]) if speakers == 1 else ([2] * 3, [1] * 3))


def test_network_and_simulator_calibrate_alike(real: Any) -> None:
    config = real.config("out", "training.held_out=0.5", "training.rounds=4", "features.normalise=speaker")
    story = real.run(config, RING)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    exact = simulate(config, RING, federate(config, 4, workers=1), exact=True).calibrated
    assert exact.how == "4 speakers whom 4 peers held out of training"
    assert [each.clips for each in exact.heard] == [each.heard for each in exact.sets] == [0, 1, 2, 5, 8]
    for i, one in story.summaries.items():
        assert Calibrated.read(one) == exact
        assert one["left_out"] == []
        card, _ = read_card(real.peer_folder(config, i) / "model")
        assert (card.temperature, card.heard, card.sets) == (exact.temperature, exact.heard, exact.sets)
        assert (card.training["calibration"], card.temperature_for(1)) == (exact.how, exact.heard[1].temperature)
        assert [event["how"] for event in real.events(config, i, "calibrated")] == [exact.how]
