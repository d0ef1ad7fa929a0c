"""A model's card tells the same of a run between processes and of the same run simulated."""

from __future__ import annotations

import json
from typing import Any

from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.models.directory import save
from p2pser.run.card import card
from p2pser.simulation.engine import simulate


def test_a_simulated_and_a_networked_card_are_equal(real: Any) -> None:
    config = real.config("out", "gossip.algorithm=k-gt", "gossip.parameters.communication_rate=0.7",
                         "training.momentum=0", "features.normalise=global", "augment.noise=0.1", "training.rounds=3")
    topology = load("ring", peers=6)
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(range(6), 0), str(story)
    run = simulate(config, topology, federate(config, 6, workers=1), exact=True)
    folder = real.folder / "simulated"
    save(folder, run.row, run.schema, card(run.config, topology, run.federation, run.statistics, agreed=6,
                                           predictions=run.predictions))
    networked = json.loads((real.peer_folder(config, 0) / "model" / "card.json").read_text(encoding="utf-8"))
    assert networked["energy"].pop("processor_s") > 0
    assert networked["energy"].keys() == {"joules", "method"}
    simulated = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert {**simulated, "energy": networked["energy"]} == networked
    assert (simulated["energy"], simulated["audit"]) == ("not measured", "not audited")
    assert isinstance(networked["tested"], str) == (run.predictions is None)
    assert networked["training"]["parameters"] == {"communication_rate": 0.7}
    assert networked["training"]["peers"] == networked["training"]["agreed"] == 6
