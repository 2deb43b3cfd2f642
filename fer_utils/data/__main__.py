"""``python -m fer_utils.data PATH [VOTES]``: what a copy of FER2013 holds and what is odd in it."""

import argparse
import sys

from fer_utils.commandline import run_command

from . import describe, load, summary_lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fer_utils.data", description=__doc__)
    parser.add_argument("path", help="file or folder with the faces")
    parser.add_argument("votes", nargs="?", help="FER+'s fer2013new.csv")
    parser.add_argument("--classes", help="names with commas between (default: $FER_CLASSES)")
    options = parser.parse_args()

    def show() -> None:
        faces = load(options.path, options.votes, options.classes)
        print(*summary_lines(faces), describe(faces), sep="\n")

    return run_command("data", show)


if __name__ == "__main__":
    sys.exit(main())
