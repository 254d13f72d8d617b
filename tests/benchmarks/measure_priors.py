"""The T1 intensity of each tissue, `transforms/synthesis/t1_priors.csv`: measured on labeled heads, or chosen by hand.

    python tests/benchmarks/measure_priors.py HEADS [--csv transforms/synthesis/t1_priors.csv]

HEADS is a folder of T1s with FreeSurfer's labels, `X_T1w.nii.gz` and `X_labels.nii.gz`, that together show every tissue of the
brain. All values are relative to the median of white matter in the head, because the scale of a T1 is arbitrary.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from strokelesion.pipeline.synthesis.heads import find_heads, prepare_heads
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


def measure_head(head: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield mean and SD of each tissue that is neither in `CHOSEN` nor in `SAME_AS`, relative to white matter."""
    tissues, image = (np.asanyarray(nib.load(head[key]).dataobj) for key in ("tissues", "image"))
    white = np.median(image[interior(tissues == Tissue.WHITE)])
    for tissue in Tissue:
        if tissue not in {Tissue.AIR, *CHOSEN, *SAME_AS}:
            values = image[interior(tissues == tissue)] / white
            if values.size >= VOXELS_AT_LEAST:
                yield {"tissue": tissue.name, "mean": values.mean(dtype=float), "sd": values.std(dtype=float)}


def interior(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels whose six neighbors are also in the mask, or the whole mask if these are too few.

    Voxels at the border have partial volume.
    """
    inner: NDArray[np.bool_] = binary_erosion(mask)
    return inner if inner.sum() >= VOXELS_AT_LEAST else mask


def prior_of(tissue: Tissue, measured: pd.DataFrame) -> tuple[float, float, float, str]:
    """Return the mean of the heads' means, the SD within a head, the SD between heads (0 for one head), and the source."""
    if tissue in CHOSEN:
        return CHOSEN[tissue]
    if (donor := SAME_AS.get(tissue)) is not None:
        return (*prior_of(donor, measured)[:3], f"as {donor.name}: what is labeled is mixed with tissue")
    rows = measured[measured["tissue"] == tissue.name]
    between = float(rows["mean"].std(ddof=1)) if len(rows) > 1 else 0.0
    source = f"measured on {len(rows)} labeled T1 heads"
    return float(rows["mean"].mean()), float(np.sqrt((rows["sd"] ** 2).mean())), between, source


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads")
    parser.add_argument("--csv", type=Path, default=Path("transforms/synthesis/t1_priors.csv"))
    asked = parser.parse_args()
    heads = prepare_heads(find_heads(asked.heads), "runs/material")
    found = pd.DataFrame([row for head in heads if "image" in head for row in measure_head(head)])
    priors = [(tissue.name, *prior_of(tissue, found)) for tissue in Tissue if tissue != Tissue.AIR]
    table = pd.DataFrame(priors, columns=["tissue", "mean", "sd_within", "sd_between", "source"])
    table.round(3).to_csv(asked.csv, index=False)
