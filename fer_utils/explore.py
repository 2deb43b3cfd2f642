"""The panels of chapters 3, 4 and 5: choose in JupyterLab, and see.

``confusion(run)``, ``saliency(run)`` and ``filters(run)`` return a ``Panel``. Where a person sits
before the notebook it shows controls over one picture, drawn anew at each choice. Everywhere else
(nbconvert, papermill, nbval; so in HTML, in the PDF and in the stored notebooks) it shows what
its first choice gives, like any figure of the chapter. No widget is made there, so none is stored.

It tells by the request that runs the cell: in Jupyter's protocol a front end says with
``allow_stdin`` whether somebody is there to answer a question. Those three say no.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch
from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from fer_utils import evaluation
from fer_utils.data import read_faces
from fer_utils.data.ferplus import COLUMNS, EMOTION_OF_COLUMN
from fer_utils.data.files import PICTURE_SUFFIXES
from fer_utils.plotting import panels as draw
from fer_utils.plotting import show
from fer_utils.precomputed import cards
from fer_utils.runs import Run

MOST = 12  # faces of a cell that are shown
FACES = 210  # faces to choose from
ANSWER = "its answer"


def live() -> bool:
    """Whether the cell at work was run by a front end with a person before it."""
    kernel = getattr(get_ipython(), "kernel", None)
    request = kernel.get_parent("shell") if kernel else {}
    return bool(request.get("content", {}).get("allow_stdin"))


@dataclass
class Panel:
    """Lists to choose from, over one picture; ``name`` is that of the static figure.

    ``options`` gives what there is to choose, {label: values}, for a choice made so far.
    ``view`` shows a whole choice, {label: value}: in words, and as a figure or None. ``choice`` is
    the first one, where it is not the first value of each list. ``receive`` takes an uploaded
    picture's name and bytes, and returns the choice that shows it.
    """

    name: str
    options: Callable[[dict], dict[str, list[str]]]
    view: Callable[[dict], tuple[str, Figure | None]]
    choice: dict[str, str] = field(default_factory=dict)
    receive: Callable[[str, bytes], dict] | None = None

    def __post_init__(self):
        self.choice = self.settled(self.choice)

    def settled(self, wanted: dict) -> dict:
        """A whole choice: what is wanted where it is on offer, else the first value."""
        offered = self.options(wanted).items()
        return {k: wanted[k] if wanted.get(k) in values else values[0] for k, values in offered}

    @cached_property
    def box(self) -> widgets.VBox:
        self.controls = {label: widgets.Dropdown(description=label) for label in self.choice}
        for control in self.controls.values():
            control.observe(self.chosen, "value")
        self.shown = widgets.HTML()  # and not Image, which has no text alternative
        row = [*self.controls.values()]
        if self.receive:
            self.upload = widgets.FileUpload(
                accept=",".join(PICTURE_SUFFIXES), description="a picture of yours"
            )
            self.upload.layout.width = "max-content"  # a button's own width cuts the text off
            self.upload.observe(self.uploaded, "value")
            row.append(self.upload)
        self.choose(self.choice)
        return widgets.VBox([widgets.Box(row, layout={"flex_flow": "row wrap"}), self.shown])

    def chosen(self, _) -> None:
        self.choose({label: control.value for label, control in self.controls.items()})

    def uploaded(self, change) -> None:
        for file in change["new"]:
            try:
                self.choose(self.choice | self.receive(file["name"], bytes(file["content"])))
            except (ValueError, OSError) as error:
                self.complain(error)

    def choose(self, wanted: dict) -> None:
        """Set the controls to a choice and show it; a complaint is shown in its place."""
        self.choice = self.settled(wanted)
        for label, values in self.options(self.choice).items():
            control = self.controls[label]
            control.unobserve(self.chosen, "value")
            if control.options != tuple(values):
                control.options = values
            control.value = self.choice[label]
            control.observe(self.chosen, "value")
        try:
            told, figure = self.view(self.choice)
        except (ValueError, OSError) as error:
            self.complain(error)
            return
        told, picture = html.escape(told), ""
        if figure:
            source = draw.data_url(figure)
            picture = f'<img src="{source}" alt="{told}" style="max-width: 100%">'
        self.shown.value = f"{picture}<p>{told}</p>"

    def complain(self, error: Exception) -> None:
        self.shown.value = f'<p role="alert">{html.escape(str(error))}</p>'

    def _ipython_display_(self) -> None:
        if live():
            display(self.box)
            return
        told, figure = self.view(self.choice)
        more = f"{told} In JupyterLab: choose {', '.join(self.choice)}."
        if figure:
            show(figure, self.name, alt=told, caption=more)
        else:
            display(Markdown(more))


def confusion(run: Run) -> Panel:
    """The faces behind a cell of the confusion matrix: label, prediction, split.

    Its surest twelve with row, confidence and, where there are, the votes of people; their
    number alone where the images are not at hand.
    """
    classes = list(run.classes)
    scores = run.predictions[classes].to_numpy()
    tested = run.predictions[["row", "split"]].assign(
        label=pd.Categorical.from_codes(run.predictions["label"], classes),
        prediction=pd.Categorical.from_codes(scores.argmax(1), classes),
        confidence=scores.max(1),
    )
    splits = sorted(set(tested["split"]))

    def view(choice: dict) -> tuple[str, Figure | None]:
        cell = tested[(tested[list(choice)] == list(choice.values())).all(axis=1)]
        surest = cell.sort_values("confidence", ascending=False, kind="stable")[:MOST]
        told = (
            f"{choice['split']}: {len(cell)} of the faces labelled {choice['label']} were read as "
            f"{choice['prediction']}."
        )
        if cell.empty:
            return told, None
        if (faces := run.faces(rows=surest["row"].to_numpy())) is None:
            return f"{told} Their images are not at hand.", None
        told += f" Shown are the {len(surest)} surest, with row and confidence."
        captions = [f"{of.row}: {of.confidence:.0%}" for of in surest.itertuples()]
        if faces.votes is not None:
            people = map(said_by_people, faces.votes)
            captions = [f"{own}\n{theirs}" for own, theirs in zip(captions, people, strict=True)]
        return told, draw.faces_in_rows(faces.images, captions)

    options = {"label": classes, "prediction": classes, "split": splits}
    wrong = tested[(tested["split"] == splits[0]) & (tested["label"] != tested["prediction"])]
    most = wrong.groupby(["label", "prediction"], observed=True).size()
    start = dict(zip(most.index.names, most.idxmax(), strict=True)) if len(most) else {}
    return Panel("03_behind", lambda _: options, view, start)


def said_by_people(votes: np.ndarray) -> str:
    """The two commonest answers of ten people (10,), in FER+'s columns: 'Fear 4, Sad 3'."""
    names = [name or column for name, column in zip(EMOTION_OF_COLUMN, COLUMNS, strict=True)]
    most = [k for k in np.argsort(-votes, kind="stable")[:2] if votes[k]]
    return ", ".join(f"{names[k]} {votes[k]}" for k in most)


