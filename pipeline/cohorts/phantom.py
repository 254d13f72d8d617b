"""The phantom: a small synthetic cohort in the layout of ATLAS R1.1, for the first run without any data.

**A phantom is not a patient.** Its heads are deformed copies of one average brain in a synthetic skull; its lesions are
dark regions. It shows that a training runs and learns. Its scores are not results and do not apply to real scans. It is
easier than ATLAS in two ways, because a few scans must be enough. The median main lesion has 15 ml instead of 4.3 ml and
none is below 5 ml, so main and sub-lesions differ in size. All lesions are clearly darker than gray matter.

    phantom.json                              parameters and version; other parameters are refused
    ATLAS_R1.1/
        ATLAS_Meta-Data_Release_1.1_standard_mni.csv
        Site1/099001/t01/
            099001_t1w_deface_stx.nii.gz      float32 in [0, 100]
            099001_LesionSmooth_stx.nii.gz    main lesion
            099001_LesionSmooth_1_stx.nii.gz  further lesions, in about half of the scans

Masks use the three codings found in ATLAS R1.1, in turn. `phantom_anatomy.py` makes the images.
"""

import json
import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion
from tqdm import tqdm

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.phantom_anatomy import Mask, Stroke, grid, render
from strokelesion.pipeline.runtime.files import written_whole

logger = logging.getLogger(__name__)
VERSION = 1
"""Raise it when the same parameters give other files."""

PHANTOM_FOLDER = "phantom"
RELEASE = "ATLAS_R1.1"
METADATA = "ATLAS_Meta-Data_Release_1.1_standard_mni.csv"
FIRST_ID, LAST_ID = 99001, 99220  # R1.1 has 31768 to 31987: nobody is taken for a patient
MOST_SITES = 9
MILLIMETERS, MNI_SPACE = 2, 4  # codes of the NIfTI-1 header
MASK_SCALE = (2**32 - 1) / 2**32
"""Masks of ATLAS R1.1 hold whole numbers times this."""

MAIN_MEDIAN_ML, MAIN_LOG_DEVIATION, MAIN_LEAST_ML, MAIN_MOST_ML = 15.0, 1.0, 5.0, 140.0
SUB_LEAST_ML, SUB_MOST_ML = 0.05, 1.0
SUB_COUNT_ODDS = (0.5, 0.25, 0.15, 0.1)


@dataclass(frozen=True)
class Territory:
    """Typical location of infarcts, on the right side.

    Attributes:
        vessel: Artery, as named in the metadata.
        location: Cortical, Subcortical, Cerebellum or Brainstem.
        center_mm: Center in MNI space.
        aspect: Relative radii along x, y and z.
        least_ml: Volume of the smallest main lesion here.
        most_ml: Volume of the largest main lesion here.
    """

    vessel: str
    location: str
    center_mm: tuple[float, float, float]
    aspect: tuple[float, float, float]
    least_ml: float
    most_ml: float


TERRITORIES = (
    Territory("MCA", "Cortical", (45, -10, 20), (0.8, 1.4, 1.1), 15, 140),  # whole artery
    Territory("MCA", "Cortical", (45, 20, 22), (0.8, 1.1, 1.1), 3, 60),  # superior division
    Territory("MCA", "Cortical", (50, -42, 18), (0.8, 1.2, 1.0), 3, 60),  # inferior division
    Territory("ACA", "Cortical", (9, 38, 34), (0.6, 1.3, 1.1), 2, 30),
    Territory("PCA", "Cortical", (15, -80, 6), (0.9, 1.3, 0.8), 2, 40),
    Territory("Lenticulostriate", "Subcortical", (26, 2, 6), (0.8, 1.3, 1.2), 0.3, 15),
    Territory("MCA", "Subcortical", (25, -14, 30), (0.8, 1.3, 1.0), 0.3, 8),  # corona radiata
    Territory("PCA", "Subcortical", (12, -18, 8), (0.8, 1.0, 1.0), 0.3, 2.5),  # thalamus
    Territory("PICA", "Cerebellum", (26, -64, -42), (1.1, 1.1, 0.8), 0.5, 25),
    Territory("Basilar", "Brainstem", (5, -26, -34), (0.8, 0.8, 1.3), 0.3, 2.5),
)


@dataclass(frozen=True)
class Infarct:
    """One infarct of a subject: its territory, its side and its appearance."""

    territory: Territory
    side: str
    stroke: Stroke


@dataclass(frozen=True)
class Subject:
    """Plan of a subject, made before any image; the first infarct is the main lesion."""

    number: int
    site: int
    sessions: tuple[str, ...]
    infarcts: tuple[Infarct, ...]

    @property
    def identifier(self) -> int:
        """Return the INDI subject ID; on disk it has six digits with a leading zero."""
        return FIRST_ID + self.number


