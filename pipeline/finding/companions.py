"""Recognize images that belong to a scan beside them: outputs of other software, parts, echoes and copies of it.

Folders that people work in hold more than scans. SPM and CAT12 mark their outputs with a prefix, FSL, ANTs and dcm2niix with an
ending. Only names and sidecars decide, and only beside the image itself: `wT1` is a scan where there is no `T1`.
"""

import gzip
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from itertools import zip_longest
from pathlib import Path

from strokelesion.pipeline.finding.acquisition import is_magnitude, sidecar_of
from strokelesion.pipeline.finding.suffixes import stem_of
from strokelesion.transforms.content import GZIP, PLAIN_AND_PACKED

# SPM and CAT12: tissue maps, bias-corrected, warped, resliced and smoothed images, deformations.
_PREFIX = re.compile(r"(?:BiasField_|i?y_|u_|s\d*|m|w|r|c[1-6]|p[0-3])+")
# FSL, ANTs and HD-BET; then dcm2niix: phase, real and imaginary part, regions, images without neck.
_ENDING = re.compile(
    r"_(?:biascorr|bias|fast_\w+|restore|pve|pveseg|seg|mixeltype|to_MNI|to_std|brain|bet|fullfov|orig|nonroi|N4|BrainExtraction\w*|"
    r"ph|real|imaginary|MoCo|ROI\d*|Crop)(?:_\w*)?"
)
# dcm2niix writes both images; the one without this ending has a wrong distance of slices or sheared slices.
_CORRECTED = re.compile(r"_(?:Eq|Tilt)(?:_\d+)?$")
_ECHO = re.compile(r"_echo-(\d+)(?=_)|_e(\d+)$")
_CHUNK_BYTES = 2**20


def reasons_beside(images: Iterable[Path]) -> dict[Path, str]:
    """Return why images are no scans of their own, by path: each one that belongs to another one of these images."""
    images = sorted(images)
    stems = {stem_path(path) for path in images}
    corrected = {path.with_name(_CORRECTED.sub("", path.name)): path for path in stems if _CORRECTED.search(path.name)}
    reasons = {**reasons_of_echoes(images), **reasons_of_copies(images)}
    for path in images:
        if better := corrected.get(stem_path(path)):
            reasons[path] = f"its slices are uneven or sheared; dcm2niix corrected that in {better.name}"
        elif origin := origin_of(path, stems):
            reasons[path] = f"made of {origin} by other software, by its name"
    return reasons


def stem_path(path: Path) -> Path:
    """Return a path without its image suffix."""
    return path.with_name(stem_of(path.name))


def origin_of(path: Path, stems: Collection[Path]) -> str:
    """Return the stem of the image that another one was made of; "" if no such image is beside it.

    Args:
        path: Image file.
        stems: All images, without suffix. CAT12 writes into a folder `mri` below that of the image.
    """
    stem = stem_of(path.name)
    folders = [path.parent, *([path.parent.parent] if path.parent.name == "mri" else [])]
    starts = [stem[cut:] for cut in range(len(stem) - 2, 0, -1) if _PREFIX.fullmatch(stem[:cut])]
    ends = [stem[: found.start()] for found in re.finditer("_", stem) if _ENDING.fullmatch(stem[found.start() :])]
    return next((origin for origin in (*starts, *ends) for folder in folders if folder / origin in stems), "")


def reasons_of_echoes(images: Iterable[Path]) -> dict[Path, str]:
    """Return why echoes are left out: beside an image that combines them or, without one, beside the first echo."""
    groups: defaultdict[Path, list[tuple[int, Path]]] = defaultdict(list)
    for path in images:
        if is_magnitude(path.name):
            groups[path.with_name(re.sub(r"_(rec|echo|part)-[^_]+", "", _ECHO.sub("", stem_of(path.name))))].append(
                (echo_number(path), path)
            )
    reasons: dict[Path, str] = {}
    for group in groups.values():
        first = min(group)
        kind = "a later echo" if first[0] else "one echo"
        reasons |= {path: f"{kind}; {first[1].name} is taken" for number, path in group if number > first[0]}
    return reasons


def echo_number(path: Path) -> int:
    """Return the number of an echo by the name of BIDS, or by that of dcm2niix and its sidecar; 0 for another image."""
    found = _ECHO.search(stem_of(path.name))
    if found is None or (found[2] and "EchoNumber" not in sidecar_of(path)):
        return 0
    return int(found[1] or found[2])


def reasons_of_copies(images: Iterable[Path]) -> dict[Path, str]:
    """Return why images are left out that have the name and the unpacked content of another one, as `T1.nii` of `T1.nii.gz`."""
    first: dict[Path, Path] = {}
    others = [(path, first.setdefault(stem_path(path), path)) for path in images]
    return {path: f"the same as {other.name}" for path, other in others if path != other and have_equal_content(path, other)}


def have_equal_content(one: Path, other: Path) -> bool:
    """Return whether two files of one format, packed with gzip or not, have the same content."""
    ends = {path.name[len(stem_of(path.name)) :].lower() for path in (one, other)}
    if not any(ends <= set(pair) for pair in PLAIN_AND_PACKED):
        return False
    try:
        return all(first == second for first, second in zip_longest(unpacked(one), unpacked(other)))
    except (OSError, EOFError):
        return False


def unpacked(path: Path) -> Iterable[bytes]:
    """Yield the content of a file in parts of equal size, unpacked if it is packed with gzip."""
    with path.open("rb") as file:
        is_packed = file.read(2) == GZIP
    with gzip.open(path) if is_packed else path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
