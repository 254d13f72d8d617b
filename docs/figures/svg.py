"""Shapes of the figures of the documentation, as SVG text.

Plain SVG keeps text as text, so that a figure stays small and its changes can be read.
"""

from collections.abc import Sequence

INK, GRAY, WHITE = "#1f2933", "#7b8794", "#ffffff"
BLUE, PALE_BLUE, ORANGE, PALE_ORANGE = "#2b6ca3", "#e4eef7", "#b4530f", "#fdf0e6"
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"


def text(
    x: float, y: float, words: str, size: float = 13, color: str = INK, anchor: str = "middle", weight: str = "normal"
) -> str:
    """Return a line of text whose baseline is at `y`."""
    style = f'font-size="{size:g}" fill="{color}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str, dash: str = "") -> str:
    """Return a rectangle with rounded corners; `dash` is SVG's pattern of a dashed border."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    style = f'rx="5" fill="{fill}" stroke="{stroke}" stroke-width="1.4"{dashed}'
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" {style}/>'


def arrow(*points: tuple[float, float], color: str = INK, dash: str = "") -> str:
    """Return an arrow through points, with its head at the last one."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    head = "head" if color == INK else "gray"
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dashed} marker-end="url(#{head})"/>'


def figure(width: int, height: int, title: str, shapes: Sequence[str]) -> str:
    """Return a figure on a white ground, with arrow heads defined."""
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L10,5 L0,10 z" fill="{color}"/></marker>'
        for name, color in (("head", INK), ("gray", GRAY))
    )
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" font-family="{FONT}">'
    ground = f'<rect width="{width}" height="{height}" fill="{WHITE}"/>'
    return "\n".join([opening, f"<title>{title}</title>", f"<defs>{heads}</defs>", ground, *shapes, "</svg>"]) + "\n"
