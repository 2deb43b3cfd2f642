"""Every command ends in one line for what its caller can mend, and in a traceback for a bug."""

import io
import subprocess
import sys

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


@pytest.mark.parametrize(("encoding", "said"), [("utf-8", "臉 ± 1"), ("cp1252", "? ± 1")])
def test_a_console_that_lacks_a_letter_is_no_error(monkeypatch, encoding, said):
    console = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", console)
    assert run_command("x", lambda: print("臉 ± 1")) == 0
    console.flush()
    assert console.buffer.getvalue().decode(encoding).strip() == said


def test_a_reader_that_has_read_enough_is_no_error():
    code = "from fer_utils.commandline import run_command as r; r('x', lambda: print('y' * 10**6))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        writer.stdout.close()
        assert writer.stderr.read() == b"" and writer.wait() == 0


def test_a_bug_keeps_its_traceback():
    with pytest.raises(RuntimeError):
        command(RuntimeError())
