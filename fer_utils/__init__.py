"""The module behind the report: what a small CNN sees when it reads a face.

Floors, each importing only from those below it::

    6  explore
    5  report · predict · precomputed · results
    4  train
    3  runs · plotting · evaluation
    2  saliency · filters
    1  synthetic · metrics · derivations · anatomy · cones · model
    0  data · chains · revision · commandline
"""

__version__ = "1.0.0"
