"""Every figure of the report, in one style: arrays and tables in, Figure out.

``style`` holds colours, sizes and ``show``; beside it one file for each chapter's figures.
"""

from fer_utils.plotting.style import show
