"""Chapter 1 draws and counts any network, not the report's alone."""

import pytest
import torch
from torch import nn

from fer_utils.model import FerCNN, FerResNet, Residual, layers
from fer_utils.plotting.network import map_boxes, network_drawing


class Separable(nn.Module):
    """Depthwise and pointwise convolutions, a mean over places, all flattened by ``view``."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.SiLU(),
            nn.Conv2d(8, 8, (5, 3), 1, (2, 1), groups=8, bias=False), nn.Conv2d(8, 16, 1),
            nn.MaxPool2d((2, 3)), nn.Conv2d(16, 40, 1), nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.head = nn.Linear(40, 7)

    def forward(self, x):
        return self.head(self.features(x).view(len(x), -1))


class SmallResidual(nn.Module):
    """A skip, and a mean over places that is no layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, 4, 1), nn.BatchNorm2d(4))
        self.stage, self.fc = Residual(4, 8, 2), nn.Linear(8, 7)

    def forward(self, x):
        return self.fc(self.stage(self.stem(x)).mean((2, 3)))


class NoHead(nn.Sequential):
    """A convolution for each class and their means: no linear layer; a PReLU holds a weight."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 6, 3, 2), nn.PReLU(), nn.BatchNorm2d(6, affine=False),
            nn.Conv2d(6, 7, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip


def test_the_drawing_shows_the_maps_of_each_size_and_what_led_there():
    boxes = map_boxes(layers(FerCNN()))
    assert [box["shape"] for box in boxes] == [
        (1, 48, 48), (32, 24, 24), (64, 12, 12), (128, 6, 6), (128, 3, 3)
    ]  # fmt: skip
    assert boxes[1] == {"shape": (32, 24, 24), "name": "layer1", "below": "conv 5×5\npool 2×2"}
    assert map_boxes(layers(FerResNet()))[-1]["below"].endswith("then 2 conv 3×3")
    assert [box["shape"] for box in map_boxes(layers(Separable()))] == [
        (1, 48, 48), (8, 24, 24), (16, 12, 8), (40, 1, 1)
    ]  # fmt: skip


def test_the_last_maps_are_drawn_where_only_the_channels_grew():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 48 * 48, 7))
    boxes = map_boxes(layers(model))
    assert [box["shape"] for box in boxes] == [(1, 48, 48), (4, 48, 48)]


@pytest.mark.parametrize("network", [FerCNN, FerResNet, SmallResidual, Separable, NoHead])
def test_every_vector_and_map_stands_in_the_drawing(network):
    rows = layers(network())
    written = {text.get_text() for text in network_drawing(rows).axes[0].texts}
    assert {"×".join(map(str, box["shape"])) for box in map_boxes(rows)} <= written
    assert {str(row["output"][0]) for row in rows if row["kind"] == "Linear"} <= written


@pytest.mark.parametrize(
    "network, found",
    [
        (SmallResidual, "convolutions: 4, linear layers: 1"),
        (Separable, "convolutions: 4, linear layers: 1"),
        (NoHead, "convolutions: 2, linear layers: 0"),
    ],
)
def test_the_chapter_counts_any_network_by_hand(answer_with, network, found):
    torch.manual_seed(0)
    model = network().eval()
    answer = answer_with("01_architecture", model)
    number = sum(p.numel() for p in model.parameters())
    assert f"{found}; **{number:,} parameters**, as counted by hand" in answer
    assert answer.startswith("- **This network is `Own`**, another than that of 2019.")


def test_the_chapter_confirms_the_reports_network(answer_with):
    answer = answer_with("01_architecture", FerCNN().eval())
    assert "three linear layers and 6 norms; **571,207 parameters**, as counted by hand" in answer
    assert "40×40 pixels. - **The claim holds" in answer
