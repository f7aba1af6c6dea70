"""A matplotlib figure that notebooks show without a magic command."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure whose PNG notebooks show, whether or not they were told to show figures of matplotlib."""

    def png(self) -> bytes:
        """Return the figure as the content of a PNG file."""
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()

    def _repr_png_(self) -> bytes:
        """Return the PNG that notebooks show."""
        return self.png()
