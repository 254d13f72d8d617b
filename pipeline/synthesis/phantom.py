"""The phantom: a small synthetic cohort in the layout of ATLAS R1.1, for the first run without any data.

**A phantom is not a patient.** All its heads are deformed copies of one tissue map, and its lesions are procedural. It shows
that a training runs and learns. Its scores are not results and do not apply to real scans. It is easier than ATLAS, because
a few scans must be enough: the median main lesion has 15 ml instead of 4.3 ml, none is below 5 ml, all are darker than most
sulci, and there are no mimics. With `like_atlas`, volumes and numbers of lesions are as in ATLAS, and there are mimics. This
makes a cohort of 150 scans for comparisons:

    python -c "from strokelesion.pipeline.synthesis.phantom import write_phantom as w; w('study', 149, 9, like_atlas=True)"

    phantom.json                              parameters and version; other parameters are refused
    ATLAS_R1.1/
        ATLAS_Meta-Data_Release_1.1_standard_mni.csv
        Site1/099001/t01/
            099001_t1w_deface_stx.nii.gz      float32 in [0, 100]
            099001_LesionSmooth_stx.nii.gz    main lesion
            099001_LesionSmooth_1_stx.nii.gz  further lesions, in about half of the scans

Masks use the three codings found in ATLAS R1.1, in turn.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import pandas as pd
import torch
from monai.data import MetaTensor
from monai.transforms import RandAdjustContrastd
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.records import PHANTOM_IDS
from strokelesion.pipeline.runtime.files import write_json, write_table
from strokelesion.pipeline.synthesis.cohort import RELEASE, path_of, path_of_last_file, save, write_missing
from strokelesion.pipeline.synthesis.infarct_plan import Infarct, draw_infarcts
from strokelesion.pipeline.synthesis.procedural_lesions import procedural_lesion
from strokelesion.pipeline.synthesis.template_head import template_head
from strokelesion.transforms import synthesis
from strokelesion.transforms.synthesis import SeededRecipe, Tissue

logger = logging.getLogger(__name__)
VERSION = 2
"""Raise it when the same parameters give other files."""

PHANTOM_FOLDER = "phantom"
METADATA = "ATLAS_Meta-Data_Release_1.1_standard_mni.csv"
MOST_SITES = 9
VOXEL_SIZES_MM = (1.0, 2.0, 4.0)
MASK_SCALE = (2**32 - 1) / 2**32
"""Masks of ATLAS R1.1 hold whole numbers times this."""

# Unless a phantom is like ATLAS, lesions are mostly cavity, and CSF of sulci is brighter than cavities.
LEAST_CAVITY, SULCAL_PARTIAL_VOLUME = 0.9, 0.7
# Least contrast of gray matter to CSF, where white matter is 1.
LEAST_CONTRAST = 0.25
# What random numbers of a subject are drawn for.
SHAPES, HEAD, NOISE = 1, 2, 3
# Growth of a lesion until the second session.
GROWTH = 1.1
# Intensity that becomes 100, where white matter is 1; fat is brighter.
BRIGHTEST = 1.6

Mask = NDArray[np.bool_]
Record = Mapping[str, Any]


def write_phantom(
    folder: str | Path,
    subjects: int = 20,
    sites: int = 4,
    voxel_mm: float = 1.0,
    seed: int = 0,
    like_atlas: bool = False,
    processes: int = 0,
) -> Path:
    """Write the synthetic cohort, or its missing scans.

    The next call continues an interrupted one, because the T1 of a scan is written last. A subject depends only on the seed,
    its own number and its site: a larger cohort begins with the subjects of a smaller one. The second subject has two
    sessions; the third has only t02. Each site has a scanner of its own.

    Args:
        folder: Folder for the release folder; created if it is missing.
        subjects: Number of subjects, 1 to 220.
        sites: Number of sites, 1 to 9; subjects are assigned to them in turn.
        voxel_mm: Voxel size: 1 is the grid of ATLAS (about 5 s and 8 MB a scan); 2 and 4 are for tests.
        seed: Seed, 0 or more; the same seed gives the same bytes on the same machine.
        like_atlas: Whether volumes and numbers of lesions are distributed as in ATLAS, and there are lesion mimics.
        processes: Number of parallel processes; 0 for threads of this process.

    Returns:
        Release folder, `<folder>/ATLAS_R1.1`.

    Raises:
        UserError: A parameter is out of its range, or the folder has a phantom with other parameters or a real release.
    """
    check_parameters(subjects, sites, seed, voxel_mm)
    parameters = {"subjects": subjects, "sites": sites, "voxel_mm": float(voxel_mm), "seed": seed, "like_atlas": like_atlas}
    mark_folder(Path(folder), {"version": VERSION, **parameters})
    release = Path(folder) / RELEASE
    scans = [scan for number in range(subjects) for scan in plan_scans(number, sites, seed, like_atlas)]
    write_missing(release, scans, partial(make_scan, release, voxel_mm, like_atlas), processes)
    write_table(release / METADATA, pd.DataFrame([metadata_of(scan) for scan in scans]))
    return release


def check_parameters(subjects: int, sites: int, seed: int, voxel_mm: float) -> None:
    """Raise UserError for numbers of subjects or sites that R1.1 has no names for, a negative seed or another voxel size."""
    allowed = {"subjects": (subjects, 1, len(PHANTOM_IDS)), "sites": (sites, 1, MOST_SITES), "seed": (seed, 0, 2**63)}
    for name, (value, least, largest) in allowed.items():
        if not least <= value <= largest:
            raise UserError(f"{name} is {value}; a phantom takes {least} to {largest}.")
    if voxel_mm not in VOXEL_SIZES_MM:
        raise UserError(f"voxel_mm is {voxel_mm}; a phantom takes one of {VOXEL_SIZES_MM}.")


def mark_folder(folder: Path, parameters: dict[str, Any]) -> None:
    """Write the parameters to the folder; raise UserError if it has other parameters or a release that is no phantom."""
    file = folder / "phantom.json"
    if file.exists():
        found = json.loads(file.read_text())
        if found != parameters:
            raise UserError(f"{file} records {found}, asked for {parameters}. Name another folder, or remove this one.")
    elif (folder / RELEASE).exists():
        raise UserError(f"{folder / RELEASE} has no phantom.json beside it: it may be real. Name another folder.")
    else:
        write_json(file, parameters)


def plan_scans(number: int, sites: int, seed: int, like_atlas: bool) -> list[dict[str, Any]]:
    """Return the sessions of a subject, planned before any image; the first infarct is the main lesion."""
    infarcts = draw_infarcts(np.random.default_rng([seed, number]), like_atlas)
    site = number % sites + 1
    plan = {"subject": f"{PHANTOM_IDS[number]:06d}", "site": f"Site{site}", "infarcts": infarcts, "seed": [seed, number]}
    sessions = {1: ("t01", "t02"), 2: ("t02",)}.get(number, ("t01",))
    return [{**plan, "session": session, "scanner": site, "coding": number % 3} for session in sessions]


def make_scan(release: Path, voxel_mm: float, like_atlas: bool, scan: Record) -> None:
    """Make one session from its plan and write it: the masks first, the T1 last."""
    sample = simulate_scan(scan, voxel_mm, like_atlas)
    affine = sample["image"].affine.numpy()
    numbers = sample["lesions"][0].numpy()
    masks = [numbers == number for number in range(1, 1 + len(scan["infarcts"])) if (numbers == number).any()]
    for index, mask in enumerate(masks):
        name = f"LesionSmooth_{index}" if index else "LesionSmooth"
        save(code_mask(mask, scan["coding"]), affine, path_of(release, scan, name))
    save(sample["image"][0].numpy(), affine, path_of_last_file(release, scan))


def simulate_scan(scan: Record, voxel_mm: float, like_atlas: bool) -> dict[str, Any]:
    """Return `image`, `lesions` (numbers in the order of the plan), `tissues` and `brain` of a scan, each `(1, X, Y, Z)`.

    Large voxels average over many small ones, so they are blurred more and are less noisy.
    """
    return take_image(scan, show_head(scan, voxel_mm, like_atlas), voxel_mm)


def show_head(scan: Record, voxel_mm: float, like_atlas: bool) -> dict[str, Any]:
    """Return the painted head of a scan with its lesions, the same in all sessions but for the growth of the lesions.

    Another head is drawn if gray matter is hardly brighter than CSF, or if the main lesion is lost, because it is too small for
    a voxel or lies where the ventricles are widened.
    """
    infarcts, growth = scan["infarcts"], GROWTH if scan["session"] == "t02" else 1.0
    lesions = [lesion_of(infarct, [*scan["seed"], index, SHAPES], growth) for index, infarct in enumerate(infarcts)]
    body = SeededRecipe(body_transforms(scan["scanner"], voxel_mm, like_atlas))
    for trial in count():
        seed = seed_of(*scan["seed"], trial, HEAD)
        sample: dict[str, Any] = body({"tissues": template_head(), "lesions": lesions, "seed": seed})
        contrast = sample["means"][Tissue.CORTEX] - sample["means"][Tissue.CSF]
        if contrast > LEAST_CONTRAST and (sample["lesions"] == 1).any():
            break
    return sample


def lesion_of(infarct: Infarct, seed: Sequence[int], growth: float) -> dict[str, Any]:
    """Return an infarct as an item for `RandPlaceHeadd`; `growth` is a factor on its volume."""
    nifti = procedural_lesion(infarct.volume_ml, np.random.default_rng(seed), infarct.center_mm)
    mask = MetaTensor(torch.from_numpy(nifti.get_fdata(dtype=np.float32))[None], affine=torch.from_numpy(nifti.affine))
    return {"mask": mask, "scale": growth ** (1 / 3), "flip": False}


def seed_of(*numbers: int) -> int:
    """Return one number made of several, as a seed for MONAI."""
    return int(np.random.default_rng(numbers).integers(2**31))


def body_transforms(site: int, voxel_mm: float, like_atlas: bool) -> list[Any]:
    """Return the transforms of the synthesis that show a head with its lesions, as sharp as the scanner of the site."""
    mimics, partial_volume, least_cavity = (0.4, 0.0, 0.0) if like_atlas else (0.0, SULCAL_PARTIAL_VOLUME, LEAST_CAVITY)
    blur_mm = voxel_mm * np.random.default_rng(site).uniform(0.4, 0.8)
    return [
        synthesis.RandPlaceHeadd(
            voxel_mm, rotation_deg=5, scaling=0.06, shear=0.03, shift_mm=3, elastic_mm=2, lesion_elastic_mm=0
        ),
        synthesis.RandWidenSpacesd(),
        synthesis.FitLesionsd(least_ml=0, largest_loss=1, least_share=0),
        synthesis.RandAddMimicsd(prob=mimics),
        synthesis.RandPaintTissuesd(any_contrast_prob=0, blur_mm=(blur_mm, blur_mm), sulcal_partial_volume=partial_volume),
        synthesis.RandPaintLesionsd(least_cavity=least_cavity),
        synthesis.RandPaintVascularSpacesd(prob=mimics),
        synthesis.BrainMaskd(),
    ]


def take_image(scan: Record, sample: Mapping[str, Any], voxel_mm: float) -> dict[str, Any]:
    """Return the sample as the scanner of the site shows it: defaced, air exactly 0, brightest voxels 100."""
    rng = np.random.default_rng([scan["scanner"], 1])
    gamma = rng.uniform(0.8, 1.25)
    scanner = SeededRecipe(
        [
            synthesis.RandBiasd(strength=rng.uniform(0.1, 0.4), fixed=True),
            synthesis.RandNoised(std=rng.uniform(0.01, 0.04) / voxel_mm, sample_std=False),
            RandAdjustContrastd("image", prob=1, gamma=(gamma, gamma)),
            synthesis.RandHeadCoverd(stripped=0, defaced=1),
        ]
    )
    taken: dict[str, Any] = scanner({**sample, "seed": seed_of(*scan["seed"], int(scan["session"] == "t02"), NOISE)})
    scale = 100 / BRIGHTEST * rng.uniform(0.65, 1)
    taken["image"] = (scale * taken["image"] * (taken["tissues"] > 0)).clamp(0, 100).round(decimals=2)
    return taken


def code_mask(mask: Mask, kind: int) -> NDArray[np.float64]:
    """Return a mask as ATLAS R1.1 stores it: {0, 255}, {0, 1} or 0 to 255 with rounding noise at the outline, scaled."""
    if kind == 1:
        return mask * np.float64(MASK_SCALE)
    levels = np.where(mask, 255.0, 0.0)
    if kind == 2:
        levels[mask & ~binary_erosion(mask)] = 254
        levels[binary_dilation(mask) & ~mask] = 1
    return np.asarray(levels * MASK_SCALE)


def metadata_of(scan: Record) -> dict[str, object]:
    """Return one metadata row with the columns of R1.1, where the session has a leading space too."""
    main = scan["infarcts"][0]
    regions = [(infarct.side, infarct.territory.location) for infarct in scan["infarcts"]]
    return {
        "INDI Site ID": scan["site"],
        "INDI Subject ID": int(scan["subject"]),
        "Session": f" {scan['session']}",
        "# Strokes LH Cortical": regions.count(("Left", "Cortical")),
        "# Strokes LH subcortical": regions.count(("Left", "Subcortical")),
        "# Strokes RH Cortical": regions.count(("Right", "Cortical")),
        "# Strokes RH subcortical": regions.count(("Right", "Subcortical")),
        "Other Location": ", ".join(sorted({region for _, region in regions} - {"Cortical", "Subcortical"})),
        "Stroke type": "Ischemic",
        "Primary Stroke Location": main.territory.location,
        "Primary Stroke Location Hemisphere": main.side,
        "Vascular territory": main.territory.vessel,
        "PVH": 0,
        "DWMH": 0,
        "Notes": "synthetic phantom",
    }


def dataset_or_phantom(dataset_dir: str | Path | None) -> Path:
    """Return the given data set; if there is none, write the phantom cohort and log it."""
    if dataset_dir is not None:
        return Path(dataset_dir)
    logger.info(
        "no --dataset_dir: using the phantom cohort in ./%s (synthetic scans; their scores are no results)", PHANTOM_FOLDER
    )
    with idist.one_rank_first():
        return write_phantom(PHANTOM_FOLDER)
