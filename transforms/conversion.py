"""Convert one DICOM series to NIfTI with dcm2niix, so that slices, echoes, phases and frames are sorted as the field expects.

dcm2niix sorts slices by position, joins and splits what lies under one series, drops doubled files, reads compressed ones, and
reports doubtful series. This module reads its images and messages; it sorts no slices itself.

Source: Li et al. 2016, "The first step for neuroimaging data analysis: DICOM to NIfTI conversion",
doi:10.1016/j.jneumeth.2016.03.001.
"""

import atexit
import json
import os
import re
import shutil
import subprocess
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dcm2niix
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

# Uncompressed NIfTI with a full sidecar, whatever the defaults file of the user says.
OPTIONS = ("-g", "i", "-b", "y", "-ba", "n", "-z", "n", "-d", "0", "-f", "image")
# dcm2niix needs a second at most; a damaged file must not stop the other scans.
LONGEST_S = 600
MOST_BYTES = 2**31  # of an inflated file
MOST_KEPT_BYTES = 2**30  # of the images of listed series that wait to be segmented
# Words of dcm2niix about files that it cannot use as they are.
DEFLATED, EXPLICIT = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.1"
UNEVEN = "Interslice distance varies"
NO_VOLUME = (
    UNEVEN,
    "DUPLICATES REMOVED",  # equal copies are removed before: these show the same slice, and may differ
    "Unable to determine spatial orientation",
)
SPLIT = "Slices not stacked"  # and why
# Warnings that say nothing about the image, and the beginning of warnings.
_USUAL = re.compile(
    r"Patient Position|Unable to determine manufacturer|Empty protocol name|order is not spatial|Expected \d+ volumes"
)
_WARNING = re.compile(r"(?:Warning|Error): *")
# Largest relative difference between two distances of slices.
STEP_TOLERANCE = 0.02
# Image Position (Patient) with its value, in Explicit and Implicit VR Little Endian, and the tag of the pixels.
_POSITION = re.compile(rb"\x20\x00\x32\x00(?:DS..|....)([-+0-9.eE \\]+)", re.DOTALL)
_PIXELS = b"\xe0\x7f\x10\x00"
_CONVERTED = re.compile(r"Convert \d+ DICOM as (.+) \([0-9x]+\)")


