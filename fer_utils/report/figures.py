"""The READMEs' pictures, a fixed list of aggregates, and the overview on which `make lab` opens.

All are taken from the stored notebooks; ``python -m fer_utils.report.figures`` writes them,
nothing else does.
"""

from __future__ import annotations

import base64
import sys

import nbformat

from fer_utils import data, synthetic
from fer_utils.commandline import run_command
from fer_utils.plotting.dataset import plot_sheet
from fer_utils.plotting.style import png
from fer_utils.report import ROOT, TEMPLATES, ReportError, fingerprint
from fer_utils.report.notebook import find_answer, heading

CHOSEN = (
    "00_mean_faces", "02_history", "03_matrices", "04_class_maps", "04_scores", "05_sheet",
)  # fmt: skip
SHEET = "synthetic_faces"  # drawn here: no stored notebook shows single faces


def stored() -> dict[str, bytes]:
    """Every PNG of the stored notebooks, by the name that ``show`` gave it."""
    found = {}
    for path in fingerprint.chapters(ROOT / "notebooks"):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                about = output.get("metadata", {}).get("image/png", {})
                if "name" in about:
                    found[about["name"]] = base64.b64decode(output.data["image/png"])
    return found


def overview() -> str:
    """notebooks/README.md: the stored chapters' questions and answers."""
    parts = []
    for path in fingerprint.chapters(ROOT / "notebooks"):
        chapter = nbformat.read(path, as_version=4)
        title = heading(chapter.cells[0].source, path.stem)
        answer, _ = find_answer(chapter, path.stem)
        parts.append(f"## [{int(path.stem[:2])} · {title}]({path.name})\n\n{answer}")
    text = (TEMPLATES / "overview.md").read_text("utf-8")
    return text.replace("{chapters}", "\n\n".join(parts))


def sheet() -> bytes:
    """Seven rows of twelve synthetic faces: what the embedded set looks like."""
    faces = synthetic.faces(84)
    return png(plot_sheet(faces.images, faces.labels, data.EMOTIONS))


def write() -> None:
    """Write figures/ and notebooks/README.md."""
    found = stored()
    missing = [name for name in CHOSEN if name not in found]
    if missing:
        raise ReportError(f"no stored notebook shows {missing[0]!r}; refresh: `make notebooks`")
    pictures = {name: found[name] for name in CHOSEN} | {SHEET: sheet()}
    for name, picture in pictures.items():
        (ROOT / "figures" / f"{name}.png").write_bytes(picture)
    (ROOT / "notebooks" / "README.md").write_text(overview(), "utf-8")
    print(f"{len(pictures)} pictures in figures/")


if __name__ == "__main__":
    sys.exit(run_command("figures", write))
