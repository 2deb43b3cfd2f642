"""The module behind the report: what a small CNN sees when it reads a face.

Floors, each importing only from those below it::

    7  report · explore · predict · results
    6  precomputed
    5  train · evaluation
    4  runs · plotting
    3  saliency · filters · networks
    2  synthetic · metrics · derivations · model
    1  data · inspection
    0  commandline · revision
"""

__version__ = "1.1.0"
