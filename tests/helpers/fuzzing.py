"""Damaged scans in every format, and what becomes of them: refused clearly, read rightly, or something that must not be."""

import gzip
import os
import resource
import signal
from functools import cache
from pathlib import Path

import itk
import nibabel as nib
import numpy as np

from strokelesion.networks import UserError
from strokelesion.transforms import LoadScand

SHAPE, SPACING_MM = (7, 9, 11), (1.5, 1.25, 2.0)
KINDS = ("nii", "nii.gz", "repacked.nii.gz", "mgz", "mha", "nrrd", "hdr")
HEADER_BYTES = {"nii": 352, "repacked.nii.gz": 352, "hdr": 348, "mha": 300, "nrrd": 300}
EXTREMES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\x01", b"9", b"-", b"\xff\x7f", b"\0\0\xc0\x7f", b"\xff\xff\xff\x7f", b"\0" * 8)
MOST_CPU_S = 5
MOST_BYTES = 2**30
OWN_WORDS = ("cannot be read: ", "expected one 3D volume")


def volume():
    """Return values and affine of the scan that is damaged."""
    values = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = (5, -7, 9)
    return values, affine


@cache
def undamaged(path):
    """Write the undamaged scan once, in the format of a path, and return its bytes."""
    values, affine = volume()
    if path.suffix in (".mha", ".nrrd"):
        image = itk.image_from_array(np.ascontiguousarray(values.T))
        image.SetSpacing(SPACING_MM)
        itk.imwrite(image, str(path))
    else:
        made = {".mgz": nib.MGHImage, ".hdr": nib.Nifti1Pair}.get(path.suffix, nib.Nifti1Image)
        nib.save(made(values, affine), path)
    return path.read_bytes()


def damaged(content, rng, header_bytes):
    """Return bytes with damage in the first so many: bits flipped, extremes, a piece cut out or doubled, the end lost."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        end = min(header_bytes, len(data))
        if not end:
            break
        place, how = int(rng.integers(end)), rng.integers(8)
        if how < 4:
            data[place] ^= 1 << int(rng.integers(8))
        elif how < 6:
            extreme = EXTREMES[rng.integers(len(EXTREMES))]
            data[place : place + len(extreme)] = extreme
        elif how == 6:
            piece = data[place : place + int(rng.integers(1, 9))]
            data[place : place + len(piece)] = piece * int(rng.integers(3))
        else:
            del data[int(rng.integers(len(data))) if rng.integers(4) == 0 else len(data) :]
            break
    return bytes(data)


def write_damaged(folder, kind, number):
    """Write case `number` of a kind and return its path; the same number gives the same file."""
    rng = np.random.default_rng([KINDS.index(kind), number])
    path = folder / f"head.{kind}"
    content = undamaged(folder / f"whole.{kind}")
    if kind == "hdr":
        path.with_suffix(".img").write_bytes((folder / "whole.img").read_bytes())
    if kind == "repacked.nii.gz":  # damage that no checksum sees
        path.write_bytes(gzip.compress(damaged(gzip.decompress(content), rng, HEADER_BYTES[kind]), mtime=0))
    else:
        path.write_bytes(damaged(content, rng, HEADER_BYTES.get(kind, len(content))))
    return path


def attempt(folder, kind, number):
    """Read one case: return what became of it and the most memory that the process ever held, in bytes.

    A process that computes for more than `MOST_CPU_S` is ended by the operating system.
    """
    path = write_damaged(Path(folder), kind, number)
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
    try:
        outcome = judged(path, kind, LoadScand("image")({"image": str(path)})["image"])
    except UserError as error:
        outcome = "refused" if any(words in str(error) for words in OWN_WORDS) else f"unclear: {error!r}"
    except Exception as error:
        outcome = f"unclear: {error!r}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    return outcome, memory_bytes()


def judged(path, kind, image):
    """Return `survived` where what was read is what the file says, read in another way, or, in a packed one, said before."""
    if kind in ("nii.gz", "mgz"):  # a checksum covers all
        values, affine = volume()
    elif kind in ("mha", "nrrd"):
        found = itk.imread(str(path), itk.D)
        values, affine = itk.array_from_image(found).T, None
    else:
        found = nib.load(path)
        values, affine = np.asarray(found.dataobj), found.affine
    with np.errstate(all="ignore"):
        same = np.array_equal(image[0].numpy().ravel(), values.astype(np.float32).ravel(), equal_nan=True)
    if not same:
        return "lost: other values"
    if affine is not None and not np.allclose(image.affine.numpy(), affine, atol=1e-4, rtol=1e-4):
        return "lost: another affine"
    return "survived"


def prepare(folder):
    """Read an undamaged file of each kind, as ITK loads its readers late; what it prints about damaged ones goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for kind in KINDS:
        path = Path(folder) / f"whole.{kind}"
        undamaged(path)
        assert judged(path, kind, LoadScand("image")({"image": str(path)})["image"]) == "survived"


def memory_bytes():
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
