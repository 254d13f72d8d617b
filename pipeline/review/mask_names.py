"""Find the scan that a mask of another program belongs to, by the name of the mask.

A name belongs to a scan if it has the BIDS entities of the results, or if it begins with the name of the results or of the
scan's file: `sub-01_label-lesion_mask.nii.gz`, `sub-01_T1w-label.nrrd`, `patient7 corrected.nii.gz`, and `patient7.nii.gz` of
MONAI Label. Scans with equal file names are distinguished by the folder of the mask: `patient7/T1_lesion.nii.gz`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from os.path import realpath
from pathlib import Path

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.result_names import parse_entities
from strokelesion.pipeline.finding.suffixes import IMAGE_SUFFIXES, stem_of
from strokelesion.pipeline.runtime.errors import format_issue, refuse

# Entities of a mask that its scan need not have.
_OF_MASK = ("label", "seg", "desc")
_DSEG = re.compile(r"_dseg(?=\.)")
Sources = Mapping[str, Sequence[str]]


def match_masks(folder: Path, scans: Sources) -> dict[str, list[Path]]:
    """Return the mask of each scan by the name of the scan, followed by the map of its classes if there is one.

    Args:
        folder: Folder of the masks; all images in it and below must be masks, or scans of these.
        scans: Paths of the files that each scan was read from, by name.

    Raises:
        UserError: There is no mask, a file belongs to no scan or to several, or a scan has several masks; lists them.
    """
    found: defaultdict[str, list[Path]] = defaultdict(list)
    strange = []
    for path in list_masks(folder, scans):
        owners = find_owners(path, scans)
        if len(owners) != 1:
            strange.append(f"{path}: {'no scan' if not owners else ', '.join(owners)}")
        else:
            found[owners[0]].append(path)
    if not found and not strange:
        raise UserError(f"{folder} holds no masks; expected {', '.join(IMAGE_SUFFIXES)} files. Check --masks.")
    pairs = {name: sorted(paths, key=lambda path: bool(_DSEG.search(path.name))) for name, paths in found.items()}
    rivals = [f"{name}: {', '.join(map(str, paths))}" for name, paths in pairs.items() if not is_one_mask(paths)]
    advice = "Expected the name of a scan's results or file, and more words after it. Rename them, or move them away."
    refuse(
        [
            format_issue("masks belong to no scan, or to several by their names", strange, advice),
            format_issue("scans have several masks", rivals, "Keep one of each; a _mask may have its _dseg beside it."),
        ]
    )
    return pairs


def list_masks(folder: Path, scans: Sources) -> Iterator[Path]:
    """Yield the images in a folder and below it, sorted, without hidden files and without the scans themselves."""
    if not folder.is_dir():
        raise UserError(f"--masks got {folder}, which is no folder; expected that of corrected masks. Check the path.")
    known = {realpath(source) for sources in scans.values() for source in sources}
    for path in sorted(folder.rglob("[!.]*")):
        if path.is_file() and path.name.lower().endswith(IMAGE_SUFFIXES) and realpath(path) not in known:
            yield path


def is_one_mask(paths: Sequence[Path]) -> bool:
    """Return whether files are one mask, or a mask and the map of its classes."""
    return len(paths) == 1 or [bool(_DSEG.search(path.name)) for path in paths] == [False, True]


def find_owners(path: Path, scans: Sources) -> list[str]:
    """Return the names of the scans that a mask may belong to; the longest part of the name that fits decides."""
    stem = stem_of(path.name).removesuffix(".seg")
    if (entities := own_entities(stem)) is not None:
        return [name for name in scans if own_entities(f"{name}_mask") == entities]
    fits = {name: max(map(len, filter(lambda key: begins(stem, key), keys_of(name, scans[name]))), default=0) for name in scans}
    longest = max(fits.values(), default=0)
    owners = [name for name, length in fits.items() if length == longest > 0]
    beside = [name for name in owners if path.parent.name in {Path(source).parent.name for source in scans[name]}]
    return beside if len(owners) > 1 and beside else owners


def own_entities(stem: str) -> list[tuple[str, str]] | None:
    """Return the entities of a BIDS name that its scan has too; None if it is no BIDS name."""
    entities = parse_entities(stem)
    return None if entities is None else sorted(pair for pair in entities if pair[0] not in _OF_MASK)


def keys_of(name: str, sources: Sequence[str]) -> list[str]:
    """Return the words with which the name of a mask may begin: the name of the results, and that of the file."""
    return [name, *(stem_of(Path(source).name) for source in sources)]


def begins(stem: str, key: str) -> bool:
    """Return whether a stem is a key, or goes on after it with something other than a letter or a digit."""
    return stem == key or (stem.startswith(key) and not stem[len(key)].isalnum())
