"""Every command ends in one line for what its caller can mend, and in a traceback for a bug."""

import pytest

from fer_utils.commandline import run_command


def command(error):
    def function():
        raise error

    return run_command("x", function)


def test_the_status_is_that_of_the_command():
    assert run_command("x", lambda: None) == 0 and run_command("x", lambda: 3) == 3


def test_what_the_caller_can_mend_is_one_line(capsys):
    assert command(ValueError("runs/a: damaged;\nget it again")) == 1
    assert capsys.readouterr().err == "x: runs/a: damaged; get it again\n"
    assert command(FileNotFoundError(2, "No such file", "a.csv")) == 1
    assert capsys.readouterr().err == "x: [Errno 2] No such file: 'a.csv'\n"
    assert command(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "x: interrupted\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(RuntimeError):
        command(RuntimeError())
