"""How bright each tissue is on T1: measured on labeled heads, chosen by hand for what nobody labels.

The result ships as `transforms/synthesis/t1_priors.csv`, one row a tissue. From prepared heads with a T1 it is made anew by
`write_priors(prepare_heads(find_heads("heads"), "cache"), "transforms/synthesis/t1_priors.csv")`.

All values are relative to the head's median of white matter: the scale of a T1 is arbitrary.
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

# Fewer voxels say nothing about a tissue.
VOXELS_AT_LEAST = 30

_SEEN = "chosen by hand: MPRAGE textbook contrast, checked on the scalp of three T1 heads"
_TEXTBOOK = "chosen by hand: MPRAGE textbook contrast"
# Mean, standard deviation within a head and between heads, and why.
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
# FreeSurfer labels as CSF only cisterns and clefts too narrow for a voxel without tissue; ventricles hold the same fluid.
SAME_AS = {Tissue.CSF: Tissue.VENTRICLE}


def measure_priors(heads: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """Measure each tissue of each head that has a T1.

    Only interior voxels count, whose six neighbors are of the same tissue, because those at a border are mixtures; all
    voxels do where a tissue is too thin to have an interior.

    Args:
        heads: prepared heads, items with `person`, `tissues` and, where there is a T1, `image`.

    Returns:
        A row for each head and tissue: `tissue`, `person`, `voxels`, and `mean` and `sd` of the T1 relative to the median
        of white matter.

    Raises:
        UserError: when no head has a T1.
    """
    rows = [row for head in heads if "image" in head for row in measure_head(head)]
    if not rows:
        raise UserError("no head has a T1 to measure; expected items with `tissues` and `image`. Add labeled heads with a T1.")
    return pd.DataFrame(rows)


def measure_head(head: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each tissue within the skull that the head has and that is labeled, not guessed."""
    tissues = np.asanyarray(nib.load(head["tissues"]).dataobj)  # type: ignore[attr-defined]
    image = np.asanyarray(nib.load(head["image"]).dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    white = np.median(image[interior(tissues == Tissue.WHITE)])
    for tissue in Tissue:
        if tissue not in {Tissue.AIR, *CHOSEN, *SAME_AS}:
            values = image[interior(tissues == tissue)] / white
            if values.size >= VOXELS_AT_LEAST:
                yield {"tissue": tissue.name, "person": head["person"], "voxels": values.size, **mean_and_sd(values)}


def mean_and_sd(values: NDArray[np.float32]) -> dict[str, float]:
    """Return the mean and the standard deviation of some voxels."""
    return {"mean": float(values.mean(dtype=float)), "sd": float(values.std(dtype=float))}


def interior(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels whose six neighbors are in the mask too, or all of the mask where these are too few."""
    inner: NDArray[np.bool_] = binary_erosion(mask)
    return inner if inner.sum() >= VOXELS_AT_LEAST else mask


def pool_priors(measured: pd.DataFrame) -> pd.DataFrame:
    """Turn measurements into one row for each tissue but air: `tissue`, `mean`, `sd_within`, `sd_between` and `source`.

    - mean: of the heads' means
    - sd_within: root mean square of the heads' standard deviations
    - sd_between: standard deviation of the heads' means; 0 for a single head
    - source: how many heads, or why this value was chosen

    Raises:
        UserError: when a tissue was neither measured nor chosen.
    """
    by_tissue = {str(name): rows for name, rows in measured.groupby("tissue")}
    rows = [{"tissue": tissue.name, **prior_of(tissue, by_tissue)} for tissue in Tissue if tissue != Tissue.AIR]
    return pd.DataFrame(rows)


def prior_of(tissue: Tissue, measured: Mapping[str, pd.DataFrame]) -> dict[str, float | str]:
    """Return the pooled row of one tissue: chosen, borrowed from another one, or measured."""
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
    """Measure the priors of prepared heads, write them as CSV, numbers with three decimals, and return the path."""
    return write_table(Path(path), pool_priors(measure_priors(heads)).round(3))
