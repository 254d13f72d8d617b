"""Write the images of one scan as BIDS derivatives, each with its sidecar."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import torch
from monai.data import MetaTensor

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.result_names import (
    CLASSES_MAP,
    CLASSES_NAMES,
    MASK,
    PROBABILITIES,
    ScanName,
    in_space,
)
from strokelesion.pipeline.lesions.measuring import MeasuredScan
from strokelesion.pipeline.runtime.files import write_json, write_nifti, write_text
from strokelesion.transforms.filling import fill_lesions
from strokelesion.transforms.geometry import FSL_NOTE, FSL_SPACE, MNI_SPACE, to_mni_space
from strokelesion.transforms.headers import MNI, mask_header
from strokelesion.transforms.stored_values import change_voxels

COMPRESSION = 4
# Table of the labels of `CLASSES_MAP`; 7 is a lesion in the common tissue table of BIDS, and the colors are those of the pages.
CLASSES_TABLE = (
    "index\tname\tabbreviation\tmapping\tcolor\n"
    "1\tmain lesion\tLmain\t7\t#ff3c28\n"
    "2\tsub-lesion\tLsub\t7\t#00e6e6\n"
)  # fmt: skip
# What the sidecars of a standard space say about the registration.
REGISTRATION = {
    MNI_SPACE: "Affine registration to MNI152NLin2009aSym; no nonlinear registration was done.",
    FSL_SPACE: FSL_NOTE,
}
FILLED = "desc-lesionfilled_T1w.nii.gz"


@dataclass(frozen=True)
class ScanFolder:
    """The files of one scan in a folder of results.

    Attributes:
        folder: Folder of the results.
        name: Name of the scan.
        sources: URIs of the scan's files, and of the mask if a person drew it.
        wanted: Value of each optional output that is wanted, by name; see `outputs.py`.
        is_manual: Whether the files are made of a mask that a person drew.
    """

    folder: Path
    name: ScanName
    sources: Sequence[str]
    wanted: Mapping[str, Any]
    is_manual: bool = False

    def path(self, file: str) -> Path:
        """Return the path of a file, see `path_in`."""
        return path_in(self.folder, self.name, file)

    def metadata_of(self, file: str) -> dict[str, Any]:
        """Return what the sidecar of any image holds; a file that begins with `space-` lies in a standard space, at 1 mm."""
        entities, is_standard = dict(self.name.entities), file.startswith("space-")
        metadata: dict[str, Any] = {"Sources": list(self.sources), **({"Manual": True} if self.is_manual else {})}
        if "space" in entities and not is_standard:
            metadata["SpatialReference"] = "orig" if entities["space"] == "orig" else self.sources[0]
        if "res" in entities or "_res-" in file:
            metadata["Resolution"] = "1 mm" if is_standard else "That of the scan"
        return metadata

    def write_image(self, file: str, values: torch.Tensor, header: nib.Nifti1Header, **metadata: Any) -> None:
        """Write an image `(X, Y, Z)` in its own data type, where a header says, and its sidecar.

        The sidecar of the mask on the scan's own grid is written last of all files, see `Results.write`.
        """
        write_volume(self.path(file), values, header)
        if file == MASK:
            return
        write_json(self.path(file.replace(".nii.gz", ".json")), {**self.metadata_of(file), **metadata})


def with_sidecar(file: str) -> tuple[str, ...]:
    """Return a file and, if it is an image or a table, its sidecar."""
    endings = [ending for ending in (".nii.gz", ".tsv") if file.endswith(ending)]
    return file, *(file.removesuffix(ending) + ".json" for ending in endings)


def path_in(folder: str | Path, name: ScanName, file: str) -> Path:
    """Return the path of a scan's file in a folder of results.

    Args:
        folder: Folder of the results.
        name: Name of the scan.
        file: Name as in `ScanName.path`, such as `label-lesion_mask.nii.gz`, or a name in which `*` stands for the scan.
            Folders before it lie in the folder of the results: `pages/*.html`.
    """
    folders, _, own = file.rpartition("/")
    return Path(folder, folders, own.replace("*", str(name)) if "*" in own else name.path(own))


def write_volume(path: Path, values: torch.Tensor, header: nib.Nifti1Header) -> None:
    """Write a volume `(X, Y, Z)` in its own data type, where a header says."""
    write_nifti(path, as_image(values, header), COMPRESSION)


def as_image(values: torch.Tensor, header: nib.Nifti1Header) -> nib.Nifti1Image:
    """Return a volume `(X, Y, Z)` as an image in its own data type, where a header says."""
    # With another affine or without a data type, nibabel would change the codes or the values.
    return nib.Nifti1Image(values.numpy(), header.get_best_affine(), header, dtype=values.numpy().dtype)


def write_lesions(scan: MeasuredScan, files: ScanFolder, _: Any) -> None:
    """Write the mask of all lesions, and the map of their classes, on the scan's own grid."""
    files.write_image(MASK, (scan.labels[0] > 0).to(torch.uint8), scan.header)
    files.write_image(CLASSES_MAP, scan.labels[0], scan.header)
    write_text(files.path(CLASSES_NAMES), CLASSES_TABLE)


