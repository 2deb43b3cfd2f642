"""Every command ends in one line for what its caller can mend, and in a traceback for a bug."""

import pytest

from fer_utils.commandline import run_command


def raising(error):
    def function():
        raise error

    return function


def test_the_status_is_that_of_the_command():
    assert run_command("x", lambda: None) == 0
    assert run_command("x", lambda: 3) == 3


@pytest.mark.parametrize(
    "error, status, line",
    [
        (ValueError("runs/a: damaged;\nget it again"), 1, "x: runs/a: damaged; get it again\n"),
        (FileNotFoundError(2, "No such file", "a.csv"), 1, "x: [Errno 2] No such file: 'a.csv'\n"),
        (KeyboardInterrupt(), 130, "x: interrupted\n"),
    ],
)
def test_what_the_caller_can_mend_is_one_line(capsys, error, status, line):
    assert run_command("x", raising(error)) == status
    assert capsys.readouterr().err == line


def test_a_bug_keeps_its_traceback():
    with pytest.raises(RuntimeError):
        run_command("x", raising(RuntimeError()))
