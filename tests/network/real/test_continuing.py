"""A finished run of real processes goes on with more rounds."""

from __future__ import annotations

from typing import Any

import torch

from p2pser.features.federation import federate
from p2pser.graph.spec import load
from p2pser.simulation.engine import simulate

RING = load("ring", peers=3)
DONE, MORE, LATE = 4, 7, 2


def test_a_finished_run_goes_on_to_the_bits_of_one_that_had_all_rounds_from_the_start(real: Any) -> None:
    """The last peer is started only once the others wait for it, as for one that is absent."""
    config = real.config("out", "training.schedule=constant", peers=3)
    first = config.with_settings([f"training.rounds={DONE}"])
    assert real.run(first, RING).exit_codes == dict.fromkeys(range(3), 0)
    before = real.rows(first, range(3))
    longer = config.with_settings([f"training.rounds={MORE}"])
    waiting: set[int] = set()

    def start_the_last(peers: Any, record: dict[str, Any]) -> None:
        said = record.get("sentence", "") if record.get("kind") == "waiting" else ""
        if said.startswith(f"waiting for peer {LATE} ") and said.endswith(f"{DONE} rounds: start them with --rounds "
                                                                          f"{MORE} too"):
            waiting.add(record["reporter"])
            if waiting == {0, 1} and LATE not in peers.children:
                peers.start(LATE)

    story = real.run(longer, RING, start_the_last, ids=(0, 1))
    assert story.exit_codes == dict.fromkeys(range(3), 0), str(story)
    assert {i: one["rounds"] for i, one in story.summaries.items()} == dict.fromkeys(range(3), MORE)
    assert [event["round"] for i in range(3) for event in real.events(longer, i, "resumed")] == [DONE] * 3
    exact = simulate(longer, RING, federate(longer, 3, workers=1), exact=True)
    assert torch.equal(real.rows(longer, range(3)), exact.final.rows.to(torch.float32))
    for i in range(3):
        folder = real.peer_folder(longer, i)
        (folder / "model").rename(folder / "model-new")
        (folder / f"model-{DONE}").rename(folder / "model")
    assert torch.equal(real.rows(longer, range(3)), before)