def saliency(run: Run) -> Panel:
    """A face, or a picture of one's own, with the map of a method for a class.

    Faces of the run's test split; where its images are not at hand, those of the run
    ``synthetic`` with that run's network. An uploaded picture is always read by ``run``.
    """
    methods = evaluation.without_controls(evaluation.METHODS)
    source = run if run.faces(rows=[0]) is not None else Run.load("synthetic")
    tested = source.predictions.query("split == @source.test_split")["row"].to_numpy()[:FACES]
    faces = source.faces(rows=tested)
    pictures = {
        f"{row}: {source.classes[k]}": (source, face, "")
        for row, k, face in zip(tested, faces.labels, faces.images, strict=True)
    }

    def options(choice: dict) -> dict[str, list[str]]:
        of, _, _ = pictures.get(choice.get("face"), (source, None, ""))
        return {"face": list(pictures), "class": [ANSWER, *of.classes], "method": methods}

    def view(choice: dict) -> tuple[str, Figure]:
        of, face, note = pictures[choice["face"]]
        one, name, method = face[None], choice["class"], evaluation.METHODS[choice["method"]]
        scores = of.predict(one)[0]
        k = int(scores.argmax()) if name == ANSWER else of.classes.index(name)
        map_ = method.maps(of.model(), of.scale(one), torch.tensor([k]))[0, 0].numpy()
        told = (
            f"Face {choice['face']}, network {of.name}: {of.classes[scores.argmax()]} "
            f"({scores.max():.0%}). Map: {choice['method']} for {of.classes[k]}; red, "
            f"{'brighter helps' if method.direction else 'speaks for'} it.{note}"
        )
        return told, draw.one_map(face, map_, method.unit, scores, of.classes)

    def receive(name: str, content: bytes) -> dict:
        face, how = read_faces(content, name)[0]
        pictures[f"yours: {name}"] = (run, face, f" {name}: {how}.")
        return {"face": f"yours: {name}", "class": ANSWER}

    return Panel("04_choose", options, view, receive=receive)


def filters(run: Run) -> Panel:
    """The card of a filter of the last layer: its pictures, its tuning, what its loss costs."""
    card, classes = run.read("filters"), run.classes
    names = [str(k) for k in range(len(card["free"]))]

    def view(choice: dict) -> tuple[str, Figure]:
        k = int(choice["filter"])
        pictures = {
            title.replace("\n", " "): (card[kind][k], cards.normalised(card, kind)[k])
            for kind, title in cards.KINDS.items()
        }
        told = on_card(card, k, classes)
        return told, draw.one_card(pictures, card["tuning"][k], card["logit_fall"][k], classes)

    start = {"filter": str(cards.closer(card)[0])}
    return Panel("05_choose", lambda _: {"filter": names}, view, start)


def on_card(card: dict, k: int, classes: tuple[str, ...]) -> str:
    """A filter's card in words."""
    if np.isnan(card["tuning"][k]).all():
        return f"Filter {k} responds to all faces alike."
    row = cards.by_filter(card, classes).loc[k]
    limit = np.median(cards.by_chance(card))
    told = (
        f"Filter {k} responds most to {row['responds to']} ({row.tuning:+.1f} sd); the class "
        f"explains {row.eta_squared:.0%} of its variance (in an untrained network {limit:.0%} or less, "
        f"for 95 % of the filters). Without it {row['missed by']} loses most "
        f"({row.logit_fall:+.2f} nats)."
    )
    return told + (" It is inactive." if k in card["inactive"] else "")
