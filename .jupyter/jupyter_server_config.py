"""JupyterLab starts in the checkout, its kernels in notebooks/: paths that were given become whole."""

import os

for name in ("FER_DATA", "FER_VOTES", "FER_NETWORK", "FER_RUNS"):
    if os.environ.get(name):
        os.environ[name] = os.path.abspath(os.environ[name])
