"""The module behind the report: what a small CNN sees when it reads a face.

Floors, each importing only from those below it::

    6  report
    5  predict · aggregates
    4  train · plotting
    3  runs · faithfulness
    2  saliency · filters · cones · chains
    1  synthetic · metrics · derivations · anatomy
    0  data · model
"""

__version__ = "1.0.0"
