"""Lesion masks for synthetic scans, drawn so that volume and number of lesions are distributed as in ATLAS.

Each scan gets one main mask, which can be scaled, and small additional masks. Together they have a volume and a number of
components that are drawn from the distributions of ATLAS. All masks are in MNI space, and volumes are milliliters there.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.derived_files import derived_path, file_states
from strokelesion.pipeline.runtime.errors import format_issue, refuse
from strokelesion.pipeline.runtime.files import write_nifti, write_table
from strokelesion.pipeline.synthesis.material import Folders, files_in
from strokelesion.pipeline.synthesis.procedural_lesions import procedural_lesion
from strokelesion.transforms.components import components
from strokelesion.transforms.geometry import voxel_ml

READING_VERSION = 1
PROCEDURAL_VERSION = 1
SUFFIXES = (".nii", ".nii.gz")

# Percentiles of the total lesion volume and of the number of components (26-connected) over 955 scans of ATLAS R2.1. The
# smallest volume is our choice.
VOLUME_PERCENT = (0.0, 3.7, 5.0, 25.0, 50.0, 75.0, 95.0, 100.0)
VOLUME_ML = (0.03, 0.10, 0.14, 1.0, 4.3, 32.0, 136.0, 388.0)
COUNT_PERCENT = (0.0, 46.5, 47.5, 50.0, 95.0, 100.0)
COUNT = (1.0, 1.0, 2.0, 2.0, 8.0, 38.0)
# Median total volume of all components except the largest (ATLAS). The spread is our choice: 1 SD is a factor of e.
REST_MEDIAN_ML = 0.29
REST_LOG_SD = 1.0
# Resampling can remove components smaller than 20 voxels of 1 mm.
SMALLEST_ML = 0.02

SCALES = (0.6, 1.5)
# A mask is drawn from at most and at least this many masks near the target volume, so that small masks do not recur often.
NEAREST = 30
FEWEST = 10
FLIP_SHARE = 0.5

Mask = NDArray[np.bool_]


def read_lesions(folder: Folders, cache_dir: str | Path) -> pd.DataFrame:
    """Return volume and number of components of all masks below one or several folders, and cache the table.

    Args:
        folder: Folder of binary masks in MNI space (`.nii`, `.nii.gz`), one per person. Several: a list or separated by commas.
        cache_dir: Folder of the table; created if missing.

    Returns:
        A row for each mask, sorted by path: `path`, `volume_ml` and `components` (26-connected).

    Raises:
        UserError: A folder does not exist, there is no mask, or masks are empty.
    """
    paths = [path for path in files_in(folder) if path.name.endswith(SUFFIXES)]
    if not paths:
        raise UserError(f"found no lesion mask in {folder}; expected {' or '.join(SUFFIXES)} files. Check the folder.")
    cache = derived_path(cache_dir, "lesions", [READING_VERSION, file_states(paths)], ".csv")
    with idist.one_rank_first():
        if not cache.exists():
            write_table(cache, measure_all(paths))
    return pd.read_csv(cache)


def measure_all(paths: Sequence[Path]) -> pd.DataFrame:
    """Return a table with a row for each mask, see `read_lesions`."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        lesions = pd.DataFrame(pool.map(measure, paths))
    empty = lesions.loc[lesions["components"] == 0, "path"].tolist()
    refuse([format_issue("lesion masks are empty", empty, "Expected voxels above 0 in each. Move these files away.")])
    return lesions


def make_procedural_masks(cache_dir: str | Path, count: int = 300, seed: int = 0) -> Path:
    """Write procedural lesion masks in MNI space, evenly over the volume percentiles of ATLAS, and return their folder.

    Existing masks are kept.

    Args:
        cache_dir: Parent of the folder.
        count: Number of masks.
        seed: Random seed.
    """
    folder = Path(cache_dir) / f"procedural_v{PROCEDURAL_VERSION}_{count}_{seed}"
    with idist.one_rank_first():
        for number, percent in enumerate((np.arange(count) + 0.5) / count * 100):
            path = folder / f"mask-{number:04d}.nii.gz"
            if not path.exists():
                lesion = procedural_lesion(volume_at(percent), np.random.default_rng([seed, number]))
                write_nifti(path, lesion)
    return folder


