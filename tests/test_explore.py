"""The panels: a choice changes what is shown; without a person before them they are figures."""

import io
import re
import warnings
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from ipywidgets.widgets import widget
from PIL import Image

from fer_utils import evaluation, explore, metrics
from fer_utils.plotting import style
from fer_utils.runs import Run


@pytest.fixture(scope="module")
def drawn():
    return Run.load("synthetic")


@pytest.fixture(scope="module")
def real():
    return Run.load("fer2013")


def opened(panel):
    assert panel.box.children[0].children[: len(panel.controls)] == tuple(panel.controls.values())
    return panel


def picture(panel):
    return re.search(r'src="data:image/png;base64,([^"]+)"', panel.shown.value)[1]


@pytest.mark.parametrize("parent, expected", [
    ({"content": {"allow_stdin": True}}, True), ({"content": {"allow_stdin": False}}, False),
    ({"content": {}}, False), ({}, False),
])  # fmt: skip
def test_a_panel_is_live_where_the_front_end_can_answer(monkeypatch, parent, expected):
    assert not explore.live()  # no kernel at all
    shell = SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda channel: parent))
    monkeypatch.setattr(explore, "get_ipython", lambda: shell)
    assert explore.live() is expected


@pytest.mark.parametrize("name", ["confusion", "saliency", "filters"])
def test_without_a_person_a_panel_is_a_figure_and_makes_no_widget(
    monkeypatch, tmp_path, drawn, name
):
    outputs, before = [], len(widget._instances)
    for module in (explore, style):
        monkeypatch.setattr(module, "display", lambda *of, **more: outputs.append((of, more)))
    monkeypatch.setenv("FER_FIGURES", str(tmp_path))
    with warnings.catch_warnings(action="error", category=UserWarning):
        getattr(explore, name)(drawn)._ipython_display_()
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg"}
    (((data,), more),) = outputs
    assert data["image/png"].startswith(b"\x89PNG") and len(widget._instances) == before
    about = more["metadata"]["image/png"]
    assert len(about["alt"]) > 20 and about["alt"] in about["caption"]
    assert "In JupyterLab: choose" in about["caption"] and "In JupyterLab" not in about["alt"]


def test_without_images_the_static_cell_says_how_many_and_names_no_row(monkeypatch, real):
    outputs = []
    monkeypatch.setattr(explore, "display", outputs.append)
    explore.confusion(real)._ipython_display_()
    (sentence,) = outputs
    assert "not at hand" in sentence.data and "In JupyterLab" in sentence.data
    assert len(re.findall(r"\d+", sentence.data)) == 1


def test_every_cell_of_the_matrix_counts_its_faces(real):
    panel = explore.confusion(real)
    tested = real.predictions.query("split == 'PublicTest'")
    answers = tested[list(real.classes)].to_numpy().argmax(1)
    matrix = metrics.confusion_matrix(tested["label"].to_numpy(), answers, len(real.classes))
    for (a, b), n in np.ndenumerate(matrix):
        label, prediction = real.classes[a], real.classes[b]
        choice = {"label": label, "prediction": prediction, "split": "PublicTest"}
        assert panel.view(choice)[0].startswith(f"PublicTest: {n} of the faces labelled {label}")


def test_the_first_cell_shown_is_the_largest_mistake(real):
    assert explore.confusion(real).choice == {
        "label": "Sad", "prediction": "Neutral", "split": "PrivateTest",
    }  # fmt: skip


def test_choosing_a_cell_shows_its_faces_with_the_votes_of_people(monkeypatch, drawn):
    shown = []
    monkeypatch.setattr(
        explore.draw, "faces_in_rows", lambda *of: shown.append(of) or style.figure()[0]
    )
    panel = opened(explore.confusion(drawn))
    panel.controls["split"].value = "PublicTest"
    panel.controls["label"].value = "Happy"
    panel.controls["prediction"].value = "Happy"
    images, captions = shown[-1]
    assert len(images) == explore.MOST and len(captions) == explore.MOST
    rows = [int(caption.split(":")[0]) for caption in captions]
    faces = drawn.faces(rows=rows)
    assert np.array_equal(images, faces.images)
    assert set(faces.labels) == {drawn.classes.index("Happy")}
    assert set(faces.split) == {"PublicTest"}
    assert captions[0].split("\n")[1] == explore.said_by_people(faces.votes[0])


def test_votes_are_named_in_the_order_of_their_number():
    assert explore.said_by_people(np.array([0, 0, 0, 3, 0, 0, 6, 1, 0, 0])) == "Fear 6, Sad 3"
    assert explore.said_by_people(np.array([0, 0, 0, 0, 0, 0, 0, 0, 10, 0])) == "unknown 10"


