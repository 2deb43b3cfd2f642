"""The figures draw any network's results: other classes, any number of filters and layers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from fer_utils.data import EMOTIONS, SPLITS
from fer_utils.plotting import confusion, dataset, filters, saliency, style

RNG = np.random.default_rng(0)
CLASSES = (("calm", "upset"), (*EMOTIONS, "Contempt", "Bored"))


def laid_out(figure):
    """Drawn without a warning, no higher than a page (A4, in inches)."""
    figure.draw_without_rendering()
    assert figure.get_figheight() < 11
    return figure


def test_every_expression_keeps_its_colour_and_other_classes_get_what_is_left():
    assert style.colours(EMOTIONS) == list(style.CLASS_COLOURS.values())
    assert style.colours(["Sad", "calm"])[0] == style.CLASS_COLOURS["Sad"]
    for classes in (["calm", "upset", "Sad"], ["a", "b", "c", "d", "e", "f", "g"]):
        assert len(set(style.colours(classes))) == len(classes)


@pytest.mark.parametrize("count", [3, 16, 128, 600])
def test_a_sheet_has_a_row_a_class_of_its_first_selective_filters(count):
    classes = CLASSES[0]
    responds = [(*classes, None)[k % 3] for k in range(count)]
    pictures = RNG.uniform(0, 255, (count, 5, 5))
    panels = {"optimum": pictures, "mean": pictures}
    ax = laid_out(filters.filter_sheet(panels, np.arange(count), responds, classes)).axes[0]
    texts = []
    for k, name in enumerate(classes):
        texts += [name, *map(str, range(k, count, 3)[:6])]
    assert [text.get_text() for text in ax.texts] == texts
    framed = {to_hex(frame.get_edgecolor()) for frame in ax.patches}
    assert framed == {c.lower() for c in style.colours(classes)}
    ax = laid_out(filters.filter_sheet(panels, np.arange(count), [None] * count, classes)).axes[0]
    assert [text.get_text() for text in ax.texts][:2] == ["not selective", "0"]


@pytest.mark.parametrize("classes", CLASSES)
def test_figures_of_filters_are_drawn_for_other_classes_and_numbers(classes):
    values, pictures = RNG.normal(size=(1500, len(classes))), RNG.uniform(0, 255, (1500, 4, 4))
    outputs = dict.fromkeys(classes, np.zeros((48, 48)))
    rows = {name: k for k, name in enumerate(classes)}
    laid_out(filters.growth(RNG.normal(size=(256, 7, 7)), {}, outputs))
    laid_out(filters.closer_look({"a": (pictures, values[:, 0])}, values, values, rows))
    laid_out(filters.ablation_plot(values, np.sort(values.argmax(1)), classes))
    laid_out(filters.activation_plot({"a": values[:, 0]}))
    figure = filters.feature_maps(np.zeros((48, 48)), {"a": pictures[:2], "b": pictures[:10]})
    assert laid_out(figure).axes[1].get_xlim() == (0, 10)


@pytest.mark.parametrize("classes", CLASSES)
def test_figures_by_class_are_drawn_for_other_classes(classes):
    k = len(classes)
    means, matrix = RNG.uniform(0, 255, (k, 48, 48)), RNG.integers(0, 50, (k, k))
    laid_out(dataset.class_balance(RNG.integers(0, 50, (k, 3)), classes, SPLITS))
    laid_out(dataset.mean_faces(means, classes))
    laid_out(confusion.plot_matrices(matrix, classes))
    maps = RNG.normal(size=(k, 48, 48))
    maps[1] = np.nan
    figure = laid_out(saliency.plot_class_maps(means, {"signed": maps, "amount": maps**2}, classes))
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["no face"] * 2


def test_of_a_long_randomisation_some_steps_are_shown_first_and_last_among_them():
    layers = ["trained", *(f"features.{k}" for k in range(20, -1, -1))]
    steps = {layer: RNG.normal(size=(48, 48)) for layer in layers}
    rho = {"gradient": [1 - k / 100 for k in range(len(layers))]}
    figure = laid_out(saliency.plot_strip(np.zeros((48, 48)), {"gradient": steps}, rho))
    shown = [(ax.get_title(), ax.get_xlabel()) for ax in figure.axes[1:]]
    assert len(shown) == saliency.STEPS
    assert shown[0] == ("trained", "1.00") and shown[-1] == ("features.0", "0.79")


def test_a_class_without_a_face_leaves_the_scale_of_the_other_ones_alone():
    fall = RNG.normal(size=(20, 3))
    fall[:, 2] = np.nan
    figure = laid_out(filters.ablation_plot(fall, np.arange(20) // 10, ("a", "b", "c")))
    limit = np.quantile(abs(fall[:, :2]), 0.995)
    assert figure.axes[0].images[0].get_clim() == (-limit, limit)
    assert style.signed_limit(np.full(3, np.nan)) == style.signed_limit(np.zeros(3)) == 1


def test_a_run_is_drawn_beside_both_networks_that_it_is_compared_with():
    names = ["this run", "2019 recipe", "shipped run fer2013"]
    curve = {"calm": (np.array([0.5, 1]), np.array([1, 0]))}
    drawn = laid_out(confusion.plot_precision_recall(dict.fromkeys(names, curve), {"calm": 0.5}))
    assert [line.get_label() for line in drawn.axes[0].lines] == [*names, "guessing"]
    part = {"lo": [0.4, 0.6], "hi": [0.6, 0.8], "accuracy": [0.5, 0.7]}
    table = pd.DataFrame(part | {"confidence": [0.5, 0.7]})
    drawn = laid_out(confusion.plot_calibration(dict.fromkeys(names, table)))
    assert len({line.get_color() for line in drawn.axes[0].lines[1:]}) == len(names)


def test_pairs_of_two_classes_are_one_row():
    row = {"first": "calm", "second": "upset", "confusability": 0.1, "each": [0.1, 0.12]}
    row |= {"lo": 0.05, "hi": 0.2}
    figure = laid_out(confusion.plot_pairs(pd.DataFrame([row]), [("upset", "calm")]))
    assert figure.axes[0].get_yticklabels()[0].get_text() == "calm–upset"
    assert figure.axes[0].lines[0].get_color() == "black"
