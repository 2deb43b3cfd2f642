"""A network can be asked anything, of whatever make it is, and never notices."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fer_utils import inspection, saliency
from fer_utils.inspection import check_target, conv_name, explained


class Flattening(nn.Module):
    """Two convolutions, flattened by ``view``, as the report's own class of 2019 does it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.last = nn.Conv2d(4, 6, 3)
        self.head = nn.Linear(6 * 36, 5)

    def forward(self, x):
        h = self.last(self.act(self.first(x)))
        return self.head(h.view(len(x), -1))


class Remembering(Flattening):
    """Keeps a map of its graph on itself, which ``copy.deepcopy`` refuses."""

    def forward(self, x):
        self.seen = self.first(x)
        return self.head(self.last(self.act(self.seen + 0)).reshape(len(x), -1))


class Writing(Flattening):
    """Writes to its input and counts its calls in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, x):
        self.asked += 1
        x -= x.mean()
        return super().forward(F.relu(x, inplace=True))


def images(number=3):
    return torch.rand(number, 1, 8, 8, generator=torch.Generator().manual_seed(7))


def locked():
    model = Flattening()
    model.lock = threading.Lock()  # cannot be copied
    return model


def weight_normed():
    model = Flattening()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model.last)
    model(images())  # leaves a weight that belongs to a graph
    return model


def parametrised():
    model = Flattening()
    nn.utils.parametrizations.weight_norm(model.last)
    return model


def remembering():
    model = Remembering()
    model(images())
    return model


@pytest.mark.parametrize(
    "make", [Flattening, Writing, weight_normed, parametrised, remembering, locked]
)
def test_any_network_can_be_asked_and_is_left_as_it_was(make):
    model, x = make(), images()
    model.first.eval()
    model.head.bias.requires_grad_(False)
    truth, kept = model(x.clone()).detach(), x.clone()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyError), explained(model) as net:
        assert not any(module.training for module in net.modules())
        assert not any(weight.requires_grad for weight in net.parameters())
        assert not net.act.inplace and conv_name(net, x) == "last"
        x.requires_grad_()
        logits = net(x)
        torch.testing.assert_close(logits, truth)
        assert torch.autograd.grad(logits.sum(), x)[0].abs().sum() > 0
        raise KeyError("half-way")
    assert torch.equal(x.detach(), kept)
    for name, module in model.named_modules():
        after = vars(module)
        assert after.keys() == before[name].keys()
        assert all(after[key] is value for key, value in before[name].items())
        assert not module._forward_hooks
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_channels_last_where_the_network_takes_it_and_contiguous_where_it_does_not():
    for model, channels_last in ((Remembering(), True), (Flattening(), False)):
        with explained(model) as net:
            net(images())
            memory = torch.channels_last if channels_last else torch.contiguous_format
            assert net.last.weight.is_contiguous(memory_format=memory)
        assert model.last.weight.is_contiguous()


def test_explained_within_explained_is_the_same_network():
    model, x = Flattening(), images()
    with explained(model) as outer, explained(outer) as inner:
        assert torch.equal(inner(x), outer(x))
        assert conv_name(inner, x, model.first) == "first"


def test_two_threads_that_ask_one_network_take_turns():
    model, x, maps = Flattening(), images(), []
    truth = saliency.gradient(model, x, 0)

    def ask():
        for _ in range(200):
            with explained(model):  # all that it reads of the model, it reads in its turn
                pass
        maps.extend(saliency.gradient(model, x, 0) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(maps) == 60 and all(torch.equal(one, truth) for one in maps)
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    assert "forward" not in vars(model)


@torch.no_grad()
def test_calls_come_in_order_with_input_and_output_and_as_often_as_made():
    class Twice(Flattening):
        def forward(self, x):
            return super().forward(self.act(self.act(x)))

    with explained(Twice()) as net:
        record = inspection.calls(net, images())
        assert [name for name, *_ in record] == ["act", "act", "first", "act", "last", "head"]
        for _, module, given, output in record:
            assert torch.equal(module(given), output)
        assert not any(module._forward_hooks for module in net.modules())


def test_an_input_given_by_keyword_is_recorded_too():
    class Keyword(Flattening):
        def forward(self, x):
            return super().forward(self.act(input=x))

    with explained(Keyword()) as net:
        name, _, given, _ = inspection.calls(net, images())[0]
        assert name == "act" and torch.equal(given, images())


def test_activations_end_the_forward_pass_at_their_layer():
    model, x = Flattening(), images()
    model.idle = nn.Conv2d(1, 1, 1)
    with explained(model) as net:
        with pytest.raises(ValueError, match="'idle' takes no part"):
            inspection.activations(net, "idle", x)
        with pytest.raises(ValueError, match="no layer 'nosuch'"):
            inspection.activations(net, "nosuch", x)
        model.head.register_forward_pre_hook(lambda *_: pytest.fail("too far"))
        torch.testing.assert_close(inspection.activations(net, "first", x), model.first(x))


def test_the_last_convolution_is_the_last_that_the_forward_pass_uses():
    model = Flattening()
    model.aux = nn.Conv2d(6, 6, 3)  # defined last, never called
    with explained(torch.compile(model, backend="eager")) as net:
        assert conv_name(net, images()) == "last"
        assert conv_name(net, images(), "aux") == "aux"
        assert conv_name(net, images(), model.first) == "first"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("nosuch", r"no layer 'nosuch' .*have: first, last"),
        ("head", "'head' is Linear, not Conv2d"),
        (nn.Conv2d(1, 1, 1), "no layer Conv2d"),
        (3, "no layer 3"),
        ("", "no layer ''"),
    ],
)
def test_a_layer_that_is_no_convolution_of_the_model_is_named(layer, message):
    with explained(Flattening()) as net, pytest.raises(ValueError, match=message):
        conv_name(net, images(), layer)


def test_a_network_without_a_convolution_is_told_so():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    with explained(linear) as net, pytest.raises(ValueError, match="no Conv2d layer"):
        conv_name(net, images())
    linear.never = nn.Conv2d(1, 1, 1)
    linear.forward = lambda x: linear[1](linear[0](x))
    with explained(linear) as net, pytest.raises(ValueError, match=r"no Conv2d takes part .*never"):
        conv_name(net, images())


def test_target_is_spread_over_the_images():
    with torch.inference_mode():
        made_there = images()
    for x in (images(), made_there):
        assert check_target(x, 4).tolist() == [4, 4, 4]
    for given in ([0, 2, 4], torch.tensor([0, 2, 4], dtype=torch.uint8)):
        target = check_target(images(), given)
        assert target.tolist() == [0, 2, 4] and target.dtype == torch.int64


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (None, "target must be a class index, or one for each image, got None"),
        (5, "target 5 is out of range: the model has classes 0 to 4"),
        (torch.tensor([0, -1, 2]), "target -1 is out of range"),
        ([0, 1], r"shape \(3,\), got \(2,\)"),
        ([0.0, 1, 2], "integers"),
        (True, "integers"),
    ],
)
def test_a_bad_target_gives_one_line(target, message):
    with pytest.raises(ValueError, match=message) as caught:
        saliency.gradient(Flattening(), images(), target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(0, 1, 8, 8), "none of them 0"),
        (torch.zeros(8, 8), r"\(batch, channels, height, width\) .* got \(8, 8\)"),
        (torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "floating-point .* got torch.uint8"),
        (images().numpy(), "floating-point tensor .* got"),
        (torch.full((2, 1, 8, 8), torch.nan), "finite, got nan"),
    ],
)
def test_bad_images_give_one_line(given, message):
    with pytest.raises(ValueError, match=message):
        inspection.check_images(given)


def test_a_refusal_is_quoted_in_one_line():
    for x in (torch.zeros(3, 1, 9, 9), torch.zeros(3, 2, 8, 8), images().double()):
        with pytest.raises(ValueError, match="the model refuses images of shape") as caught:
            saliency.gradient(Flattening(), x, 0)
        said = str(caught.value)
        assert "\n" not in said and str(caught.value.__cause__)[:30] in said
    with pytest.raises(ValueError, match="must return logits"):
        saliency.gradient(nn.Identity(), images(), 0)


@pytest.mark.filterwarnings("ignore")  # torch's, that TorchScript is old
def test_what_cannot_be_explained_is_told_the_way_out():
    with torch.inference_mode(), pytest.raises(ValueError, match=r"leave torch\.inference_mode"):
        explained(Flattening()).__enter__()
    scripted = torch.jit.trace(Flattening(), images())
    for model in (scripted, nn.Sequential(scripted)):
        with pytest.raises(ValueError, match=r"give the nn\.Module"):
            explained(model).__enter__()
    with pytest.raises(ValueError, match=r"must be an nn\.Module, got function"):
        explained(images).__enter__()


def test_counts_must_be_whole_numbers():
    inspection.whole_number(steps=1, samples=np.int64(2))
    for wrong in (0, 2.0, True, "3"):
        with pytest.raises(ValueError, match="steps must be a whole number, 1 or more, got"):
            inspection.whole_number(steps=wrong)