def test_face_class_and_method_each_change_the_map(drawn):
    panel = opened(explore.saliency(drawn))
    seen = {picture(panel)}
    for label, value in (("method", "SmoothGrad"), ("method", "occlusion"), ("class", "Happy"),
                         ("face", panel.controls["face"].options[3])):  # fmt: skip
        panel.controls[label].value = value
        assert value in panel.shown.value
        assert picture(panel) not in seen
        seen.add(picture(panel))
    panel.controls["method"].value = "SmoothGrad"
    again = picture(panel)
    panel.controls["method"].value = "gradient"
    panel.controls["method"].value = "SmoothGrad"
    assert picture(panel) == again  # its noise is the same at each choice


def test_without_images_the_faces_are_drawn_and_their_own_network_reads_them(real):
    panel = explore.saliency(real)
    assert "network synthetic" in panel.view(panel.choice)[0]


def test_a_run_of_other_classes_asks_each_network_for_its_own(drawn, few_faces):
    own = SimpleNamespace(name="own", classes=("calm", "upset"), faces=lambda rows: None)
    panel = explore.saliency(own)
    assert panel.options({})["class"] == [explore.ANSWER, *drawn.classes]
    content = io.BytesIO()
    Image.fromarray(few_faces.images[0]).save(content, "PNG")
    mine = panel.receive("me.png", content.getvalue())
    assert panel.options(mine)["class"] == [explore.ANSWER, "calm", "upset"]


def upload(panel, name, image):
    buffer = io.BytesIO(b"no picture")
    if image is not None:
        image.save(buffer, "PNG")
    content = buffer.getvalue()
    about = {"name": name, "type": "", "size": len(content), "last_modified": datetime.now(UTC)}
    panel.upload.value = (about | {"content": memoryview(content)},)


def test_a_picture_of_ones_own_is_read_by_the_run(real, few_faces):
    panel = opened(explore.saliency(real))
    upload(panel, "me & you.png", Image.fromarray(few_faces.images[0]))
    scores = real.predict(few_faces.images[:1])[0]
    assert panel.controls["face"].value == "yours: me & you.png"
    said = f"network fer2013: {real.classes[scores.argmax()]} ({scores.max():.0%})"
    assert said in panel.shown.value and "me &amp; you.png" in panel.shown.value


def test_a_cropped_upload_says_so_and_a_bad_one_gives_one_clear_line(real):
    panel = opened(explore.saliency(real))
    upload(panel, "wide.png", Image.new("RGB", (90, 60), "grey"))
    assert "central square" in panel.shown.value and "/tmp" not in panel.shown.value
    upload(panel, "<b>.png", None)
    assert panel.shown.value.startswith('<p role="alert">&lt;b&gt;.png: no picture')
    assert "\n" not in panel.shown.value and panel.controls["face"].value == "yours: wide.png"
    panel.controls["method"].value = "Grad-CAM"
    assert "wide.png" in panel.shown.value and picture(panel)


def test_a_method_that_the_network_does_not_allow_is_told_in_place_of_its_map(monkeypatch, drawn):
    def refused(*_):
        raise ValueError("no <ReLU> layer")

    panel = opened(explore.saliency(drawn))
    method = evaluation.Method(refused, direction=True)
    monkeypatch.setitem(evaluation.METHODS, "occlusion", method)
    panel.controls["method"].value = "occlusion"
    assert panel.shown.value == '<p role="alert">no &lt;ReLU&gt; layer</p>'


def test_every_filter_of_the_last_layer_has_its_card(real):
    panel = opened(explore.filters(real))
    control = panel.controls["filter"]
    assert len(control.options) == 128
    for name in (control.options[0], control.options[-1]):
        control.value = name
        assert f"Filter {name} responds most to" in panel.shown.value and picture(panel)


def test_a_filter_that_responds_to_all_faces_alike_prefers_no_class(real):
    card = real.read("filters")
    card["tuning"][5] = np.nan
    run = SimpleNamespace(read=lambda _: card, model=real.model, classes=real.classes)
    panel = opened(explore.filters(run))
    panel.controls["filter"].value = "5"
    assert "Filter 5 responds to all faces alike.<" in panel.shown.value and picture(panel)


def test_a_run_whose_private_test_was_not_scored_shows_its_public_test(drawn):
    public = drawn.predictions.query("split == 'PublicTest'")
    run = SimpleNamespace(predictions=public, test_split="PublicTest", name="mine",
                          classes=drawn.classes, faces=drawn.faces)  # fmt: skip
    rows = [int(face.split(":")[0]) for face in explore.saliency(run).options({})["face"]]
    assert rows == public["row"].tolist()[: explore.FACES]
