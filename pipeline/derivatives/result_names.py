"""Name results as BIDS derivatives: `sub-01/ses-1/anat/sub-01_ses-1_label-lesion_mask.nii.gz`.

Scans of a BIDS data set keep their entities. For other scans the subject is made from the path, for DICOM series from patient,
number and description. A name contains only letters, digits, hyphens and underscores, whatever the path or the tags contain.

Source: Brain Imaging Data Structure 1.11, "Derivatives" and the order of entities in its schema.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokelesion.pipeline.finding.scans import scan_name
from strokelesion.pipeline.finding.suffixes import stem_of
from strokelesion.pipeline.runtime.errors import format_issue, refuse
from strokelesion.transforms.geometry import FSL_SPACE

# Last entities of anatomical files, in the order that BIDS requires; all others come before them and keep their order.
LAST_ENTITIES = ("space", "seg", "res", "den", "label", "desc")
# File names have at most 255 bytes; this limit leaves room for `_space-MNI152NLin2009aSym_label-lesion_probseg.nii.gz`.
LONGEST_NAME = 120
_HASH_DIGITS = 12
# Files of a scan: the mask of all lesions, its sidecar, which marks the scan as done, and the map of the lesion classes.
MASK = "label-lesion_mask.nii.gz"
SIDECAR = "label-lesion_mask.json"
CLASSES_MAP = "seg-lesions_dseg.nii.gz"
CLASSES_NAMES = "seg-lesions_dseg.tsv"
PROBABILITIES = "label-lesion_probseg.nii.gz"
# Mask that a person drew, see `review`, and the map of its classes.
MANUAL_MASK = "label-lesion_desc-manual_mask.nii.gz"
MANUAL_CLASSES = "seg-lesions_desc-manual_dseg.nii.gz"
# Entities that results on the scan's own grid have beside those of the scan.
RESULT_ENTITIES = (("label", "lesion"), ("seg", "lesions"))
_ENTITY = re.compile(r"([a-z]+)-([a-zA-Z0-9]+)")


@dataclass(frozen=True)
class ScanName:
    """Name of a scan in a derivatives data set.

    Attributes:
        entities: BIDS entities of the source in their order, `sub` first, without suffix.
    """

    entities: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return join(self.entities)

    @property
    def subject(self) -> str:
        """Return the subject's label, without `sub-`."""
        return dict(self.entities)["sub"]

    @property
    def session(self) -> str:
        """Return the session's label, without `ses-`; "" if there is none."""
        return dict(self.entities).get("ses", "")

    def path(self, file: str) -> Path:
        """Return the path of a file about the scan, relative to the data set.

        Args:
            file: Name of the file without the scan's entities: further entities, suffix and extension, such as
                `label-lesion_mask.nii.gz`. They replace entities of the scan.
        """
        *entities, ending = file.split("_")
        own = dict(self.entities) | dict(pair for pair in parse_pairs(entities) if pair)
        first = [(key, value) for key, value in own.items() if key not in LAST_ENTITIES]
        last = [(key, own[key]) for key in LAST_ENTITIES if key in own]
        folders = [join([(key, own[key])]) for key in ("sub", "ses") if key in own]
        return Path(*folders, "anat", f"{join([*first, *last])}_{ending}")


def in_space(space: str, file: str) -> str:
    """Return the name of a file of the scan's own grid in a standard space; BCBtoolkit needs `res` in that of FSL.

    Args:
        space: `MNI_SPACE` or `FSL_SPACE`.
        file: Name as in `ScanName.path`.
    """
    *entities, ending = file.split("_")
    own = {"space": space, **({"res": "1"} if space == FSL_SPACE else {}), **dict(filter(None, parse_pairs(entities)))}
    return f"{join([(key, own[key]) for key in LAST_ENTITIES if key in own])}_{ending}"


def join(entities: Sequence[tuple[str, str]]) -> str:
    """Return entities in the form that they have in a file name."""
    return "_".join(f"{key}-{value}" for key, value in entities)


def name_scans(items: Sequence[Mapping[str, Any]], root: str | Path) -> list[ScanName]:
    """Return the name of each scan.

    Args:
        items: Scans as `find_scans` returns them.
        root: Folder that holds all scans; the path below it distinguishes scans with the same file name.

    Raises:
        UserError: when two scans would have the same name; the message lists them.
    """
    names = [name_of(scan_name(item), root) for item in items]
    first: dict[ScanName, str] = {}
    twins = []
    for name, item in zip(names, items, strict=True):
        if (other := first.setdefault(name, scan_name(item))) != scan_name(item):
            twins.append(f"{scan_name(item)} and {other}: {name}")
    refuse([format_issue("scans have the names of others", twins, "Rename them, or give their folders one by one.")])
    return names


def name_of(path: str, root: str | Path) -> ScanName:
    """Return the name of a scan from its path alone; the file is not read."""
    stem = stem_of(Path(path).name)
    if (entities := parse_entities(stem)) is not None and len(stem) <= LONGEST_NAME:
        return ScanName(entities)
    relative = Path(path).absolute().parent.relative_to(Path(root).absolute())
    words = "".join(re.findall(r"[A-Za-z0-9]+", "/".join([*relative.parts, stem.removesuffix("_T1w")])))
    return ScanName((("sub", shortened(words) or "scan"),))


def shortened(words: str) -> str:
    """Return a label that fits into a file name; a label that is too long becomes digits of its SHA-256 and its end."""
    if len(words) <= LONGEST_NAME:
        return words
    start = hashlib.sha256(words.encode()).hexdigest()[:_HASH_DIGITS]
    return start + words[_HASH_DIGITS - LONGEST_NAME :]


def parse_entities(stem: str) -> tuple[tuple[str, str], ...] | None:
    """Return the entities of a BIDS name such as `sub-01_ses-1_T1w`, or None if it is not a BIDS name."""
    pairs = parse_pairs(stem.split("_")[:-1])
    entities = tuple(pair for pair in pairs if pair)
    if not pairs or len(entities) < len(pairs):
        return None
    return entities if entities[0][0] == "sub" and len(dict(entities)) == len(entities) else None


def parse_pairs(words: Sequence[str]) -> list[tuple[str, str] | None]:
    """Return key and value of words such as `ses-1`; None for a word that is no entity."""
    pairs = [_ENTITY.fullmatch(word) for word in words]
    return [(pair[1], pair[2]) if pair else None for pair in pairs]


def mask_of_record(folder: str | Path, name: ScanName) -> Path:
    """Return the mask of a scan that counts: the one that a person drew, if there is one, else the automatic one."""
    manual = Path(folder) / name.path(MANUAL_MASK)
    return manual if manual.exists() else Path(folder) / name.path(MASK)


def name_of_result(path: Path) -> ScanName | None:
    """Return the name of the scan that a file of the results is about; None if the file has no BIDS name."""
    entities = parse_entities(stem_of(path.name)) or ()
    own = tuple(pair for pair in entities if pair not in RESULT_ENTITIES)
    return ScanName(own) if own else None


def beside(path: Path, file: str) -> Path | None:
    """Return another file of the scan that a result is about, in the same folder, if it is there.

    Args:
        path: File of the results.
        file: Name of the other file as in `ScanName.path`.
    """
    name = name_of_result(path)
    other = None if name is None else path.with_name(name.path(file).name)
    return other if other is not None and other.is_file() else None
