"""Heads for synthetic scans: conversion of label maps and T1s to tissue maps in MNI space, stored in a cache.

A prepared head has one or two NIfTI files in the cache: `tissues` (bytes, classes of `Tissue`) and, if there is a T1, `image`
(single precision) on the same grid: RAS, cropped to the head plus 5 mm. The voxels are not resampled to MNI space. Their affine
maps them to millimeters of MNI152, so that world coordinates of heads and lesion masks correspond.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import nibabel as nib
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Orientationd, ResampleToMatchd, Spacingd
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from tqdm import tqdm

from strokelesion.networks import UserError
from strokelesion.pipeline.runtime.derived_files import derived_path, file_states
from strokelesion.pipeline.runtime.errors import format_issue, refuse, user_error
from strokelesion.pipeline.runtime.files import write_bytes
from strokelesion.pipeline.synthesis.head_registration import register_to_mni
from strokelesion.pipeline.synthesis.head_tissues import add_surroundings, classify, has_surroundings
from strokelesion.pipeline.synthesis.material import Folders, files_in
from strokelesion.transforms import LoadScand
from strokelesion.transforms.synthesis.tissues import LabelTissuesd

# Increase this number when the output of this module changes, so that cached heads are prepared again.
HEADS_VERSION = 1
NAMES = {
    "labels": re.compile(r"(.+)_(?:labels|dseg|aseg)\.(?:nii|nii\.gz|mgz)"),
    "image": re.compile(r"(.+)_T1w\.(?:nii|nii\.gz|mgz)"),
}
INTERPOLATION = {"labels": "nearest", "image": "bilinear"}
MARGIN_MM = 5.0

ExtractBrain = Callable[[MetaTensor], torch.Tensor]


def find_heads(folder: Folders) -> list[dict[str, str]]:
    """Return the heads below one or several folders, sorted by person.

    Args:
        folder: Folder of label maps with FreeSurfer's labels (`X_labels`, `X_dseg` or `X_aseg`) and T1s (`X_T1w`), as `.nii`,
            `.nii.gz` or `.mgz`. Files with the same X belong to one person. Several folders: a list or separated by commas.

    Returns:
        Items with `person` and `labels`, `image` or both.

    Raises:
        UserError: A folder does not exist, no head is found, or a person has two label maps or two T1s.
    """
    heads: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for path in files_in(folder):
        for key, pattern in NAMES.items():
            if match := pattern.fullmatch(path.name):
                head = heads[match[1]]
                if (twin := head.setdefault(key, str(path))) != str(path):
                    raise UserError(f"{twin} and {path} are both {key} of {match[1]}; expected one. Move one away.")
    if not heads:
        raise UserError(
            f"found no head in {folder}; expected label maps (X_labels.nii.gz, X_dseg.nii.gz, X_aseg.mgz) or T1s "
            "(X_T1w.nii.gz). Check the folder and the names."
        )
    return [{"person": person, **heads[person]} for person in sorted(heads)]


def prepare_heads(
    heads: Sequence[Mapping[str, str]],
    cache_dir: str | Path,
    extract_brain: ExtractBrain | None = None,
    spacing_mm: float = 1.0,
) -> list[dict[str, str]]:
    """Return all prepared heads, in order; prepare those that the cache lacks and show a progress bar.

    Args:
        heads: Items from `find_heads`.
        cache_dir: Folder of the prepared heads; created if missing.
        extract_brain: Function from a T1 `(1, X, Y, Z)` in RAS to its brain mask; required for heads without labels.
        spacing_mm: Voxel size of the prepared heads.

    Returns:
        Items with `person`, `tissues` and, if there is a T1, `image`.

    Raises:
        UserError: A head has no labels and `extract_brain` is None, or a head cannot be prepared.
    """
    if extract_brain is None:
        bare = [head["image"] for head in heads if "labels" not in head]
        advice = "Expected a label map beside each (X_labels.nii.gz), or `extract_brain`, which finds the brain of a T1."
        refuse([format_issue("heads are T1s without labels", bare, advice)])
    with idist.one_rank_first(), ThreadPoolExecutor(max_workers=2) as pool:
        work = pool.map(lambda head: prepare_head(head, Path(cache_dir), extract_brain, spacing_mm), heads)
        try:
            return list(tqdm(work, total=len(heads), desc="heads", unit="head", leave=False))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def prepare_head(
    head: Mapping[str, str], cache_dir: Path, extract_brain: ExtractBrain | None, spacing_mm: float
) -> dict[str, str]:
    """Return the item of one prepared head; prepare it if the cache lacks it."""
    files = [head[key] for key in NAMES if key in head]
    made_from = [HEADS_VERSION, spacing_mm, file_states(files), LabelTissuesd, None if "labels" in head else extract_brain]
    kinds = ("tissues", "image") if "image" in head else ("tissues",)
    # Uncompressed, because each synthetic scan of this head reads them.
    paths = {kind: derived_path(cache_dir, head["person"], made_from, f"_{kind}.nii") for kind in kinds}
    if not all(path.exists() for path in paths.values()):
        try:
            volumes = in_mni(tissues_of(load(head, spacing_mm), extract_brain), spacing_mm)
        except Exception as error:
            named = " and ".join(files)
            if (known := user_error(error)) is not None:
                raise UserError(f"cannot prepare {named}: {known}") from None
            error.add_note(f"while preparing {named}")
            raise
        for kind, path in paths.items():
            write_bytes(path, as_nifti(volumes[kind]).to_bytes())
    return {"person": head["person"], **{kind: str(path) for kind, path in paths.items()}}


def load(head: Mapping[str, str], spacing_mm: float) -> dict[str, Any]:
    """Return the volumes of a head in RAS at a voxel size. If it has a label map, the T1 is on the grid of the label map."""
    keys = [key for key in NAMES if key in head]
    chain: list[Any] = [
        LoadScand(keys),
        Orientationd(keys, axcodes="RAS", labels=None),
        Spacingd(keys, spacing_mm, mode=[INTERPOLATION[key] for key in keys], padding_mode="zeros"),
    ]
    if len(keys) == 2:
        chain.append(ResampleToMatchd("image", key_dst="labels", mode="bilinear", padding_mode="zeros"))
    sample: dict[str, Any] = Compose(chain)(dict(head))
    return sample


def tissues_of(sample: Mapping[str, Any], extract_brain: ExtractBrain | None) -> dict[str, Any]:
    """Return `tissues`, from the labels or, without labels, from the T1, and `image` if there is a T1."""
    image = sample.get("image")
    if "labels" in sample:
        tissues = LabelTissuesd("labels")({"labels": sample["labels"]})["labels"]
    else:
        assert image is not None
        assert extract_brain is not None
        tissues = classify(image, extract_brain(image))
    whole = tissues if has_surroundings(tissues) else add_surroundings(tissues, image)
    return {"tissues": whole} if image is None else {"tissues": whole, "image": image}


def in_mni(volumes: Mapping[str, Any], spacing_mm: float) -> dict[str, MetaTensor]:
    """Return the volumes of a head, cropped to its tissues plus a margin, with affines to MNI space."""
    crop: Any = CropForegroundd(list(volumes), "tissues", margin=round(MARGIN_MM / spacing_mm), allow_smaller=True)
    cropped = crop(dict(volumes))
    to_mni = torch.from_numpy(register_to_mni(cropped["tissues"]))
    return {kind: MetaTensor(cropped[kind].as_tensor(), affine=to_mni @ cropped[kind].affine) for kind in volumes}


def as_nifti(volume: MetaTensor) -> nib.nifti1.Nifti1Image:
    """Return a volume `(1, X, Y, Z)` as NIfTI with an sform only, because a qform cannot represent shears."""
    array: NDArray[Any] = volume.as_tensor()[0].numpy()
    nifti = nib.nifti1.Nifti1Image(array, None)
    nifti.set_sform(volume.affine.numpy(), code="mni")
    # MONAI's reader rejects the affine if the voxel sizes in the header differ from it.
    nifti.header.set_zooms(voxel_sizes(volume.affine.numpy()))
    return nifti
