"""From whole scans to a table of scores and a summary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from monai.data import Dataset
from monai.engines import Evaluator

from strokelesion.pipeline.files import written_whole
from strokelesion.pipeline.metrics import score_scan, voxel_volume_ml
from strokelesion.pipeline.scans import finish, predict_scans

IDENTITY = ("subject", "session", "site", "release")
DECIMALS = 6


def evaluate(evaluator: Evaluator, dataset: Dataset, folder: str | Path, scored: str) -> None:
    """Predict and score scans in their own grids; write `scores_<scored>.csv` and print the summary.

    Args:
        evaluator: its post-processing brings label maps back to the scans' grids.
        dataset: items with `image` and `truth`, the label map `(1, X, Y, Z)` on the grid of the scan's file.
        folder: where the table goes.
        scored: `held_out` or `all`, for the table's name and the summary's first line.

    Raises:
        SystemExit: with status 1 when a scan could not be scored; the others are in the table.
    """
    rows, failed = [], {}
    for item, outcome in predict_scans(evaluator, dataset):
        if isinstance(outcome, Exception):
            failed[item["image"]] = outcome
        else:
            rows.append({**{key: item[key] for key in IDENTITY}, **score_outcome(outcome)})
    table = Path(folder) / f"scores_{scored}.csv"
    if rows:
        scores = pd.DataFrame(rows)
        print(summarize(scores, scored))
        with written_whole(table) as beside:
            scores.round(DECIMALS).to_csv(beside, index=False)
    finish(len(dataset), failed, f"scored, table in {table}")


def image_and_truth(
    batch: Mapping[str, Any], device: torch.device, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the prepared image, on the device, and the truth, on the grid of the file; MONAI's `prepare_batch`."""
    return batch["image"].to(device, non_blocking=non_blocking, **kwargs), batch["truth"]


def score_outcome(outcome: Mapping[str, Any]) -> dict[str, float]:
    """Score one output of the evaluator: two label maps `(1, X, Y, Z)` with the voxels of the scan's file, axes in RAS."""
    pred, truth = outcome["pred"], outcome["label"]
    return score_scan(pred[0].cpu(), truth[0].cpu(), voxel_volume_ml(pred.affine))


def summarize(scores: pd.DataFrame, scored: str) -> str:
    """Return the summary of a table of scores as text."""
    scope = {"held_out": "held-out scans", "all": "scans, those trained on included if they are here"}[scored]
    with_sub, without_sub = scores[scores["truth_sub_ml"] > 0], scores[scores["truth_sub_ml"] == 0]
    without_lesion = scores[scores["truth_both_ml"] == 0]
    lines = [
        f"{len(scores)} {scope}, {scores['subject'].nunique()} subjects; means over whole scans",
        line("Dice main", scores["dice_main"]),
        line("Dice sub", with_sub["dice_sub"], "of the scans with a sub-lesion"),
        line("Dice both", scores["dice_both"]),
        line("volume both, truth", scores["truth_both_ml"], unit=" ml"),
        line("volume both, predicted", scores["pred_both_ml"], unit=" ml"),
        line("sub false alarms", without_sub["pred_sub_ml"], "of the scans without a sub-lesion", unit=" ml"),
        line("false alarms", without_lesion["pred_both_ml"], "of the scans without lesion", unit=" ml"),
        line("seed's slice score main", scores["seed_slice_dice_main"], "2TP/(P+T+1e-5), slices with lesion"),
        line("seed's slice score sub", scores["seed_slice_dice_sub"], "slices without sub-lesion count 0"),
    ]
    return "\n".join(lines)


def line(name: str, values: Sequence[float] | pd.Series, remark: str = "", unit: str = "") -> str:
    """Return one line of the summary: mean, median and number of scans."""
    known = pd.Series(values, dtype=float).dropna()
    if known.empty:
        return f"{name:<26}     -           n = 0   {remark}"
    return f"{name:<26} {known.mean():6.3f}{unit}   median {known.median():6.3f}{unit}   n = {len(known)}   {remark}".rstrip()
