"""Heads for synthetic scans: a folder of label maps and T1s in, tissue maps in MNI space out, made once.

A prepared head is a pair of NIfTI files in the cache: `tissues` (bytes, classes of `Tissue`) and, where there is a T1,
`image` (single precision) on the same grid: RAS, cropped to the head plus 5 mm. Nothing is warped: their affine maps voxels
to millimeters of MNI152, so whoever samples by world coordinates finds a lesion mask in MNI space at its place.
"""

import hashlib
import json
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
from strokelesion.pipeline.runtime.errors import finding, refuse, user_error
from strokelesion.pipeline.runtime.files import write_bytes
from strokelesion.pipeline.synthesis.head_registration import register_to_mni
from strokelesion.pipeline.synthesis.head_tissues import add_surroundings, classify, has_surroundings
from strokelesion.pipeline.synthesis.material import Folders, files_in
from strokelesion.transforms import LoadScand
from strokelesion.transforms.recipe import parts
from strokelesion.transforms.synthesis.tissues import LabelTissuesd

# To be raised when what this module writes changes: heads prepared before are then made anew.
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
        folder: with label maps in FreeSurfer's numbers (`X_labels`, `X_dseg` or `X_aseg`) and T1s (`X_T1w`), as `.nii`,
            `.nii.gz` or `.mgz`; files with the same X are of one person. Several folders: a list, or separated by commas.

    Returns:
        Items with `person` and `labels`, `image` or both.

    Raises:
        UserError: when a folder is not there, nothing is found, or a person has two label maps or two T1s.
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
    workers: int = 2,
) -> list[dict[str, str]]:
    """Prepare the heads that the cache lacks, with a progress bar, and return all, in order.

    Args:
        heads: items as `find_heads` gives them.
        cache_dir: folder of the prepared heads; made if need be.
        extract_brain: takes a T1 `(1, X, Y, Z)` in RAS to the mask of its brain; needed for heads without labels.
        spacing_mm: voxel size of the prepared heads.
        workers: heads prepared at once.

    Returns:
        Items with `person`, `tissues` and, where there is a T1, `image`.

    Raises:
        UserError: when a head has no labels and there is no `extract_brain`, or when one cannot be prepared.
    """
    if extract_brain is None:
        bare = [head["image"] for head in heads if "labels" not in head]
        advice = "Expected a label map beside each (X_labels.nii.gz), or `extract_brain`, which finds the brain of a T1."
        refuse([finding("heads are T1s without labels", bare, advice)])
    with idist.one_rank_first(), ThreadPoolExecutor(max_workers=workers) as pool:
        work = pool.map(lambda head: prepare_head(head, Path(cache_dir), extract_brain, spacing_mm), heads)
        try:
            return list(tqdm(work, total=len(heads), desc="heads", unit="head", leave=False))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def prepare_head(
    head: Mapping[str, str], cache_dir: Path, extract_brain: ExtractBrain | None, spacing_mm: float
) -> dict[str, str]:
    """Prepare one head unless the cache holds it; return its item."""
    stem = cache_dir / f"{head['person']}_{digest(head, extract_brain, spacing_mm)}"
    kinds = ("tissues", "image") if "image" in head else ("tissues",)
    # Not compressed: these are read again for every scan composed of them.
    paths = {kind: stem.with_name(f"{stem.name}_{kind}.nii") for kind in kinds}
    if not all(path.exists() for path in paths.values()):
        try:
            volumes = in_mni(tissues_of(load(head, spacing_mm), extract_brain), spacing_mm)
        except Exception as error:
            files = " and ".join(head[key] for key in NAMES if key in head)
            if (known := user_error(error)) is not None:
                raise UserError(f"cannot prepare {files}: {known}") from None
            error.add_note(f"while preparing {files}")
            raise
        for kind, path in paths.items():
            write_bytes(path, as_nifti(volumes[kind]).to_bytes())
    return {"person": head["person"], **{kind: str(path) for kind, path in paths.items()}}


def digest(head: Mapping[str, str], extract_brain: ExtractBrain | None, spacing_mm: float) -> str:
    """Return 20 digits of the SHA-256 of the input files (path, size, time of change) and of what is done with them."""
    paths = [Path(head[key]).absolute() for key in NAMES if key in head]
    inputs = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    extraction = None if "labels" in head else parts(extract_brain)
    recipe = json.dumps([HEADS_VERSION, spacing_mm, inputs, parts(LabelTissuesd), extraction])
    return hashlib.sha256(recipe.encode()).hexdigest()[:20]


def load(head: Mapping[str, str], spacing_mm: float) -> dict[str, Any]:
    """Read a head in RAS at a voxel size; the T1 on the grid of the label map, if there is one."""
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
    """Return `tissues`, from the labels or else from the T1, and `image` if there is one."""
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
    """Crop the volumes of a head to its tissues plus a margin, with affines that lead to MNI space."""
    crop: Any = CropForegroundd(list(volumes), "tissues", margin=round(MARGIN_MM / spacing_mm), allow_smaller=True)
    cropped = crop(dict(volumes))
    to_mni = torch.from_numpy(register_to_mni(cropped["tissues"]))
    return {kind: MetaTensor(cropped[kind].as_tensor(), affine=to_mni @ cropped[kind].affine) for kind in volumes}


def as_nifti(volume: MetaTensor) -> nib.nifti1.Nifti1Image:
    """Return a volume `(1, X, Y, Z)` as NIfTI; its affine has shears, so it stands in the sform alone."""
    array: NDArray[Any] = volume.as_tensor()[0].numpy()
    nifti = nib.nifti1.Nifti1Image(array, None)
    nifti.set_sform(volume.affine.numpy(), code="mni")
    # MONAI's reader takes the affine for broken where the voxel sizes in the header are others.
    nifti.header.set_zooms(voxel_sizes(volume.affine.numpy()))
    return nifti
