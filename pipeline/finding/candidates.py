"""Decide which files of a folder are scans, and give a reason for each image that is left out.

Known layouts: BIDS (`*_T1w`; derivatives and sourcedata are passed over), FreeSurfer subjects (`mri/T1.mgz`, else
`mri/orig.mgz`), nnU-Net (`imagesTr` and `imagesTs`, channel 0000). In other folders all images except masks and maps are scans.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from strokelesion.pipeline.finding.companions import reasons_beside, stem_path
from strokelesion.pipeline.finding.dicom import LeftOut, is_dicom
from strokelesion.pipeline.finding.suffixes import IMAGE_SUFFIXES, reason_not_read, stem_of
from strokelesion.pipeline.runtime.walking import walk
from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.sample_error import SampleError

# Files that are certainly no DICOM; they are not opened.
NO_DICOM = (".json", ".tsv", ".csv", ".txt", ".md", ".html", ".pdf", ".png", ".jpg", ".raw", ".gz", ".bval", ".bvec", ".py")
# A file whose last word is one of these is a mask or map.
MASK_ENDINGS = {"mask", "dseg", "probseg", "probabilities", "seg", "roi", "label", "labels"}
# With one of these words elsewhere or at the end, the values decide: it may be the name of the study.
MASK_WORDS = MASK_ENDINGS | {"lesion", "lesions"}
# A label map has at most this many values; an 8-bit scan has more than 100.
MOST_LABELS = 32
PASSED_OVER = {
    "derivatives": "images that other software made of scans",
    "sourcedata": "the sources of the scans beside it",
    "labelsTr": "label maps of nnU-Net",
    "labelsTs": "label maps of nnU-Net",
}
NNUNET_IMAGES = ("imagesTr", "imagesTs")
# T1 of a FreeSurfer subject, the preferred one first.
FREESURFER_T1 = ("T1.mgz", "orig.mgz")


@dataclass
class Candidates:
    """What a folder holds.

    Attributes:
        images: Image files that are scans, sorted.
        dicom: DICOM files.
        left_out: Other images, and why they are no scans.
    """

    images: list[Path] = field(default_factory=list)
    dicom: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def add(self, others: "Candidates") -> None:
        """Add what another folder holds."""
        self.images += others.images
        self.dicom += others.dicom
        self.left_out += others.left_out

    def leave_out(self, path: Path, reason: str) -> None:
        """Add a file or folder that is no scan."""
        self.left_out.append(LeftOut(str(path), reason))


def find_candidates(root: Path, take: str = "t1w") -> Candidates:
    """Return the scans in a folder and its subfolders, in which links are followed and hidden folders passed over.

    Args:
        root: Folder.
        take: `t1w` to take only images named T1w if there are any, `all` to take all that may be a T1.
    """
    found = Candidates()
    is_derivative = "derivatives" in root.absolute().parts
    for folder, folders, files in walk(root):
        for path in [folder / name for name in folders]:
            if reason := reason_to_pass(path, is_derivative):
                folders.remove(path.name)
                found.leave_out(path, f"holds {reason}; name it to take them")
        if (t1 := freesurfer_t1(folder, files)) is not None:
            folders.clear()
            found.images.append(t1)
            found.leave_out(folder, f"other images of a FreeSurfer subject; {t1.name} is taken")
            continue
        for name in files:
            sort_file(folder / name, found)
    keep_scans(found, take)
    return found


def reason_to_pass(folder: Path, is_derivative: bool) -> str:
    """Return why a folder is not entered; "" if it is, as are derivatives below a folder of derivatives."""
    if folder.name in PASSED_OVER:
        return PASSED_OVER[folder.name]
    if folder.name.startswith("fsaverage") and (folder / "mri").is_dir():
        return "FreeSurfer's template"
    if is_derivative:
        return ""
    try:
        about = json.loads((folder / "dataset_description.json").read_text(encoding="utf-8"))
        return PASSED_OVER["derivatives"] if about["DatasetType"] == "derivative" else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def freesurfer_t1(folder: Path, files: list[str]) -> Path | None:
    """Return the T1 of the folder `mri` of a FreeSurfer subject; None for another folder."""
    known = [name for name in FREESURFER_T1 if name in files]
    return folder / known[0] if known and folder.name == "mri" else None


def sort_file(path: Path, found: Candidates) -> None:
    """Add a file to the images, to the DICOM files or to what is left out; ignore other files."""
    name = path.name.lower()
    if name.endswith(IMAGE_SUFFIXES):
        if path.parent.name in NNUNET_IMAGES and re.search(r"_000[1-9]$|_00[1-9]\d$", stem_of(path.name)):
            found.leave_out(path, "a channel of nnU-Net other than the first")
        else:
            found.images.append(path)
    elif reason := reason_not_read(name):
        found.leave_out(path, reason)
    elif not name.endswith(NO_DICOM) and is_dicom(path):
        found.dicom.append(path)
    elif name.endswith(".img") and not any(path.with_suffix(suffix).is_file() for suffix in (".hdr", ".HDR")):
        found.leave_out(path, "its header is missing; expected a .hdr of the same name")


def keep_scans(found: Candidates, take: str) -> None:
    """Move images that are no scans to what is left out: not T1w where there are T1w, masks, maps, and parts of others."""
    images, found.images = sorted(found.images), []
    with_t1w = {path.parent for path in images if is_t1w(path) and take == "t1w"}
    names, beside = {stem_path(path) for path in images}, reasons_beside(images)
    for path in images:
        if with_t1w and not (is_t1w(path) or (path.parent not in with_t1w and is_unit1(path))):
            found.leave_out(path, "its name does not end with _T1w, and others do; --take all takes it")
        elif reason := ("" if with_t1w else mask_reason(path, names)) or beside.get(path, ""):
            found.leave_out(path, reason)
        else:
            found.images.append(path)


def is_t1w(path: Path) -> bool:
    """Return whether a name ends with the suffix that BIDS gives to T1-weighted images."""
    return path.name.split(".")[0].endswith("_T1w")


def is_unit1(path: Path) -> bool:
    """Return whether a name ends with the suffix that BIDS gives to the T1-weighted image of an MP2RAGE."""
    return path.name.split(".")[0].endswith("_UNIT1")


def mask_reason(path: Path, names: Collection[Path]) -> str:
    """Return why an image is a mask or map rather than a scan, by its name and, if that is not enough, by its values.

    Args:
        path: Image file.
        names: All image files, without suffix: `T1_lesion` beside `T1` is a mask.
    """
    if not words_of(path) & MASK_WORDS:
        return ""
    first, _, last = re.fullmatch(r"(.*?)([-_.]?)([^-_.]*)", stem_of(path.name)).groups()  # type: ignore[union-attr]
    if last.lower() in MASK_ENDINGS or (last.lower() in MASK_WORDS and path.with_name(first) in names):
        return "a mask or map by its name"
    return values_of_mask(path)


def words_of(path: Path) -> set[str]:
    """Return the words of a file name in lower case; `LesionSmooth` are two."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", path.name)}


def values_of_mask(path: Path) -> str:
    """Return a description of the values of a label map or probability map; "" if the values are those of a scan."""
    try:
        values = np.unique(load_volume(str(path)).numpy())
    except SampleError as error:
        return f"a mask by its name, and it {error.what}"
    if len(values) <= MOST_LABELS:
        return f"a mask by its name and its {len(values)} values"
    return "a map by its name and its values from 0 to 1" if values[0] >= 0 and values[-1] <= 1 else ""