def write_phantom(folder: str | Path, subjects: int = 20, sites: int = 4, voxel_mm: float = 1.0, seed: int = 0) -> Path:
    """Write the synthetic cohort, or its missing scans.

    Each scan is written completely or not at all, so the next call continues an interrupted one. A subject depends only on
    the seed and its own number: a larger cohort begins with the subjects of a smaller one. The second subject has two
    sessions; the third has only t02.

    Args:
        folder: Folder for the release folder; created if it is missing.
        subjects: Number of subjects, 1 to 220.
        sites: Number of sites, 1 to 9; subjects are assigned to them in turn.
        voxel_mm: Voxel size: 1 is the grid of ATLAS (about 6 s and 9 MB a scan); 2 and 4 are for tests.
        seed: Seed, 0 or more; the same seed gives the same bytes on the same machine.

    Returns:
        Release folder, `<folder>/ATLAS_R1.1`.

    Raises:
        UserError: A parameter is out of its range, or the folder has a phantom with other parameters or a real release.
    """
    _check(subjects, sites, seed)
    _, affine = grid(voxel_mm)
    folder = Path(folder)
    parameters = {"version": VERSION, "subjects": subjects, "sites": sites, "voxel_mm": float(voxel_mm), "seed": seed}
    _claim(folder, parameters)
    cohort = [_subject(number, sites, seed) for number in range(subjects)]
    scans = [(subject, session) for subject in cohort for session in subject.sessions]
    missing = [scan for scan in scans if not _session_folder(folder / RELEASE, *scan).exists()]
    for subject, session in tqdm(missing, desc=f"phantom in {folder}", unit="scan", disable=not missing):
        _write_scan(folder, subject, session, seed, affine)
    metadata = pd.DataFrame([_metadata(subject, session) for subject, session in scans])
    with written_whole(folder / RELEASE / METADATA) as beside:
        metadata.to_csv(beside, index=False)
    return folder / RELEASE


def _check(subjects: int, sites: int, seed: int) -> None:
    """Raise UserError for numbers of subjects or sites that R1.1 has no names for, or a negative seed."""
    most = LAST_ID - FIRST_ID + 1
    allowed = {"subjects": (subjects, 1, most), "sites": (sites, 1, MOST_SITES), "seed": (seed, 0, 2**63)}
    for name, (value, least, largest) in allowed.items():
        if not least <= value <= largest:
            raise UserError(f"{name} is {value}; a phantom takes {least} to {largest}.")


def _claim(folder: Path, parameters: dict[str, float]) -> None:
    """Write the parameters to the folder; raise UserError if it has other parameters or a release that is no phantom."""
    record = folder / "phantom.json"
    if record.exists():
        found = json.loads(record.read_text())
        if found != parameters:
            raise UserError(f"{record} records {found}, asked for {parameters}. Name another folder, or remove this one.")
    elif (folder / RELEASE).exists():
        raise UserError(f"{folder / RELEASE} has no phantom.json beside it: it may be real. Name another folder.")
    else:
        with written_whole(record) as beside:
            beside.write_text(json.dumps(parameters, indent=2))


def _generators(seed: int, number: int) -> list[np.random.Generator]:
    """Return a subject's independent random generators: plan, head with lesion outlines, scan t01, scan t02."""
    return np.random.default_rng([seed, number]).spawn(4)


def _subject(number: int, sites: int, seed: int) -> Subject:
    """Return the plan of a subject."""
    plan, *_ = _generators(seed, number)
    sessions = {1: ("t01", "t02"), 2: ("t02",)}.get(number, ("t01",))
    return Subject(number, number % sites + 1, sessions, tuple(_infarcts(plan)))


def _infarcts(rng: np.random.Generator) -> list[Infarct]:
    """Return one main lesion of log-normal volume in a fitting territory, then up to three small, separate lesions."""
    volume_ml = float(np.clip(rng.lognormal(np.log(MAIN_MEDIAN_ML), MAIN_LOG_DEVIATION), MAIN_LEAST_ML, MAIN_MOST_ML))
    fitting = [territory for territory in TERRITORIES if territory.least_ml <= volume_ml <= territory.most_ml]
    infarcts = [_infarct(fitting[rng.integers(len(fitting))], str(rng.choice(["Left", "Right"])), volume_ml, rng)]
    for _ in range(rng.choice(len(SUB_COUNT_ODDS), p=SUB_COUNT_ODDS)):
        volume_ml = float(np.exp(rng.uniform(np.log(SUB_LEAST_ML), np.log(SUB_MOST_ML))))
        territory = TERRITORIES[rng.integers(len(TERRITORIES))]
        small = _infarct(territory, str(rng.choice(["Left", "Right"])), volume_ml, rng)
        if all(_apart(small.stroke, other.stroke) for other in infarcts):
            infarcts.append(small)
    return infarcts


