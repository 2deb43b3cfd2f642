"""How every command of this project ends: one line for what the caller can mend, else a traceback.

Errors of our own (``DataError``, ``RunError`` …) are ``ValueError``; a full disk or a missing file
is an ``OSError``. Anything else is a mistake in the code, and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable


def run_command(
    name: str, function: Callable[[], int | None], interrupted: str = "interrupted"
) -> int:
    """Call ``function`` and return the exit status of command ``name``.

    What it prints has a ? for every letter that the console lacks.

    Returns:
        what ``function`` returned (None counts as 0), 1 after a ValueError or OSError, whose text
        is printed as one line on stderr, 130 after Ctrl-C.
    """
    with contextlib.suppress(AttributeError):  # a notebook's stdout has no encoding to set
        sys.stdout.reconfigure(errors="replace")
    try:
        status = function() or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who read it has read enough, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"{name}: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)
        return 130