class ConvertedImage(NamedTuple):
    """One image that dcm2niix made of a series.

    Attributes:
        path: NIfTI file; removed at the end of `convert_series`.
        suffix: Ending that distinguishes the images of a series, such as `_e2` or `_ph`; "" for a single image.
        shape: Size along the axes of the file.
        affine: Affine from voxels to mm, as 16 numbers.
        sidecar: Content of the `.json` file, see the documentation of dcm2niix.
        words: What dcm2niix says about the image, and what the positions of frames say.
    """

    path: Path
    suffix: str
    shape: tuple[int, ...]
    affine: tuple[float, ...]
    sidecar: dict[str, Any]
    words: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Return what all slices of one volume share: size, orientation, echo and type."""
        tags = ("ImageOrientationPatientDICOM", "EchoTime", "ImageType")
        return repr((self.shape[:2], *map(self.sidecar.get, tags)))

    @property
    def is_volume(self) -> bool:
        """Return whether its slices lie at even distances in a known direction; else dcm2niix may add an `_Eq` image."""
        is_uneven = any(self.path.parent.glob(f"{self.path.stem}_Eq*"))
        return not is_uneven and not any(words in word for words in NO_VOLUME for word in self.words)


class ConvertedSeries(NamedTuple):
    """What dcm2niix made of a series: its images, and its words about the whole series, then all others."""

    images: list[ConvertedImage]
    words: tuple[str, ...]

    def pieces(self) -> list[ConvertedImage]:
        """Return images that are only pieces of a volume: they share their kind, but not their position, with another one."""
        positions: defaultdict[str, set[tuple[float, ...]]] = defaultdict(set)
        for image in self.images:
            positions[image.kind].add((*image.shape, *image.affine))
        return [image for image in self.images if len(positions[image.kind]) > 1]


# By path, time and size of the files of a series: the folder of its images, and what dcm2niix said.
_kept: dict[tuple[tuple[str, int, int], ...], tuple["tempfile.TemporaryDirectory[str]", ConvertedSeries]] = {}


@dataclass(frozen=True)
class DicomImage:
    """One image of a DICOM series that can be a scan; `load_volume` converts it again when it is its turn.

    Attributes:
        files: Files of the series.
        series: SeriesInstanceUID.
        suffix: Suffix of the image, see `ConvertedImage`.
        sidecar: Its sidecar: sequence, echo time, image type and more.
        doubts: Words of dcm2niix about it.
        objection: Why it cannot be read as one volume; "" if it can.
    """

    files: tuple[str, ...]
    series: str
    suffix: str
    sidecar: Mapping[str, Any]
    doubts: tuple[str, ...] = ()
    objection: str = ""

    @property
    def folders(self) -> list[str]:
        """Return the folders that hold the files of the series."""
        return sorted({str(Path(file).parent) for file in self.files})


@contextmanager
def convert_series(files: Sequence[str], again: bool = False) -> Iterator[ConvertedSeries]:
    """Convert the files of one series in a temporary folder and yield the images; the folder is removed at the end.

    Deflated files, which dcm2niix refuses, are inflated first.

    Args:
        files: Files of the series.
        again: Whether the same files are asked for again later; the images then wait for that, up to `MOST_KEPT_BYTES`.
    """
    key = tuple((file, os.stat(file).st_mtime_ns, os.stat(file).st_size) for file in files)
    folder, found = _kept.pop(key) if key in _kept else convert_files(files)
    try:
        yield found
    finally:
        kept = [*(images for _, images in _kept.values()), found]
        if again and sum(image.path.stat().st_size for series in kept for image in series.images) <= MOST_KEPT_BYTES:
            _kept[key] = folder, found
        else:
            folder.cleanup()


def convert_files(files: Sequence[str]) -> tuple["tempfile.TemporaryDirectory[str]", ConvertedSeries]:
    """Return a new temporary folder and the images of a series in it."""
    folder = tempfile.TemporaryDirectory(prefix="series_")
    try:
        found = run_dcm2niix(files, Path(folder.name, "1"))
        if any(DEFLATED in word for word in found.words):
            found = run_dcm2niix(files, Path(folder.name, "2"), is_deflated=True)
    except BaseException:
        folder.cleanup()
        raise
    return folder, found


@atexit.register
def remove_kept() -> None:
    """Remove the images that were kept and not asked for again."""
    while _kept:
        _kept.popitem()[1][0].cleanup()


def run_dcm2niix(files: Sequence[str], folder: Path, is_deflated: bool = False) -> ConvertedSeries:
    """Return what dcm2niix makes of files in a new folder, sorted by suffix."""
    source, target = folder / "in", folder / "out"
    source.mkdir(parents=True)
    target.mkdir()
    for number, file in enumerate(files):
        link_file(Path(file).absolute(), source / f"{number:06d}.dcm", is_deflated)
    command = [dcm2niix.bin, *OPTIONS, "-o", str(target), str(source)]
    try:
        ran = subprocess.run(command, capture_output=True, timeout=LONGEST_S, check=False)
        said = (ran.stdout + ran.stderr).decode(errors="replace")
        said += f"\nError: dcm2niix was stopped by signal {-ran.returncode}" if ran.returncode < 0 else ""
    except subprocess.TimeoutExpired:
        said = f"Error: dcm2niix did not end within {LONGEST_S} s"
    words = words_by_image(said, source)
    paths = [path for path in sorted(target.glob("*.json")) if path.with_suffix(".nii").is_file()]
    images = [with_frame_check(read_image(path, words.get(path.stem, [])), files) for path in paths]
    return ConvertedSeries(images, tuple(dict.fromkeys(word for said in words.values() for word in said)))


def link_file(file: Path, link: Path, is_deflated: bool) -> None:
    """Link to a DICOM file, or write it inflated instead of the link."""
    if is_deflated:
        link.write_bytes(inflate(file.read_bytes()))
        return
    try:
        link.symlink_to(file)
    except OSError:  # Windows without the right to make links
        shutil.copyfile(file, link)


def inflate(content: bytes) -> bytes:
    """Return a deflated DICOM file as one of Explicit VR Little Endian; any other file unchanged.

    Only the data set is deflated. The group of meta information before it says how long it is itself, and keeps its length.
    """
    end = 144 + int.from_bytes(content[140:144], "little")
    if DEFLATED.encode() not in content[:end]:
        return content
    head = content[:end].replace(DEFLATED.encode(), EXPLICIT.encode().ljust(len(DEFLATED), b"\0"))
    return head + zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[end:], MOST_BYTES)


def read_image(sidecar: Path, words: Sequence[str]) -> ConvertedImage:
    """Return the image that belongs to a sidecar."""
    path = sidecar.with_suffix(".nii")
    content = json.loads(sidecar.read_text(encoding="utf-8", errors="replace"), strict=False)
    header: Any = nib.load(path)
    affine = tuple(header.affine.ravel().round(3).tolist())
    return ConvertedImage(path, path.stem.removeprefix("image"), tuple(header.shape), affine, content, tuple(words))


def with_frame_check(image: ConvertedImage, files: Sequence[str]) -> ConvertedImage:
    """Return an image with a word if the positions of the frames in one file contradict the distance of its slices.

    dcm2niix takes this distance from a tag or from the first and last frame, and does not check the others.
    """
    orientation = np.array(image.sidecar.get("ImageOrientationPatientDICOM", []), dtype=float)
    if len(files) != 1 or orientation.size != 6:
        return image
    normal = np.cross(orientation[:3], orientation[3:])
    steps_mm = np.diff(np.unique((frame_positions(Path(files[0])) @ normal).round(3)))
    axes = np.array(image.affine).reshape(4, 4)[:3, :3]
    slices_mm = np.abs(normal * [-1, -1, 1] @ axes).max()  # NIfTI's x and y run the other way
    if len(steps_mm) == 0 or np.allclose(steps_mm, slices_mm, rtol=STEP_TOLERANCE, atol=0):
        return image
    word = f"{UNEVEN}: frames are {steps_mm.min():g} to {steps_mm.max():g} mm apart, and dcm2niix says {slices_mm:g} mm"
    return image._replace(words=(*image.words, word))


def frame_positions(path: Path) -> NDArray[np.floating]:
    """Return the positions of all frames `(N, 3)` in mm from the functional groups of a DICOM file, in their order."""
    header = path.read_bytes().partition(_PIXELS)[0]
    numbers = [position.split(b"\\") for position in _POSITION.findall(header)]
    return np.array([list(map(float, three)) for three in numbers if len(three) == 3]).reshape(-1, 3)


def words_by_image(said: str, source: Path) -> dict[str, list[str]]:
    """Return the words of dcm2niix by the stem of the image that they are about; "" has those about none.

    It warns about an image before it names it. Temporary paths, usual warnings, notes and repetitions are left out.
    """
    words: dict[str, list[str]] = {"": []}
    waiting: list[str] = []
    for line in said.splitlines():
        if line.startswith(SPLIT):
            words[""].append(line)
        elif match := _CONVERTED.search(line):
            words[Path(match[1]).name] = list(dict.fromkeys(waiting))
            waiting = []
        elif not _USUAL.search(line) and (_WARNING.match(line) or any(word in line for word in NO_VOLUME)):
            plain = re.sub(rf"[: ]*{re.escape(str(source.parent))}\S*", "", line)
            waiting.append(_WARNING.sub("", plain).strip().rstrip("."))
    words[""] = list(dict.fromkeys([*words[""], *filter(None, waiting)]))
    return words
