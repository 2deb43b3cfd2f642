"""The network is the report's, layer by layer."""

import re
from collections import Counter

import pytest
import torch

from fer_utils import model as model_module
from fer_utils.filters import receptive_field
from fer_utils.model import NETWORKS, FerCNN, FerResNet, layers

KEYS = [
    *(f"layer{i}.{k}" for i in range(1, 5) for k in ("0.weight", "0.bias", "2.weight", "2.bias",
      "2.running_mean", "2.running_var", "2.num_batches_tracked")),
    *(f"fc.{i}.{k}" for i in (0, 3, 6) for k in ("weight", "bias")),
    *(f"fc.{i}.{k}" for i in (2, 5) for k in ("weight", "bias", "running_mean", "running_var",
      "num_batches_tracked")),
]  # fmt: skip


def test_keys_are_those_of_the_published_weights():
    assert set(FerCNN().state_dict()) == set(KEYS)


def test_parameters_are_counted_as_on_the_reports_page():
    model = FerCNN()
    norms = sum(
        p.numel() for n, p in model.named_parameters() if re.match(r"layer\d\.2|fc\.[25]", n)
    )
    total = sum(p.numel() for p in model.parameters())
    assert (total, total - norms) == (571_207, 569_735)


def test_docstring_table_is_the_networks_own():
    model, parameters = FerCNN(), Counter()
    rows = {row["name"]: row for row in layers(model)}
    for name, row in rows.items():
        parameters[name.split(".")[0]] += row["parameters"]
    lines = model_module.__doc__.splitlines()
    for number in range(1, 5):
        line = next(l for l in lines if l.startswith(f"layer{number}"))
        assert " × ".join(map(str, rows[f"layer{number}.0"]["output"])) in line
        assert line.split()[-1] == str(parameters[f"layer{number}"])
        assert " × ".join(map(str, receptive_field(model, f"layer{number}.0").size)) in line
    assert sum(int(l.split()[-1]) for l in lines if "Linear" in l) == parameters["fc"]


@pytest.mark.parametrize("network", NETWORKS.values())
def test_logits_have_one_column_a_class(network):
    assert network().eval()(torch.zeros(2, 1, 48, 48)).shape == (2, 7)
    assert network(3).eval()(torch.zeros(2, 1, 48, 48)).shape == (2, 3)


def test_the_deeper_networks_table_is_its_own():
    model, sizes = FerResNet(), {}
    for name, part in model.named_children():
        part.register_forward_hook(lambda _, __, y, name=name: sizes.update({name: y.shape[1:]}))
    model.eval()(torch.zeros(1, 1, 48, 48))
    for name, part in model.named_children():
        line = next(l for l in FerResNet.__doc__.splitlines() if l.strip().startswith(name))
        assert line.split()[-1] == str(sum(p.numel() for p in part.parameters()))
        assert " × ".join(map(str, sizes[name])) in line
    convolutions = [r for r in layers(model) if r["kind"] == "Conv2d" and "skip" not in r["name"]]
    assert f"{len(convolutions)} convolutions" in FerResNet.__doc__


def test_a_residual_block_begins_as_its_skip():
    x = torch.randn(4, 32, 6, 6)
    assert torch.equal(FerResNet().stage1[0](x), x.relu())


def test_a_block_is_convolution_activation_norm_pool_in_this_order():
    x = torch.randn(2, 1, 48, 48)
    model = FerCNN().eval()
    convolution, activation, norm, pool = model.layer1
    assert torch.equal(model.layer1(x), pool(norm(activation(convolution(x)))))
    assert activation.negative_slope == 0.05 and pool.kernel_size == 2


def test_a_network_without_weights_is_refused_in_one_line():
    with pytest.raises(ValueError, match="the model has no weights"):
        layers(torch.nn.Flatten())


def test_layers_leaves_the_model_as_it_was():
    model = FerCNN().train()
    layers(model)
    assert model.training and not any(m._forward_hooks for m in model.modules())
