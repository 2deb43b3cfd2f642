"""The replay (`pytest --nbval`) compares results; what a machine says on stderr is only shown.

Such lines depend on the machine (a font that another environment's cache lacks), never on what a
cell computes. A cell's errors still fail it.
"""

import pytest


def pytest_collection_modifyitems(items):
    for notebook in {item.parent for item in items if hasattr(item.parent, "skip_compare")}:
        notebook.skip_compare = (*notebook.skip_compare, "stderr")


def pytest_runtest_teardown(item):
    for output in getattr(item, "test_outputs", None) or []:
        if output.get("name") == "stderr":
            item.warn(pytest.PytestWarning(f"said on stderr: {output['text']}"))
