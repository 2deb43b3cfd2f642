"""The module behind the report: what a small CNN sees when it reads a face.

Floors, each importing only from those below it::

    6  report · explore · predict · results
    5  precomputed
    4  train · evaluation
    3  runs · plotting
    2  saliency · filters · networks
    1  synthetic · metrics · derivations · model
    0  data · inspection · commandline · revision
"""

__version__ = "1.0.0"
