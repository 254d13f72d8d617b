"""Compare a corrected mask with the automatic one that it replaces: volumes, Dice, and which lesions were missed or false."""

from math import nan
from typing import Any

from strokelesion.pipeline.lesions.lesion_matching import Mask, find_touched, pair_lesions

NEIGHBORS = 26


def compare_masks(automatic: Mask, drawn: Mask, voxel_ml: float) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Return the row of `corrections.tsv`, and the volumes of the lesions that were found, missed and false.

    A lesion of the drawn mask is missed if it has no automatic voxel. A lesion of the automatic mask is false if it has no
    drawn voxel. Dice is nan if both masks are empty.

    Args:
        automatic: Automatic mask `(X, Y, Z)`.
        drawn: Mask that a person drew, of the same shape.
        voxel_ml: Volume of a voxel.
    """
    pairs = pair_lesions(automatic, drawn, NEIGHBORS)
    is_found, is_right = find_touched(pairs)
    volumes = {
        "found_ml": pairs.true_voxels[is_found],
        "missed_ml": pairs.true_voxels[~is_found],
        "false_ml": pairs.pred_voxels[~is_right],
    }
    lesions = {name: [round(float(count) * voxel_ml, 6) for count in counts] for name, counts in volumes.items()}
    before, after, shared = (int(mask.sum()) for mask in (automatic, drawn, automatic & drawn))
    row = {
        "automatic_ml": before * voxel_ml,
        "manual_ml": after * voxel_ml,
        "added_ml": (after - shared) * voxel_ml,
        "removed_ml": (before - shared) * voxel_ml,
        "changed_ml": (before + after - 2 * shared) * voxel_ml,
        "dice": 2 * shared / (before + after) if before + after else nan,
        "missed": len(lesions["missed_ml"]),
        "false": len(lesions["false_ml"]),
    }
    return row, lesions
