"""Networks inside others: which parameters they have, and that they are those of the whole one's first units."""

from __future__ import annotations

import pytest
import torch

from p2pser import models
from p2pser.base.errors import ConfigError, ModelError
from p2pser.config import ModelSettings
from p2pser.models.rows import Schema
from p2pser.models.widths import held, of_width, only, units, widths

SHAPES = {"mlp": (20,), "cnn2d": (16, 24), "gru": (16, 24), "lstm": (16, 24)}
NARROWING = ["mlp", "cnn2d", "gru", "lstm"]


def network(name, width, **settings):
    return models.build(ModelSettings(name=name, width=width, **settings), SHAPES[name], 4, seed=3)


def inside(name, width, **settings):
    """The whole network, the narrow one with the whole one's parameters, and which of them it has."""
    whole, narrow = network(name, 1, **settings).eval(), network(name, width, **settings).eval()
    kept = held(whole, narrow)
    schema = Schema.of(narrow)
    schema.bind(narrow, Schema.of(whole).flatten(whole)[kept].contiguous())
    return whole, narrow, kept


@pytest.mark.parametrize("name", NARROWING)
@pytest.mark.parametrize("width", [0.25, 0.5])
def test_a_narrow_row_has_as_many_parameters_as_the_narrow_network_and_lies_inside_wider_ones(name, width):
    whole, narrow, kept = inside(name, width)
    assert int(kept.sum()) == Schema.of(narrow).size < Schema.of(whole).size
    wider = held(whole, network(name, min(1, 2 * width)))
    assert bool((kept & ~wider).sum() == 0)


@pytest.mark.parametrize("rescale", [False, True])
def test_an_mlp_of_half_the_width_is_the_whole_one_without_its_other_units(rescale):
    whole, narrow, _ = inside("mlp", 0.5, hidden=(8, 6), rescale=rescale)
    factor = 2 if rescale else 1
    x = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = whole.hidden[0](x).relu()[:, :4] * factor
        second = (first @ whole.hidden[1].weight[:3, :4].T + whole.hidden[1].bias[:3]).relu() * factor
        expected = second @ whole.head.weight[:, :3].T + whole.head.bias
        torch.testing.assert_close(narrow(x), expected)


def test_a_cnn_keeps_its_channels_in_groups_of_the_same_size():
    whole, narrow, _ = inside("cnn2d", 0.25, hidden=(16, 24))
    assert [norm.num_groups for norm in whole.norms] == [8, 8]
    assert [norm.num_groups for norm in narrow.norms] == [2, 2]
    assert [norm.num_channels for norm in narrow.norms] == [4, 6]
    # The head takes means and deviations side by side, two bands of each channel: the first channels of each.
    torch.testing.assert_close(narrow.head.weight[:, 12:], whole.head.weight[:, 48:60])
    maps = torch.randn(2, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        of_whole = whole.norms[0](whole.convolutions[0](maps))[:, :4]
        torch.testing.assert_close(narrow.norms[0](narrow.convolutions[0](maps)), of_whole)


@pytest.mark.parametrize("name", ["mlp", "cnn2d"])
def test_rescaled_fewer_units_that_are_all_alike_answer_as_all_of_them_do(name):
    whole, narrow, kept = inside(name, 0.5, hidden=(8, 6) if name == "mlp" else (16, 24), rescale=True)
    row = torch.ones(Schema.of(whole).size)
    Schema.of(whole).bind(whole, row)
    Schema.of(narrow).bind(narrow, row[kept].contiguous())
    x = torch.randn(5, *SHAPES[name], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(narrow(x), whole(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_recurrent_network_keeps_the_first_units_of_each_gate_and_of_each_direction(name, bidirectional):
    """Where the units that are left out say nothing to those that stay, these do what they did."""
    settings = {"hidden": (8, 6), "bidirectional": bidirectional}
    whole, narrow, kept = inside(name, 0.5, **settings)
    for layer, count in zip(whole.layers, (8, 6)):
        with torch.no_grad():
            for own, parameter in layer.named_parameters():
                if own.startswith("weight_hh"):
                    parameter[:, count // 2:] = 0
    with torch.no_grad():
        for reader, count in ((whole.layers[1], 8), (whole.attention.score, 6), (whole.head, 6)):
            for own, parameter in reader.named_parameters():
                if own.startswith("weight_ih") or own == "weight":
                    parameter.view(len(parameter), -1, count)[:, :, count // 2:] = 0
    Schema.of(narrow).bind(narrow, Schema.of(whole).flatten(whole)[kept].contiguous())
    x = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(narrow(x), whole(x))


def test_units_are_a_share_and_at_least_one_multiple():
    assert [units(16, width, 2) for width in (1, 0.5, 0.3, 0.01)] == [16, 8, 4, 2]


def test_the_setting_says_one_width_for_all_or_one_each():
    assert widths(ModelSettings(width=0.5), 3) == (0.5, 0.5, 0.5)
    several = ModelSettings(width="0.25*2,1")
    assert widths(several, 3) == (0.25, 0.25, 1)
    with pytest.raises(ConfigError, match="3 peers, and there are 4"):
        widths(several, 4)
    with pytest.raises(ModelError, match="gives 3 widths"):
        only(several)
    assert only(of_width(several, 0.25)) == 0.25


def test_families_of_one_width_say_so():
    with pytest.raises(ModelError, match=r"'cnn1d' comes in one width.*mlp"):
        models.build(ModelSettings(name="cnn1d", width=0.5), (16, 24), 4, seed=3)


def test_networks_that_do_not_fit_into_each_other_are_refused():
    with pytest.raises(ModelError, match="not inside"):
        held(network("mlp", 1, hidden=(8,)), network("mlp", 1, hidden=(9,)))
    with pytest.raises(ModelError, match="no layer"):
        held(network("mlp", 1, hidden=(8, 8)), network("mlp", 1, hidden=(8,)))


@pytest.mark.parametrize(("whole", "width", "multiple", "kept"), [
    (128, 0.25, 1, 32), (10, 0.25, 1, 3), (10, 0.24, 1, 2), (128, 0.1, 8, 16), (100, 0.125, 4, 12), (64, 0.001, 1, 1),
    (64, 0.001, 8, 8), (7, 1.0, 1, 7),
])
def test_units_are_rounded_to_the_nearest_multiple(whole: int, width: float, multiple: int, kept: int) -> None:
    assert units(whole, width, multiple) == kept
