"""How results are named: BIDS derivatives, `sub-01/ses-1/anat/sub-01_ses-1_label-lesion_mask.nii.gz`.

Scans of a BIDS data set keep their entities. Others get a subject out of their path, and DICOM series one out of patient,
description and number. Whatever a path or a tag says, a name is letters, digits, hyphens and underscores.

Source: Brain Imaging Data Structure 1.10, "Derivatives" and the order of entities in its schema.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokelesion.pipeline.inference.scans import scan_name, stem_of
from strokelesion.pipeline.runtime.errors import finding, refuse

# Entities of anatomical files in the order that BIDS demands; others keep their place before `label`.
LAST_ENTITIES = ("space", "res", "den", "label", "desc")
# Names of files have at most 255 bytes: this leaves room for `_space-MNI152NLin2009aSym_label-lesion_probseg.nii.gz`.
LONGEST_NAME = 120
_DIGEST_DIGITS = 12
_ENTITY = re.compile(r"([a-z]+)-([a-zA-Z0-9]+)")


@dataclass(frozen=True)
class ScanName:
    """What a scan is called in a data set of derivatives.

    Attributes:
        entities: BIDS entities of the source in its order, `sub` first; without suffix.
    """

    entities: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return join(self.entities)

    @property
    def subject(self) -> str:
        """The subject's label, without `sub-`."""
        return dict(self.entities)["sub"]

    @property
    def session(self) -> str:
        """The session's label, without `ses-`; "" where there is none."""
        return dict(self.entities).get("ses", "")

    def path(self, ending: str, **entities: str) -> Path:
        """Return where a file about the scan lies, below the data set.

        Args:
            ending: suffix and extension: `mask.nii.gz`.
            entities: `label`, `space`, `desc`.
        """
        own = dict(self.entities) | entities
        first = [(key, value) for key, value in own.items() if key not in LAST_ENTITIES]
        last = [(key, own[key]) for key in LAST_ENTITIES if key in own]
        folders = [join([(key, own[key])]) for key in ("sub", "ses") if key in own]
        return Path(*folders, "anat", f"{join([*first, *last])}_{ending}")


def join(entities: Sequence[tuple[str, str]]) -> str:
    """Return entities as they stand in a file name."""
    return "_".join(f"{key}-{value}" for key, value in entities)


def name_scans(items: Sequence[Mapping[str, Any]], root: str | Path) -> list[ScanName]:
    """Return what each scan is called.

    Args:
        items: scans as `find_scans` returns them.
        root: the folder that holds them all; what lies below it tells scans apart that are called alike.

    Raises:
        UserError: when two scans would have one name; says which.
    """
    names = [name_of(scan_name(item), root) for item in items]
    first: dict[ScanName, str] = {}
    twins = []
    for name, item in zip(names, items, strict=True):
        if (other := first.setdefault(name, scan_name(item))) != scan_name(item):
            twins.append(f"{scan_name(item)} and {other}: {name}")
    refuse([finding("scans have the names of others", twins, "Rename them, or give their folders one by one.")])
    return names


def name_of(path: str, root: str | Path) -> ScanName:
    """Return what a scan is called, from its path without regard to what it holds."""
    stem = stem_of(Path(path).name)
    if (entities := parse_entities(stem)) is not None and len(stem) <= LONGEST_NAME:
        return ScanName(entities)
    relative = Path(path).absolute().parent.relative_to(Path(root).absolute())
    words = "".join(re.findall(r"[A-Za-z0-9]+", "/".join([*relative.parts, stem.removesuffix("_T1w")])))
    return ScanName((("sub", shortened(words) or "scan"),))


def shortened(words: str) -> str:
    """Return a label that fits into a file's name: of one that is too long, the end behind a digest of the whole."""
    if len(words) <= LONGEST_NAME:
        return words
    digest = hashlib.sha256(words.encode()).hexdigest()[:_DIGEST_DIGITS]
    return digest + words[_DIGEST_DIGITS - LONGEST_NAME :]


def parse_entities(stem: str) -> tuple[tuple[str, str], ...] | None:
    """Return the entities of a BIDS name such as `sub-01_ses-1_T1w`, None where it is no such name."""
    parts = stem.split("_")
    pairs = [_ENTITY.fullmatch(part) for part in parts[:-1]]
    if not pairs or not all(pairs):
        return None
    entities = tuple((pair[1], pair[2]) for pair in pairs if pair)
    return entities if entities[0][0] == "sub" and len(dict(entities)) == len(entities) else None
