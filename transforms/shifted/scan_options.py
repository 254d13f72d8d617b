"""Which properties a scan of the second generator has: drawn from its seed alone, so that tables can list them."""

from dataclasses import dataclass

import numpy as np

VIEWS = ("head", "neck", "stripped")
VIEW_SHARES = (0.45, 0.4, 0.15)
LESION_KINDS = ("gliosis", "rim", "lacune", "laminar", "wedge", "fogged")
# Extent of the field of view, in mm: left to right, back to front, and range from top to bottom.
WIDTH_MM, DEPTH_MM = 208.0, 248.0
HEIGHT_MM = {"head": (205.0, 225.0), "neck": (250.0, 300.0), "stripped": (190.0, 205.0)}


@dataclass(frozen=True)
class ScanOptions:
    """Properties of one scan.

    Attributes:
        view: `head`, `neck` (long field of view, down to the shoulders) or `stripped` (no tissue around the brain).
        extent_mm: Extent of the field of view.
        field_t: Field strength in tesla.
        sequence: `mprage` or `spoiled` (spoiled gradient echo).
        atrophy: Widening of ventricles and sulci, from 0 to 1.
        white_matter_disease: Extent of old white-matter disease, from 0 to 1.
        vascular_spaces: Number of enlarged perivascular spaces.
        bright_muscle: Whether muscle is as bright as brain.
        contrast_agent: Whether vessels, mucosa and dura are bright.
        fat_suppressed: Whether fat is dark.
        lesion_kind: One of `LESION_KINDS`.
        lesion_tone: Tone of the lesions, 0 (gray matter) to 1 (CSF).
        lesion_border_mm: Width of the border of the lesions; large values fade.
        coil: Exponent of the receive field, 0 (corrected by the scanner) to 1 (uncorrected).
        noise: Standard deviation of the noise in each channel, relative to white matter.
        resolution_mm: Acquired voxel size.
        window: Strength of the filter against ringing, from 0 to 1.
        slice_mm: Thickness of the slices; 0 for a 3D acquisition.
        motion_mm: Amplitude of periodic motion, which makes ghosts.
    """

    view: str
    extent_mm: tuple[float, float, float]
    field_t: float
    sequence: str
    atrophy: float
    white_matter_disease: float
    vascular_spaces: int
    bright_muscle: bool
    contrast_agent: bool
    fat_suppressed: bool
    lesion_kind: str
    lesion_tone: float
    lesion_border_mm: float
    coil: float
    noise: float
    resolution_mm: float
    window: float
    slice_mm: float
    motion_mm: float


def draw_scan_options(seed: int) -> ScanOptions:
    """Return the properties of the scan with this seed."""
    rng = np.random.default_rng([seed, 26])
    view = str(rng.choice(VIEWS, p=VIEW_SHARES))

    def rare(share: float, low: float, high: float) -> float:
        """Return a number from a range for a share of the scans, 0 for the others."""
        value = float(rng.uniform(low, high))
        return round(value, 3) if rng.uniform() < share else 0.0

    return ScanOptions(
        view=view,
        extent_mm=(WIDTH_MM, DEPTH_MM, float(round(rng.uniform(*HEIGHT_MM[view])))),
        field_t=float(rng.choice([1.5, 3.0])),
        sequence=str(rng.choice(["mprage", "spoiled"], p=[0.7, 0.3])),
        atrophy=rare(0.6, 0.1, 1),
        white_matter_disease=rare(0.5, 0.1, 1),
        vascular_spaces=round(rare(0.4, 10, 150)),
        bright_muscle=bool(rng.uniform() < 0.3),
        contrast_agent=bool(rng.uniform() < 0.15),
        fat_suppressed=bool(rng.uniform() < 0.2),
        lesion_kind=str(rng.choice(LESION_KINDS)),
        lesion_tone=round(float(rng.uniform(0.1, 1)), 3),
        lesion_border_mm=round(float(np.exp(rng.uniform(np.log(0.2), np.log(2)))), 3),
        coil=round(float(rng.uniform(0, 0.8)), 3),
        noise=round(float(rng.uniform(0.01, 0.06)), 3),
        resolution_mm=round(float(rng.uniform(1.0, 1.4)), 3),
        window=round(float(rng.uniform()), 3),
        slice_mm=rare(0.2, 2, 5),
        motion_mm=rare(0.2, 0.3, 1.2),
    )
