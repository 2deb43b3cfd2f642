"""The READMEs' pictures, a fixed list of aggregates, and the overview on which `make lab` opens.

All are taken from the stored notebooks; ``python -m fer_utils.report.figures [FOLDER]`` writes
them (the overview only without FOLDER), nothing else does.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from fer_utils.report import ROOT, notebook

CHOSEN = (
    "00_mean_faces", "02_history", "03_matrices", "04_class_maps", "04_scores", "05_sheet",
)  # fmt: skip
SHEET = "synthetic_faces"  # drawn here: no stored notebook shows single faces
OVERVIEW = """# What does a small CNN see when it reads a face, and how do we know?

Each chapter asks one question and answers it with what it has computed. Open one and choose
*Run → Run All Cells*: every chapter runs alone, from top to bottom. `RUN` in its first code cell
says whose network it is about. Chapters 3, 4 and 5 end on a panel: choose, and see.
"""


def stored(root: Path = ROOT) -> dict[str, bytes]:
    """Every PNG of the stored notebooks, by the name that ``show`` gave it."""
    found = {}
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                about = output.get("metadata", {}).get("image/png", {})
                if "name" in about:
                    found[about["name"]] = base64.b64decode("".join(output["data"]["image/png"]))
    return found


def overview(root: Path = ROOT) -> str:
    """notebooks/README.md: the stored chapters' questions and answers."""
    parts = [OVERVIEW]
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        read = notebook.read(path)
        parts.append(f"## [{read.number} · {read.title}]({path.name})\n\n{read.answer.source}\n")
    parts.append(
        "*These answers are the stored ones; `make figures` collects them. What they say of "
        "voters is computed from the FER+ votes, © Microsoft Corporation, MIT licence.*\n"
    )
    return "\n".join(parts)


def sheet() -> bytes:
    """Seven rows of twelve synthetic faces: what the embedded set looks like."""
    from fer_utils import data, synthetic
    from fer_utils.plotting.dataset import plot_sheet
    from fer_utils.plotting.style import png

    faces = synthetic.faces(84)
    return png(plot_sheet(faces.images, faces.labels, data.EMOTIONS))


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    folder = Path(arguments[0]) if arguments else ROOT / "figures"
    pictures = stored()
    if missing := [name for name in CHOSEN if name not in pictures]:
        told = f"no stored notebook shows {missing[0]!r}; refresh them: `make notebooks`"
        print(f"figures: {told}", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in {**{n: pictures[n] for n in CHOSEN}, SHEET: sheet()}.items():
        partial = folder / f".{name}.png"
        partial.write_bytes(picture)
        partial.replace(folder / f"{name}.png")
    if not arguments:
        (ROOT / "notebooks" / "README.md").write_text(overview(), "utf-8")
    print(f"{len(CHOSEN) + 1} pictures in {folder}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
