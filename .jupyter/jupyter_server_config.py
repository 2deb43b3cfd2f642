"""JupyterLab starts in the checkout, its kernels in notebooks/: paths that were given become whole."""

import os

for variable in ("FER_DATA", "FER_VOTES", "FER_RUNS", "FER_NETWORK"):
    path = os.environ.get(variable)
    if path and (variable != "FER_NETWORK" or ":" in path):  # a network may also be a name
        os.environ[variable] = os.path.abspath(path)
