"""torch's threads follow the settings, whatever they were before."""

from __future__ import annotations

import torch

from p2pser.base.threads import torch_threads


def test_the_number_of_threads_comes_back():
    before = torch.get_num_threads()
    with torch_threads(before + 2):
        assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before
