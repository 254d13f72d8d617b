"""Draw the way of the data through the rooms of `pipeline/`.

python docs/figures/draw_data_flow.py
"""

from itertools import pairwise
from pathlib import Path

from svg import BLUE, GRAY, INK, PALE_BLUE, WHITE, arrow, box, figure, text

WIDTH, HEIGHT = 960, 440
COLUMNS = (14, 174, 334, 494, 654, 814)
ROWS = (52, 142, 232, 322)
BOX = (132, 58)
# Rooms of `pipeline/` and what each does, by column and row.
ROOMS = {
    (1, 0): ("synthesis", "synthetic scans"),
    (1, 1): ("cohorts", "layouts, splits"),
    (1, 2): ("finding", "scans of a folder"),
    (1, 3): ("doctor", "issues of the data"),
    (2, 1): ("training", "slices, epochs"),
    (2, 2): ("inference", "segmented scans"),
    (3, 1): ("models", "descriptions"),
    (3, 2): ("lesions", "volumes, positions"),
    (3, 3): ("evaluation", "scores"),
    (4, 2): ("derivatives", "files about scans"),
    (4, 3): ("report", "tables, figures"),
}
# What users bring and get.
FILES = {
    (0, 0): ("heads,", "lesion masks"),
    (0, 1): ("data set:", "T1 scans, masks"),
    (0, 2): ("new scans:", "NIfTI, DICOM, …"),
    (4, 1): ("model file:", ".pt, .safetensors"),
    (5, 2): ("results: masks,", "tables, pages"),
}


def rightward(column: int, row: int) -> str:
    """Return the arrow from a place to the next one in its row."""
    y = ROWS[row] + BOX[1] / 2
    return arrow((COLUMNS[column] + BOX[0], y), (COLUMNS[column + 1] - 1, y))


def place(column: int, row: int, first: str, second: str, is_room: bool) -> list[str]:
    """Return the box of a room, or of files, with its two lines of text."""
    x, y = COLUMNS[column], ROWS[row]
    frame = box(x, y, *BOX, PALE_BLUE, BLUE) if is_room else box(x, y, *BOX, WHITE, GRAY, dash="5 3")
    middle = x + BOX[0] / 2
    head = text(middle, y + 25, first, 15 if is_room else 13, BLUE if is_room else INK, weight="bold" if is_room else "normal")
    return [frame, head, text(middle, y + 44, second, 12.5 if is_room else 13)]


def draw() -> str:
    """Return the figure."""
    shapes = [text(COLUMNS[0], 30, "Rooms of pipeline/ (blue) and files (dashed)", 15, anchor="start", weight="bold")]
    shapes += [shape for at, words in ROOMS.items() for shape in place(*at, *words, is_room=True)]
    shapes += [shape for at, words in FILES.items() for shape in place(*at, *words, is_room=False)]
    along_rows = ((0, 0), (0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (1, 2), (2, 2), (3, 2), (4, 2), (3, 3))
    shapes += [rightward(*at) for at in along_rows]
    shapes += bent_arrows()
    footer = "Not drawn: runtime (errors, files, locks), options (settings of a command), pictures, console (the program)."
    shapes.append(text(COLUMNS[0], HEIGHT - 18, footer, 13, GRAY, anchor="start"))
    return figure(WIDTH, HEIGHT, "The way of the data through the rooms of pipeline/", shapes)


def bent_arrows() -> list[str]:
    """Return the arrows between rows: synthetic scans, models, known lesions, masks to score, data sets to check."""
    half, right = BOX[1] / 2, COLUMNS[1] + BOX[0]
    middles = [x + BOX[0] / 2 for x in COLUMNS]
    between = [(low + BOX[1] + high) / 2 for low, high in pairwise(ROWS)]
    left, gap = (COLUMNS[0] + BOX[0] + COLUMNS[1]) / 2, (right + COLUMNS[2]) / 2
    last = (COLUMNS[2] + BOX[0] + COLUMNS[3]) / 2
    lowest = ROWS[3] + half
    return [
        arrow((right, ROWS[0] + half), (middles[2], ROWS[0] + half), (middles[2], ROWS[1] - 1)),
        arrow((middles[3], ROWS[1] + BOX[1]), (middles[3], between[1]), (middles[2], between[1]), (middles[2], ROWS[2] - 1)),
        arrow((left, ROWS[1] + half), (left, lowest), (COLUMNS[1] - 1, lowest)),
        arrow((gap, ROWS[1] + half), (gap, lowest), (COLUMNS[3] - 1, lowest)),
        text(middles[2], lowest - 8, "known lesions", 12.5, GRAY),
        arrow((last, ROWS[2] + half), (last, between[2]), (middles[3], between[2]), (middles[3], ROWS[3] - 1)),
    ]


if __name__ == "__main__":
    Path(__file__).with_name("data_flow.svg").write_text(draw())
