"""Which commit a result was made from."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit(root: Path) -> tuple[str, int]:
    """The commit in words, 'modified' where tracked files differ, and its time (0: none)."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(root), *words]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        revision, _, seconds = git("log", "-1", "--format=%h %ct").partition(" ")
        if not revision:
            return "none", 0
        changed = git("status", "--porcelain", "--untracked-files=no")
        return revision + (", modified" if changed else ""), int(seconds)
    except OSError:
        return "unknown: git is not installed", 0
