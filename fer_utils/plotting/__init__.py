"""Every figure of the report, in one style: arrays and tables in, Figure out.

``style`` holds colours, sizes and ``show``; beside it the chapters' figures, a file a chapter, the
panels' in ``panels``, and ``text`` for numbers and tables in words.
"""

from fer_utils.plotting.style import show
