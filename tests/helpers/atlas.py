"""Miniatures of every ATLAS release and of a BIDS data set, as the tests' stand-in for data that cannot be shared.

`anatomy` is one head in RAS millimeters, sampled on any grid. `write_release` puts it on disk as a release does: folder
depth, file names, table columns, value ranges, data types and the known oddities.
"""

# mypy: allow-untyped-calls

import gzip
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

Array = npt.NDArray[Any]
Shape = tuple[int, int, int]

RELEASES = ("R1.1", "R1.2", "R1.2 native", "R2.0", "R2.1", "R3.0", "BIDS")

# Center and semi-axes in RAS mm. Nothing is symmetric, so that a flip or a swapped axis shows.
HEAD_MM = ((0, -18, 8), (66, 84, 68))
MAIN_MM = ((34, -36, 22), (22, 26, 16))
SUB_MM = ((-30, 18, 30), (15, 13, 17))

# R1.x masks were scaled from 32-bit integers: 1 reads as 0.99999999977 and 255 as 254.99999994.
ALMOST_ONE = (2**32 - 1) / 2**32

# fmt: off
INDI_COLUMNS = [
    "INDI Site ID", "INDI Subject ID", "Session", "# Strokes LH Cortical", "# Strokes LH subcortical",
    "# Strokes RH Cortical", "# Strokes RH subcortical", "Other Location", "Stroke type", "Primary Stroke Location",
    "Primary Stroke Location Hemisphere", "Vascular territory", "PVH", "DWMH", "Notes",
]
# fmt: on
R3_MASK_TYPES = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)
R3_ORIENTATIONS = ("RAS", "LAS", "PSR", "PSL")


def grid(
    axcodes: str = "RAS",
    shape: Shape = (23, 27, 21),
    voxel_mm: float | tuple[float, float, float] = 8.0,
    tilt_degrees: float = 0.0,
) -> tuple[Shape, Array]:
    """A grid centered on the head: its shape and affine when stored as `axcodes`.

    `shape` and `voxel_mm` count along right, anterior, superior whatever the `axcodes`, so without tilt all
    orientations have their voxel centers at the same places.
    """
    affine = np.diag([*np.broadcast_to(voxel_mm, 3), 1.0])
    tilt = np.deg2rad(tilt_degrees)
    affine[:2] = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]) @ affine[:2]
    affine[:3, 3] = np.array(HEAD_MM[0]) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes))
    order = np.argsort(turn[:, 0])
    return (shape[order[0]], shape[order[1]], shape[order[2]]), affine @ inv_ornt_aff(turn, shape)


def anatomy(shape: Shape, affine: Array) -> tuple[Array, Array, Array]:
    """The head sampled at voxel centers: T1w (float32, 0 outside, up to 100) and the masks of both lesions (bool).

    Brain is 60 to 90, brightest at the right front top; lesions are 20.
    """
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    mm = nib.affines.apply_affine(affine, voxels)
    head, main, sub = (_ellipsoid(mm, *place) for place in (HEAD_MM, MAIN_MM, SUB_MM))
    t1 = np.where(main | sub, 20, 75 + mm @ [0.10, 0.06, 0.05]) * head
    return t1.astype(np.float32), main, sub


def _ellipsoid(mm: Array, center: tuple[int, int, int], radii: tuple[int, int, int]) -> Array:
    inside: Array = np.sum(((mm - np.array(center)) / radii) ** 2, axis=-1) <= 1
    return inside