def write_probabilities(scan: MeasuredScan, files: ScanFolder, _: Any) -> None:
    """Write the probability of either lesion class on the scan's own grid."""
    if scan.probabilities is not None:
        files.write_image(PROBABILITIES, either_lesion(scan.probabilities), scan.header)


def either_lesion(probabilities: MetaTensor) -> torch.Tensor:
    """Return the probability of either lesion class `(X, Y, Z)` from those of all classes `(C, X, Y, Z)`."""
    return probabilities.as_subclass(torch.Tensor)[1:].sum(dim=0).float()


def write_in_space(scan: MeasuredScan, files: ScanFolder, space: str) -> None:
    """Write the lesions in a standard space, with their probability if that is wanted.

    A scan whose registration failed has none, and a scan whose name says this space already has its results there.
    """
    if scan.segmented.to_mni is None or ("space", space) in files.name.entities:
        return
    there = to_mni_space(scan.evidence, scan.segmented.to_mni, space)
    labels = scan.decide(there).as_subclass(torch.Tensor)[0]
    header, about = mask_header(None, there.affine, MNI), {"Description": REGISTRATION[space]}
    files.write_image(in_space(space, MASK), (labels > 0).to(torch.uint8), header, Type="Lesion", **about)
    files.write_image(in_space(space, CLASSES_MAP), labels, header, **about)
    write_text(files.path(in_space(space, CLASSES_NAMES)), CLASSES_TABLE)
    if "probabilities" in files.wanted and scan.probabilities is not None:
        files.write_image(in_space(space, PROBABILITIES), either_lesion(there), header, **about)


def write_filled(scan: MeasuredScan, files: ScanFolder, _: Any) -> None:
    """Write the scan with its lesions filled, see `fill_lesions`; if they cannot be, add a warning.

    All other voxels keep their stored values. Without lesions, the scan is written as it is.
    """
    try:
        filled = fill_lesions(scan.image, scan.labels, scan.segmented.to_mni)
    except UserError as error:
        scan.warnings.append(f"no filled scan was written: {error}")
        return
    write_nifti(files.path(FILLED), change_voxels(scan.item["image"], scan.image, filled), COMPRESSION)
    about = {"Description": "Lesions filled with mirrored tissue of the other side", "SkullStripped": False}
    write_json(files.path(FILLED.replace(".nii.gz", ".json")), {**files.metadata_of(FILLED), **about})


def write_brain(scan: MeasuredScan, files: ScanFolder, draw: Any) -> None:
    """Write the brain mask that a function makes of the scan, see `BrainExtractor`; if it finds none, add a warning.

    The lesion network and the tables use another mask, so that this one changes no other result.
    """
    try:
        brain = draw(scan.image).as_subclass(torch.Tensor)
    except UserError as error:
        scan.warnings.append(f"no brain mask was written: {error}")
        return
    files.write_image("desc-brain_mask.nii.gz", brain[0].cpu().to(torch.uint8), scan.header, Type="Brain")
