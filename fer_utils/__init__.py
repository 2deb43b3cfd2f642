"""The module behind the report: what a small CNN sees when it reads a face.

Floors, each importing only from those below it::

    5  report · explore · predict · results
    4  precomputed · train · evaluation
    3  runs · plotting
    2  saliency · filters
    1  synthetic · metrics · derivations · inspection · model
    0  data · commandline
"""

__version__ = "1.0.0"
