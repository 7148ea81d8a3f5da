"""Figures as files, and as SVG inside a page: of its ink, of no fixed size, with names apart."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

from lightning_al.files import replacing
from lightning_al.history.plots import GRID, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Pictures"]


class Pictures:
    """Saves each figure as SVG and PNG; gives back SVG to put into the page.

    Args:
        folder: where to; made when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []

    def add(self, name: str, figure: Figure) -> str:
        """The figure as an ``<svg>`` element without fixed size, its ink that of the page.

        Raises:
            ValueError: a name that a picture of this page has already.
        """
        from markupsafe import Markup

        if any(path.stem == name for path in self.written):
            raise ValueError(f"two pictures of one page are named {name!r}; give each its own name")
        figure.patch.set_alpha(0.0)
        for axes in figure.axes:
            axes.patch.set_alpha(0.0)
        with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
        svg = text.getvalue()
        for suffix in (".svg", ".png"):
            path = self.folder / f"{name}{suffix}"
            with replacing(path) as file:
                if suffix == ".svg":
                    file.write_text(svg, encoding="utf-8")
                else:
                    figure.savefig(file, dpi=150, facecolor="white")
            self.written.append(path)
        return Markup(_inline(svg, name))  # our own figure; its texts are escaped


def _inline(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img"', svg, count=1)
    for ink in (INK, "#000000"):
        svg = svg.replace(f"fill: {ink}", "fill: currentColor")
        svg = svg.replace(f"stroke: {ink}", "stroke: currentColor")
    svg = svg.replace(f"stroke: {GRID}", "stroke: var(--line)")
    # one page holds several figures: their inner names must not meet
    prefix = re.sub(r"\W", "-", name)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
