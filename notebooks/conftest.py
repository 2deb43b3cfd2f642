"""The replay (`pytest --nbval`) compares results; what a machine says on stderr is only shown.

Such lines depend on the machine (a font that another environment's cache lacks), never on what a
cell computes. A cell's errors still fail it.

The cells of a notebook need each other, so they stay in one worker (`pytest --nbval -n 2`); and
they run in this environment's kernel, whatever name JupyterLab saved the notebook under.
"""

import pytest


def pytest_configure(config):
    if getattr(config.option, "nbval", False):
        config.option.nbval_current_env = not config.option.nbval_kernel_name
        if getattr(config.option, "dist", "no") == "load":
            config.option.dist = "loadscope"


def pytest_collection_modifyitems(items):
    for notebook in {item.parent for item in items if hasattr(item.parent, "skip_compare")}:
        notebook.skip_compare = (*notebook.skip_compare, "stderr")


def pytest_runtest_teardown(item):
    for output in getattr(item, "test_outputs", None) or []:
        if output.get("name") == "stderr":
            item.warn(pytest.PytestWarning(f"said on stderr: {output['text']}"))
