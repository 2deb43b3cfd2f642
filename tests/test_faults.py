"""Every promise of ``faults.py`` is kept."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_every_promise_is_kept_under_its_fault():
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "faults.py"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    number = int(done.stdout.split()[-5])
    assert number >= 50 and done.stdout.endswith(f"{number} of {number} promises kept\n")
