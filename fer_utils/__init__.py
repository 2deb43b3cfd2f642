"""The module behind the report: what a small CNN sees when it reads a face.

Floors, each importing only from those below it::

    5  report · predict
    4  train · aggregates
    3  plotting
    2  runs
    1  synthetic · saliency · filters · faithfulness · metrics · derivations
    0  data · model
"""

__version__ = "1.0.0"