def _infarct(territory: Territory, side: str, volume_ml: float, rng: np.random.Generator) -> Infarct:
    """Return an infarct near the center of its territory; small ones are dark, because they would look like a sulcus."""
    x, y, z = np.array(territory.center_mm) + rng.uniform(-4, 4, size=3)
    to_the_right = 1 if side == "Right" else -1
    small = volume_ml < 2
    stroke = Stroke(
        center_mm=(to_the_right * max(float(x), 4.0), float(y), float(z)),
        aspect=territory.aspect,
        volume_ml=volume_ml,
        darkness=rng.uniform(0.6, 1.0) if small else rng.uniform(0.4, 1.0),
        rim_mm=rng.uniform(0.3, 0.8) if small else rng.uniform(1.0, 2.5),
    )
    return Infarct(territory, side, stroke)


def _apart(one: Stroke, other: Stroke) -> bool:
    """Return whether healthy tissue remains between two lesions, with a margin for their irregular outlines."""
    distance_mm = np.linalg.norm(np.subtract(one.center_mm, other.center_mm))
    return bool(distance_mm > 1.6 * (one.radius_mm + other.radius_mm) + 6)


def _aged(stroke: Stroke) -> Stroke:
    """Return the same lesion at the second session: slightly larger and darker."""
    return replace(stroke, growth=1.1, darkness=min(1.0, stroke.darkness + 0.1))


def _session_folder(release: Path, subject: Subject, session: str) -> Path:
    """Return the folder of one session; it exists if and only if the scan is complete."""
    return release / f"Site{subject.site}" / f"{subject.identifier:06d}" / session


def _write_scan(folder: Path, subject: Subject, session: str, seed: int, affine: NDArray[np.float64]) -> None:
    """Render one session, write it to a temporary folder and move it into the release, unless the session exists."""
    _, head, *scans = _generators(seed, subject.number)
    second = session == "t02"
    strokes = [_aged(infarct.stroke) if second else infarct.stroke for infarct in subject.infarcts]
    gain = 0.65 + 0.35 * (0.618 * subject.site % 1)  # golden ratio: any number of sites is spread evenly
    image, masks = render(strokes, float(affine[0, 0]), gain, head, scans[second])
    target = _session_folder(folder / RELEASE, subject, session)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
        scan = Path(unfinished) / session
        scan.mkdir()
        _save(image, affine, scan / f"{subject.identifier:06d}_t1w_deface_stx.nii.gz")
        for index, mask in enumerate(masks):
            name = "LesionSmooth" if index == 0 else f"LesionSmooth_{index}"
            _save(_coded(mask, subject.number % 3), affine, scan / f"{subject.identifier:06d}_{name}_stx.nii.gz")
        if not target.exists():
            scan.rename(target)


def _coded(mask: Mask, kind: int) -> NDArray[np.float64]:
    """Return a mask as ATLAS R1.1 stores it: {0, 255}, {0, 1} or 0 to 255 with rounding noise at the outline, scaled."""
    if kind == 1:
        return mask * np.float64(MASK_SCALE)
    levels = np.where(mask, 255.0, 0.0)
    if kind == 2:
        levels[mask & ~binary_erosion(mask)] = 254
        levels[binary_dilation(mask) & ~mask] = 1
    return np.asarray(levels * MASK_SCALE)


def _save(array: NDArray[np.floating], affine: NDArray[np.float64], path: Path) -> None:
    """Write a NIfTI file in MNI space; its header says that it is a phantom."""
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = b"synthetic phantom, not a patient"
    image.header["xyzt_units"] = MILLIMETERS
    image.header["sform_code"] = image.header["qform_code"] = MNI_SPACE
    nib.save(image, path)


def _metadata(subject: Subject, session: str) -> dict[str, object]:
    """Return one metadata row with the columns of R1.1, where the session has a leading space too."""
    main = subject.infarcts[0]
    places = [(infarct.side, infarct.territory.location) for infarct in subject.infarcts]
    return {
        "INDI Site ID": f"Site{subject.site}",
        "INDI Subject ID": subject.identifier,
        "Session": f" {session}",
        "# Strokes LH Cortical": places.count(("Left", "Cortical")),
        "# Strokes LH subcortical": places.count(("Left", "Subcortical")),
        "# Strokes RH Cortical": places.count(("Right", "Cortical")),
        "# Strokes RH subcortical": places.count(("Right", "Subcortical")),
        "Other Location": ", ".join(sorted({place for _, place in places} - {"Cortical", "Subcortical"})),
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


def is_phantom_subject(subject: str) -> bool:
    """Return whether a subject has the name of a phantom."""
    return subject.isdigit() and FIRST_ID <= int(subject) <= LAST_ID
