"""Numbers and lists as text: what tables, captions and sentences of the chapters share."""

from __future__ import annotations

import numpy as np


def percent(value: float) -> str:
    """``41``; a dash where there is nothing to tell."""
    return "–" if np.isnan(value) else f"{100 * value:.0f}"


def said(value: float, lo: float, hi: float, digits: int = 3) -> str:
    """``0.412 [0.391, 0.433]``; a dash where there is nothing to tell."""
    if np.isnan(value):
        return "–"
    return f"{value:.{digits}f} [{lo:.{digits}f}, {hi:.{digits}f}]"


def said_percent(value: float, lo: float, hi: float) -> str:
    """``41 % [39, 43]``."""
    return f"{percent(value)} % [{percent(lo)}, {percent(hi)}]"


def listed(names, none: str = "none", last: str = "and") -> str:
    """``a, b and c``."""
    *front, end = list(names) or [none]
    return f"{', '.join(front)} {last} {end}" if front else end


def pair_names(table) -> list[str]:
    """``Sad–Neutral`` for each row of a table with the columns first and second."""
    return [f"{a}–{b}" for a, b in zip(table["first"], table["second"], strict=True)]
