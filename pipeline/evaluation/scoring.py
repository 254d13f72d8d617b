"""Score saved predictions of any method against the lesion masks of a data set.

A folder of scores holds

    scores.csv    one row per scan and lesion class, with the measures of `metrics.score_scan`
    lesions.csv   one row per true lesion: its volume, and whether it was found
    worst.csv     the ten scans with the lowest Dice of main and sub together; their pictures are in worst/
    about.json    network, loss, fold and settings of the predictions

`scores.csv` is written last: if it exists, the others exist. The files do not depend on the order of scans or of work.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nibabel.affines import voxel_sizes
from tqdm import tqdm

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.records import NAMES
from strokelesion.pipeline.evaluation.comparison import select_with_truth
from strokelesion.pipeline.evaluation.metrics import CLASSES, score_scan, true_lesions
from strokelesion.pipeline.pictures import lesion_panel, marked_png
from strokelesion.pipeline.runtime.errors import format_issue, refuse, user_error
from strokelesion.pipeline.runtime.files import remove_parts, write_bytes, write_json, write_table

SCORES, LESIONS, WORST, ABOUT = "scores.csv", "lesions.csv", "worst.csv", "about.json"
LESION_COLUMNS = ["volume_ml", "is_touched", "is_matched"]
WORST_COLUMNS = ["dice", "truth_ml", "pred_ml"]
PICTURED = 10
# Measures of the printed summary, with their titles.
SUMMARY = {
    "dice": "Dice",
    "keras_dice": "Keras study's slice Dice",
    "atlas22_lesion_f1": "ATLAS'22 F1",
    "isles26_lesion_f1": "ISLES'26 F1",
    "hd95_mm": "HD95 mm",
    "truth_ml": "truth ml",
    "pred_ml": "predicted ml",
}


@dataclass(frozen=True)
class Scored:
    """Scores of one scan: rows of the two tables, and the picture."""

    scan: dict[str, str]
    scores: list[dict[str, Any]]
    lesions: list[dict[str, Any]]
    picture: bytes

    @property
    def badness(self) -> tuple[float, float, tuple[str, ...]]:
        """Return the key that sorts the worst scan first: by lowest Dice, then largest lesion, then name."""
        whole = self.scores[-1]
        return whole["dice"], -whole["truth_ml"], tuple(self.scan.values())


def score_predictions(
    items: Sequence[Mapping[str, Any]], transform: Any, folder: str | Path, about: Mapping[str, Any], workers: int = 2
) -> None:
    """Score scans, write their tables, and print the means.

    Args:
        items: Records with `pred` and optionally `probabilities`, as `match_predictions` returns them.
        transform: Transform from an item to `image` (median tissue 1), `truth` and `pred` `(1, X, Y, Z)`, and optionally
            `probabilities`, `(1, X, Y, Z)` of any lesion or `(3, X, Y, Z)` of each class. Axes are in RAS. The transform
            raises UserError for an item that cannot be scored.
        folder: Folder of the tables; existing tables are replaced.
        about: Network, loss, fold and settings of the predictions, stored with the tables.
        workers: Number of scans scored at once. Memory grows with it, not with the number of scans.

    Raises:
        UserError: when scans cannot be scored; the message names each scan and the reason. Then no table is written,
            because readers would take an incomplete table for a complete one.
    """
    folder = Path(folder)
    ordered = sorted(items, key=lambda item: [item[key] for key in NAMES])
    scores, lesions, worst = [], [], list[Scored]()
    refused = []
    for item, outcome in zip(ordered, score_items(ordered, transform, workers), strict=True):
        if isinstance(outcome, UserError):
            refused.append(f"{item['pred']}: {outcome}")
            continue
        scores += [outcome.scan | row for row in outcome.scores]
        lesions += [outcome.scan | row for row in outcome.lesions]
        worst = sorted([*worst, outcome], key=lambda scan: scan.badness)[:PICTURED] if outcome.lesions else worst
    refuse([format_issue("predictions cannot be scored", refused, "No table was written.")])
    table = pd.DataFrame(scores)
    write_scores(folder, table, pd.DataFrame(lesions, columns=[*NAMES, *LESION_COLUMNS]), worst, about)
    print(format_summary(table))
    print(f"Scores of {len(ordered)} scans in {folder}; means are over the scans whose truth has the lesion class.")


def score_items(items: Sequence[Mapping[str, Any]], transform: Any, workers: int) -> Iterator[Scored | UserError]:
    """Yield the scores of each item, or the error that prevents them, in order, with a progress bar."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        work = pool.map(lambda item: score_item(item, transform), items)
        yield from tqdm(work, total=len(items), desc="scoring", unit="scan")


def score_item(item: Mapping[str, Any], transform: Any) -> Scored | UserError:
    """Return the scores of one scan, or the error that prevents them."""
    try:
        # Each scan gets a copy: MONAI's readers hold state, and threads that share a reader mix up their files.
        sample: dict[str, Any] = deepcopy(transform)(dict(item))
        return score_sample({key: item[key] for key in NAMES}, sample)
    except Exception as error:
        if (known := user_error(error)) is None:
            raise
        return known


def score_sample(scan: dict[str, str], sample: Mapping[str, Any]) -> Scored:
    """Return the scores of one prepared scan."""
    image, pred, truth = (np.asarray(sample[key][0]) for key in ("image", "pred", "truth"))
    affine = np.asarray(sample["image"].affine, dtype=float)
    probabilities = np.asarray(sample["probabilities"]) if "probabilities" in sample else None
    return Scored(
        scan=scan,
        scores=score_scan(pred, truth, affine, probabilities),
        lesions=true_lesions(pred, truth, affine),
        picture=marked_png(lesion_panel(image, truth, pred), tuple(voxel_sizes(affine)[:2])),
    )


def write_scores(
    folder: Path, scores: pd.DataFrame, lesions: pd.DataFrame, worst: Sequence[Scored], about: Mapping[str, Any]
) -> None:
    """Write the tables and pictures of a folder of scores, `scores.csv` last."""
    (folder / SCORES).unlink(missing_ok=True)
    for old in (folder / "worst").glob("*.png"):
        old.unlink()
    remove_parts(folder / "worst")
    pictured = []
    for rank, scan in enumerate(worst, start=1):
        name = f"worst/{rank:02d}.png"
        write_bytes(folder / name, scan.picture)
        whole = scan.scores[-1]
        pictured.append({**scan.scan, **{key: whole[key] for key in WORST_COLUMNS}, "picture": name})
    write_json(folder / ABOUT, {**about, "strokelesion": version("strokelesion")})
    write_table(folder / WORST, pd.DataFrame(pictured, columns=[*NAMES, *WORST_COLUMNS, "picture"]))
    write_table(folder / LESIONS, lesions)
    write_table(folder / SCORES, scores)


def format_summary(scores: pd.DataFrame) -> str:
    """Return the mean scores as text: one row per lesion class, over the scans whose truth has the class."""
    rows = {}
    for lesion in CLASSES:
        known = select_with_truth(scores, lesion)
        alarms = scores.loc[(scores["lesion"] == lesion) & (scores["truth_ml"] == 0), "pred_ml"]
        means = {title: known[measure].mean() for measure, title in SUMMARY.items()}
        rows[lesion] = {"scans": len(known), **means, "scans without": len(alarms), "false alarms ml": alarms.mean()}
    return pd.DataFrame(rows).T.astype({"scans": int, "scans without": int}).to_string(float_format="{:.3f}".format, na_rep="-")
