"""The failure picture of the model card: the worst scans of a scored cohort, T1, truth and prediction beside each other.

    python tests/benchmarks/picture_failures.py qc/scored/mixed docs/failures.jpg

The folder is a run that `evaluating --scored all` has scored, which leaves pictures of the ten scans with the lowest Dice of
main and sub together. Those with more than `--least_ml` of lesion are shown.
"""

import argparse
from pathlib import Path

import pandas as pd
from PIL import Image

COLUMNS = 2
QUALITY = 85


def worst(scored: Path, least_ml: float) -> list[Path]:
    """Return the pictures of the worst scans, the worst first, and print what they are."""
    known = pd.read_csv(scored / "worst.csv").query("truth_ml > @least_ml")
    print(known.round(2).to_string(index=False))
    return [scored / name for name in known["picture"]]


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Return pictures in `COLUMNS` columns, all as large as the first."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (COLUMNS * width, -(-len(pictures) // COLUMNS) * height))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, COLUMNS)
        sheet.paste(picture.resize((width, height)), (column * width, row * height))
    return sheet


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--least_ml", type=float, default=0.3)
    parser.add_argument("--width_px", type=int, default=960)
    parser.add_argument("--scans", type=int, default=6)
    arguments = parser.parse_args()
    pictures = worst(arguments.run / "evaluation/all", arguments.least_ml)[: arguments.scans]
    sheet = side_by_side([Image.open(picture) for picture in pictures])
    sheet.thumbnail((arguments.width_px, sheet.height))
    sheet.save(arguments.output, quality=QUALITY)


if __name__ == "__main__":
    main()
