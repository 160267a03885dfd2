"""`densevision visualize`: methods that look into a network, one method a file and a line here.

Like the command tree, this imports nothing heavy: a method's own module is imported when it is called.
"""

from __future__ import annotations

from cyclopts import App, Parameter

app = App(
    name="visualize",
    help="Look into a network: what its units see.",
    default_parameter=Parameter(negative_iterable=()),
)
HERE = f"{__package__}"
app.command(
    f"{HERE}.receptive_field:receptive_field",
    name="receptive-field",
    help="Print the exact receptive field of every level, or draw it over a photograph.",
)