def save_nifti(path: Path, data: Array, affine: Array, slope_nan: bool = False) -> Path:
    """Save an image in the type of its data; scl_slope can be NaN (no scaling), as some ATLAS files have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = nib.Nifti1Image(data, affine, dtype=data.dtype).to_bytes()
    if slope_nan:  # nibabel would write 1; scl_slope is the float32 at byte 112
        content = content[:112] + struct.pack("<f", np.nan) + content[116:]
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
    return path


@dataclass(frozen=True)
class Miniature:
    """What every release is written from: where, how many subjects, on which grid."""

    folder: Path
    subjects: int
    shape: Shape
    voxel_mm: float

    def scans(self) -> Iterator[tuple[int, int]]:
        """Subject and session numbers of R1.x: the first has t01 and t02, the second only t02, the others only t01."""
        sessions = {0: (1, 2), 1: (2,)}
        return ((i, session) for i in range(self.subjects) for session in sessions.get(i, (1,)))

    def sample(
        self, i: int, session: int = 1, axcodes: str = "RAS", stretch: tuple[float, float, float] = (1, 1, 1)
    ) -> tuple[Array, Array, Array, Array]:
        """T1w, main mask, sub-mask and affine; scans differ by their noise, never by their masks."""
        right, anterior, superior = (factor * self.voxel_mm for factor in stretch)
        shape, affine = grid(axcodes, self.shape, (right, anterior, superior))
        t1, main, sub = anatomy(shape, affine)
        noise = np.random.default_rng((i, session)).normal(0, 2, shape)
        return np.where(t1 > 0, t1 + noise, 0).astype(np.float32), main, sub, affine


def write_release(
    folder: Path,
    release: str,
    subjects: int = 6,
    shape: Shape = (23, 27, 21),
    voxel_mm: float = 8.0,
) -> Path:
    """Write a miniature of one of `RELEASES` below `folder` and return the folder of the release.

    Subject i of R1.x has i mod 3 sub-masks; sites take turns. R3.0 needs 6 subjects to show all six mask types. The
    same subject number is the same person wherever a release's table says so: R2.0's first subject is R1.1's 031768
    and R1.2's c0003s0001.
    """
    writers: dict[str, tuple[str, Callable[[Miniature], None]]] = {
        "R1.1": ("ATLAS_R1.1", _write_r11),
        "R1.2": ("ATLAS_R1.2", _write_r12),
        "R1.2 native": ("ATLAS_R1.2", lambda miniature: _write_r12(miniature, space="")),
        "R2.0": ("ATLAS_2", _write_r20),
        "R2.1": ("ATLAS_R2.1_raw", _write_raw),
        "R3.0": ("ATLAS3_Training_Raw", _write_raw),
        "BIDS": ("bids", _write_bids),
    }
    name, write = writers[release]
    root = folder / name
    root.mkdir(parents=True, exist_ok=True)
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    write(Miniature(root, subjects, shape, voxel_mm))
    return root


def r1_mask(mask: Array, kind: int) -> Array:
    """A mask as R1.x codes it: {0, 1}, {0, 255} or, as kind 2, 253 to 255 with noise of 1 and 2 around the lesion."""
    if kind == 2:
        noise = np.roll(mask, 1, axis=0) * 1 + np.roll(mask, -1, axis=1) * 1
        steps = np.arange(mask.size).reshape(mask.shape) % 3
        levels = np.where(mask, 253 + steps, noise)
    else:
        levels = mask * (1, 255)[kind]
    return np.asarray(levels * ALMOST_ONE)


def _write_r1_scan(miniature: Miniature, i: int, session: int, name: Path, t1_suffix: str, space: str) -> None:
    t1, main, sub, affine = miniature.sample(i, session)
    t1 = t1 / t1.max() * np.float32(100.0001)
    t1[t1 == 0] = -0.0003
    save_nifti(name.with_name(f"{name.name}_{t1_suffix}{space}.nii.gz"), t1, affine)
    masks = {"": main, **dict(zip(("_1", "_2"), _sub_masks(sub, i % 3), strict=False))}
    for suffix, mask in masks.items():
        path = name.with_name(f"{name.name}_LesionSmooth{suffix}{space}.nii.gz")
        save_nifti(path, r1_mask(mask, kind=i % 3), affine)


def _sub_masks(sub: Array, count: int) -> list[Array]:
    """The small lesion as none, one or two masks (cut in half along the last axis)."""
    top = np.arange(sub.shape[2]) > np.mean(np.nonzero(sub)[2])
    return [[], [sub], [sub & top, sub & ~top]][count]


def _write_r11(miniature: Miniature) -> None:
    rows = []
    for i, session in miniature.scans():
        site, subject = f"Site{i % 3 + 1}", f"{31768 + i:06d}"
        folder = miniature.folder / site / subject / f"t{session:02d}"
        _write_r1_scan(miniature, i, session, folder / subject, "t1w_deface", "_stx")
        strokes = [1, 0, 1, i % 3, 0, "Embolic", "Cortical", "Right", "MCA", 1, 2, None]
        rows.append([site, 31768 + i, f" t{session:02d}", *strokes])
    table = pd.DataFrame(rows, columns=INDI_COLUMNS)
    table.to_csv(miniature.folder / "ATLAS_Meta-Data_Release_1.1_standard_mni.csv", index=False)


def _write_r12(miniature: Miniature, space: str = "_stx") -> None:
    rows = []
    for i, session in miniature.scans():
        site = f"c{3 + i % 3:04d}"
        subject = f"{site}s{i + 1:04d}"
        name = f"{subject}t{session:02d}"
        _write_r1_scan(miniature, i, session, miniature.folder / site / name / name, "t1w", space)
        rows.append([subject, f"t{session:02d}", 1, "Embolic"])
    # The real table has more columns; those that name the scan are the ones that matter here.
    table = pd.DataFrame(rows, columns=["ATLAS Subject ID", "Session", "# Strokes RH Cortical", "Stroke type"])
    table.to_excel(miniature.folder / "20171106_ATLAS_Meta-Data_Release_1.1_Updated.xlsx", index=False)


def _anat(folder: Path, site: str, i: int) -> Path:
    """Path of a scan of R2.0 and later, up to the session; adds what macOS and the makers left lying about."""
    subject = f"sub-{site.lower()}s{i + 1:03d}"
    anat = folder / site / subject / "ses-1" / "anat"
    anat.mkdir(parents=True)
    description = {"Name": "ATLAS", "BIDSVersion": "1.4.0"}
    (folder / site / "dataset_description.json").write_text(json.dumps(description))
    (anat / f"._{subject}_ses-1_space-orig_desc-brain_T1w.nii.gz").write_bytes(b"\0\5\x16\7")
    return anat / f"{subject}_ses-1"


def _write_r20(miniature: Miniature) -> None:
    rows = []
    for i in range(miniature.subjects + 1):
        folder, site = ("Training", f"R{1 + i % 3:03d}") if i < miniature.subjects else ("Testing", "R005")
        name = _anat(miniature.folder / folder, site, i)
        t1, main, sub, affine = miniature.sample(i)
        # 1.5: R2.0 exceeds 100.
        save_nifti(Path(f"{name}_space-MNI152NLin2009aSym_T1w.nii.gz"), t1 * np.float32(1.5), affine, slope_nan=True)
        if folder == "Training":
            mask = Path(f"{name}_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz")
            save_nifti(mask, (main | sub).astype(np.uint8), affine)
        link = ("c0003s0001", 31768) if i == 0 else (None, None)
        rows.append([name.name.split("_")[0], "ses-1", *link, 1, 0, i % 3])
    columns = ["Subject ID", "Session", "ATLAS 1.2 Subject ID", "INDI Subject ID"]
    lesions = [f"# Lesions {where}" for where in ("LH Cortical and White Matter", "LH Subcortical", "Other Location")]
    table = pd.DataFrame(rows, columns=columns + lesions)
    table.to_excel(miniature.folder / "20220425_ATLAS_2.0_MetaData.xlsx", index=False)


def _write_raw(miniature: Miniature) -> None:
    """R2.1 and R3.0: native grids in four orientations, six mask types, a table beside each scan."""
    sites = ("R001", "R002", "R039")
    for i in range(miniature.subjects):
        site = sites[i % 3]
        name = _anat(miniature.folder, site, i)
        t1, main, sub, affine = miniature.sample(i, axcodes=R3_ORIENTATIONS[i % 4], stretch=(1.0, 0.9, 1.2))
        # Scanners scale as they like: maxima run from 70 to 5.6e6. The second scan has a trailing singleton axis.
        t1 = t1 / t1.max() * np.float32(np.geomspace(70, 5.6e6, 4)[i % 4])
        t1 = t1[..., np.newaxis] if i == 1 else t1
        save_nifti(Path(f"{name}_space-orig_desc-brain_T1w.nii.gz"), t1, affine, slope_nan=i % 2 == 1)
        # R039 has masks of 0.99999, which an integer cast turns into nothing.
        mask = ((main | sub) * (ALMOST_ONE if i % 6 == 5 else 1)).astype(R3_MASK_TYPES[i % 6])
        save_nifti(Path(f"{name}_space-orig_label-lesion_desc-T1lesion_mask.nii.gz"), mask, affine)
        _write_raw_table(name, site, days=None if i == 1 else 30 * i + 5)


def _write_raw_table(name: Path, site: str, days: int | None) -> None:
    row = {
        "ATLAS2_DATASET": "Training",
        "SESSION_ID": name.name,
        "DAYS_POST_STROKE": days,
        "CHRONICITY": None,
        "SITE": None if days is None else f"{site}_center",
    }
    pd.DataFrame([row]).to_csv(f"{name}_metadata.csv", index=False)


def _write_bids(miniature: Miniature) -> None:
    """Odd subjects have two sessions and their masks among the derivatives, beside a brain mask; even ones neither."""
    root = miniature.folder
    (root / "dataset_description.json").write_text(json.dumps({"Name": "Own scans", "BIDSVersion": "1.10.0"}))
    rows = []
    for i in range(miniature.subjects):
        subject = f"sub-{i + 1:02d}"
        rows.append([subject, 50 + i, "n/a" if i == 2 else "north"])
        for number, session in enumerate(("ses-a", "ses-b") if i % 2 else ("",)):
            name = "_".join(filter(None, [subject, session]))
            place = Path(subject, session, "anat", name)
            masks = root / "derivatives" / "lesions" if i % 2 else root
            t1, main, sub, affine = miniature.sample(i, number)
            save_nifti(Path(f"{root / place}_T1w.nii.gz"), t1.astype(np.int16), affine)
            save_nifti(Path(f"{masks / place}_label-lesion_mask.nii"), (main | sub).astype(np.uint8), affine)
            if i % 2:
                brain = Path(f"{masks / place}_desc-brain_mask.nii.gz")
                save_nifti(brain, (t1 > 0).astype(np.uint8), affine)
    table = pd.DataFrame(rows, columns=["participant_id", "age", "site"])
    table.to_csv(root / "participants.tsv", sep="\t", index=False)
