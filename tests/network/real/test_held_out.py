"""Real peers calibrate their model on the speakers that they held out, to the simulator's last bit."""

from __future__ import annotations

from typing import Any

from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.models.calibrated import Calibrated
from p2pser.models.directory import read_card
from p2pser.simulation.engine import simulate

RING = load("ring", peers=4)
EVERYBODY = range(4)


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
