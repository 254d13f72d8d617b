"""T1 intensity of each tissue, measured on labeled heads or, for tissues without labels, chosen by hand.

The repository contains the result as `transforms/synthesis/t1_priors.csv`, one row per tissue. This call writes it again:
`write_priors(prepare_heads(find_heads("heads"), "cache"), "transforms/synthesis/t1_priors.csv")`.

All values are relative to the median of white matter in the head, because the scale of a T1 is arbitrary.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.files import write_table
from strokelesion.transforms.synthesis.tissues import Tissue

# Fewer voxels give no reliable estimate.
VOXELS_AT_LEAST = 30

_SEEN = "chosen by hand: MPRAGE textbook contrast, checked on the scalp of three T1 heads"
_TEXTBOOK = "chosen by hand: MPRAGE textbook contrast"
# Mean, standard deviation within a head, standard deviation between heads, and reason.
CHOSEN: dict[Tissue, tuple[float, float, float, str]] = {
    Tissue.EYE: (0.30, 0.12, 0.08, f"{_TEXTBOOK}; vitreous as fluid, lens and wall brighter"),
    Tissue.SOFT: (0.75, 0.35, 0.20, f"{_SEEN}; muscle about 0.5, fat 1.0 to 1.7"),
    Tissue.SKIN: (0.50, 0.20, 0.12, f"{_SEEN}; thin, mixed with air"),
    Tissue.BONE: (0.18, 0.10, 0.06, f"{_TEXTBOOK}; cortical bone"),
    Tissue.MARROW: (1.00, 0.35, 0.20, f"{_TEXTBOOK}; fatty marrow of adults, less in children"),
    Tissue.MUCOSA: (0.60, 0.20, 0.12, f"{_TEXTBOOK}; mixed with air"),
    Tissue.VESSEL: (0.75, 0.30, 0.25, f"{_TEXTBOOK}; flow makes vessels dark or bright"),
    Tissue.UNKNOWN: (0.65, 0.35, 0.15, "chosen by hand: whatever surrounds a brain"),
}
# FreeSurfer's CSF voxels (cisterns, narrow spaces) all include partial volume of tissue. Ventricles contain the same fluid.
SAME_AS = {Tissue.CSF: Tissue.VENTRICLE}


def measure_priors(heads: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """Return the T1 intensity of each tissue in each head with a T1.

    Only interior voxels are measured: all six neighbors are the same tissue. Border voxels have partial volume. If a tissue is
    too thin to have an interior, all its voxels are measured.

    Args:
        heads: Prepared heads, items with `person`, `tissues` and, if there is a T1, `image`.

    Returns:
        A row for each head and tissue: `tissue`, `person`, `voxels`, and `mean` and `sd` of the T1 relative to the median
        of white matter.

    Raises:
        UserError: No head has a T1.
    """
    rows = [row for head in heads if "image" in head for row in measure_head(head)]
    if not rows:
        raise UserError("no head has a T1 to measure; expected items with `tissues` and `image`. Add labeled heads with a T1.")
    return pd.DataFrame(rows)


def measure_head(head: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each measured tissue of a head; tissues in `CHOSEN` and `SAME_AS` are not measured."""
    tissues = np.asanyarray(nib.load(head["tissues"]).dataobj)  # type: ignore[attr-defined]
    image = np.asanyarray(nib.load(head["image"]).dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    white = np.median(image[interior(tissues == Tissue.WHITE)])
    for tissue in Tissue:
        if tissue not in {Tissue.AIR, *CHOSEN, *SAME_AS}:
            values = image[interior(tissues == tissue)] / white
            if values.size >= VOXELS_AT_LEAST:
                yield {"tissue": tissue.name, "person": head["person"], "voxels": values.size, **mean_and_sd(values)}


def mean_and_sd(values: NDArray[np.float32]) -> dict[str, float]:
    """Return the mean and standard deviation of voxels."""
    return {"mean": float(values.mean(dtype=float)), "sd": float(values.std(dtype=float))}


def interior(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels whose six neighbors are also in the mask, or the whole mask if these are too few."""
    inner: NDArray[np.bool_] = binary_erosion(mask)
    return inner if inner.sum() >= VOXELS_AT_LEAST else mask


def pool_priors(measured: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each tissue except air: `tissue`, `mean`, `sd_within`, `sd_between` and `source`.

    - mean: mean of the heads' means
    - sd_within: root mean square of the heads' standard deviations
    - sd_between: standard deviation of the heads' means; 0 for a single head
    - source: number of heads, or reason for the chosen value

    Raises:
        UserError: A tissue is neither measured nor chosen.
    """
    by_tissue = {str(name): rows for name, rows in measured.groupby("tissue")}
    rows = [{"tissue": tissue.name, **prior_of(tissue, by_tissue)} for tissue in Tissue if tissue != Tissue.AIR]
    return pd.DataFrame(rows)


def prior_of(tissue: Tissue, measured: Mapping[str, pd.DataFrame]) -> dict[str, float | str]:
    """Return the pooled row of one tissue: chosen by hand, copied from another tissue, or measured."""
    if tissue in CHOSEN:
        return dict(zip(("mean", "sd_within", "sd_between", "source"), CHOSEN[tissue], strict=True))
    if (donor := SAME_AS.get(tissue)) is not None:
        return {**prior_of(donor, measured), "source": f"as {donor.name}: what is labeled is mixed with tissue"}
    if tissue.name not in measured:
        raise UserError(f"no head shows {tissue.name}; expected labeled heads that together show every tissue of the brain.")
    rows = measured[tissue.name]
    return {
        "mean": float(rows["mean"].mean()),
        "sd_within": float(np.sqrt((rows["sd"] ** 2).mean())),
        "sd_between": float(rows["mean"].std(ddof=1)) if len(rows) > 1 else 0.0,
        "source": f"measured on {len(rows)} labeled T1 heads",
    }


def write_priors(heads: Iterable[Mapping[str, str]], path: str | Path) -> Path:
    """Write the priors of prepared heads as CSV with three decimals, and return the path."""
    return write_table(Path(path), pool_priors(measure_priors(heads)).round(3))