def measure(path: Path) -> dict[str, Any]:
    """Return path, volume and components of a mask, which contains the voxels above half of the largest value."""
    nifti = nib.nifti1.Nifti1Image.from_filename(path)
    values = np.asanyarray(nifti.dataobj)
    mask = values > 0.5 * values.max()
    count = len(components(mask)[1]) - 1
    return {"path": str(path), "volume_ml": float(mask.sum() * voxel_ml(nifti.affine)), "components": count}


def draw_lesions(lesions: pd.DataFrame, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw the lesions of one scan.

    1. Draw a volume and a number of components from the percentiles of ATLAS.
    2. Draw a main mask near that volume, with at most this number of components.
    3. Add masks of one component up to that number. Their total is 0.29 ml on median and at most half of the volume.

    Masks can touch or overlap, so a synthetic scan can have slightly fewer components than drawn.

    Args:
        lesions: Table from `read_lesions`.
        rng: Random number generator.

    Returns:
        Items with `path`, `scale` (about the mask's center of mass, 0.6 to 1.5) and `flip` (left to right), main mask first.

    Raises:
        UserError: The table is empty.
    """
    if lesions.empty:
        raise UserError("there is no lesion mask to draw from; expected those of `read_lesions`, or a larger share of them.")
    volume_ml = volume_at(rng.uniform(0, 100))
    count = draw_count(rng)
    main = draw_mask(lesions, volume_ml, count, rng)
    rest_ml = draw_rest_ml(volume_ml, count - int(main["components"]), rng)
    further = [scale_and_flip(draw_mask(lesions, part_ml, 1, rng), part_ml, rng) for part_ml in rest_ml]
    return [scale_and_flip(main, volume_ml - sum(rest_ml), rng), *further]


def volume_at(percent: float) -> float:
    """Return the total lesion volume of a scan in ml at a percentile of ATLAS, interpolated in log volume."""
    return float(np.exp(np.interp(percent, VOLUME_PERCENT, np.log(VOLUME_ML))))


def draw_count(rng: np.random.Generator) -> int:
    """Draw the number of components of a scan from the percentiles of ATLAS."""
    return round(float(np.interp(rng.uniform(0, 100), COUNT_PERCENT, COUNT)))


def draw_rest_ml(volume_ml: float, count: int, rng: np.random.Generator) -> list[float]:
    """Draw the volumes (ml) of additional components, fewer than `count` if they would be smaller than `SMALLEST_ML`."""
    most_ml = volume_ml / 2
    count = min(count, int(most_ml / SMALLEST_ML))
    if count <= 0:
        return []
    total_ml = np.clip(REST_MEDIAN_ML * rng.lognormal(0, REST_LOG_SD), count * SMALLEST_ML, most_ml)
    parts = rng.dirichlet(np.ones(count)) * (total_ml - count * SMALLEST_ML) + SMALLEST_ML
    return [float(part) for part in parts]


def draw_mask(lesions: pd.DataFrame, volume_ml: float, components: int, rng: np.random.Generator) -> dict[str, Any]:
    """Draw one of the masks nearest in log volume, with at most `components` components if such masks exist."""
    fitting = np.flatnonzero(lesions["components"] <= components)
    numbers = fitting if fitting.size else np.arange(len(lesions))
    volumes_ml = lesions["volume_ml"].to_numpy()[numbers]
    nearest = np.argsort(np.abs(np.log(volumes_ml / volume_ml)), kind="stable")[:NEAREST]
    scales = scale_to(volumes_ml[nearest], volume_ml)
    in_reach = nearest[(scales >= SCALES[0]) & (scales <= SCALES[1])]
    chosen = rng.choice(in_reach if in_reach.size >= FEWEST else nearest[:FEWEST])
    return {str(column): value for column, value in lesions.iloc[int(numbers[chosen])].items()}


def scale_to(from_ml: Any, volume_ml: float) -> Any:
    """Return the isotropic scale that changes volumes `from_ml` to `volume_ml`."""
    return (volume_ml / from_ml) ** (1 / 3)


def scale_and_flip(lesion: dict[str, Any], volume_ml: float, rng: np.random.Generator) -> dict[str, Any]:
    """Return path, scale and random flip of a mask that is scaled to a volume."""
    scale = float(np.clip(scale_to(lesion["volume_ml"], volume_ml), *SCALES))
    return {"path": lesion["path"], "scale": scale, "flip": bool(rng.random() < FLIP_SHARE)}
