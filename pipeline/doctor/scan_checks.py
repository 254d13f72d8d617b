"""Checks of the files of one scan.

The first four report errors from the functions of training. `find_other_errors` reports those of the training transform.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import nibabel as nib

from strokelesion.networks import UserError
from strokelesion.pipeline.doctor.scan import Scan
from strokelesion.pipeline.runtime.errors import Issue
from strokelesion.pipeline.training.slice_store import prepare_scan
from strokelesion.transforms import headers
from strokelesion.transforms.geometry import match_grid
from strokelesion.transforms.masks import ROUNDING_TOLERANCE, binarize_mask
from strokelesion.transforms.sample_error import SampleError

# Large lesions at the surface of a skull-stripped brain have up to a third of their mask outside the head.
MOST_OUTSIDE = 0.5
# Thresholds of `Thumbnail.fluid_skewness` and `Thumbnail.lesion_brightness`.
FLUID_OF_T2 = 0.1
LESION_OF_T2 = 1.1


def find_unreadable_files(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each file that `load_volume` refuses."""
    return (Issue(refusal.source, refusal.what, refusal.advice) for refusal in scan.refusals)


def find_bad_intensities(scan: Scan) -> Iterator[Issue]:
    """Yield an issue if `tissue_scale` refuses the image."""
    if scan.image is not None:
        yield from _refusal(scan.item["image"], lambda: scan.scale)


def find_bad_masks(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each mask that `binarize_mask` refuses."""
    for file, binarized in scan.binarized.items():
        if isinstance(binarized, SampleError):
            yield from _refusal(file, binarize_mask, scan.masks[file], scan.training.allow_empty, scan.training.allow_gray)


def find_other_grids(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each mask that `match_grid` refuses."""
    if scan.image is not None:
        for file, mask in scan.masks.items():
            yield from _refusal(file, match_grid, scan.image, mask)


def find_other_errors(scan: Scan) -> Iterator[Issue]:
    """Yield an issue if the training transform refuses the scan."""
    try:
        prepare_scan(scan.item, scan.training.transform)
    except UserError as error:
        known = error.__cause__
        if isinstance(known, SampleError):  # it names the file at fault, which may be a mask
            yield Issue(known.source, known.what, known.advice)
        else:
            yield Issue(scan.item["image"], f"cannot be prepared: {known}", "Do as it says, or remove the scan.")


def find_allowed_masks(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each mask that `binarize_mask` accepts only because of `allow_empty` or `allow_gray`."""
    refused = {issue.file for issue in find_bad_masks(scan)}
    for file, binarized in scan.binarized.items():
        if isinstance(binarized, SampleError) and file not in refused:
            yield Issue(file, binarized.what, "Nothing, it was allowed.")


def find_missing_affines(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each NIfTI file without an affine."""
    for file, header in _headers(scan):
        if what := headers.find_missing_affine(file, header):
            yield Issue(file, what, "Export it again with its orientation, or look at it and set the header.")


def find_two_affines(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each NIfTI file whose qform, sform and voxel size disagree."""
    for file, header in _headers(scan):
        if what := headers.find_two_affines(header):
            yield Issue(file, what, "Find out which is right, and write it to both forms.")


def find_almost_one(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each mask with (2**32 - 1) / 2**32 instead of 1, as in ATLAS."""
    for file, mask in scan.masks.items():
        if 0.99 < (top := float(mask.max())) < 1:
            advice = "Nothing here; software that casts masks to integers loses this lesion."
            yield Issue(file, f"holds {top:.10f} for 1", advice)


def find_rounding_noise(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each mask with values just above 0, as around lesions in ATLAS R1.x."""
    for file, mask in scan.masks.items():
        if noisy := int(((mask > 0) & (mask <= ROUNDING_TOLERANCE * mask.max())).sum()):
            what = f"has {noisy} voxels just above 0, up to {ROUNDING_TOLERANCE:.0%} of its maximum"
            yield Issue(file, what, "Nothing here; software that takes all above 0 adds them to the lesion.")


def find_large_sub_masks(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each sub-mask larger than the main mask."""
    main, *subs = ((file, int(lesion.sum())) for file, lesion in scan.lesions.items())
    for file, voxels in subs:
        if voxels > main[1]:
            what = f"has {voxels} voxels, more than the {main[1]} of its main mask"
            yield Issue(file, what, "Check which is which: the main mask is the one without a number.")


def find_masks_outside_head(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for each mask with a large share outside the head."""
    for file, share in zip(scan.masks, scan.thumbnail.outside_shares, strict=True):
        if share > MOST_OUTSIDE:
            yield Issue(file, f"lies outside the head by {share:.0%}", "Look at it over its scan; it may belong to another.")


def find_other_contrasts(scan: Scan) -> Iterator[Issue]:
    """Yield an issue if fluid is bright in the image."""
    if (fluid := scan.thumbnail.fluid_skewness) > FLUID_OF_T2:
        what = f"is probably a T2 or FLAIR: fluid seems bright ({fluid:.2f})"
        yield Issue(scan.item["image"], what, "Look at it; if it is no T1, remove the scan.")


def find_bright_lesions(scan: Scan) -> Iterator[Issue]:
    """Yield an issue for the main mask if it marks bright tissue: it may show something else, or the image is no T1."""
    if (lesion := scan.thumbnail.lesion_brightness) > LESION_OF_T2:
        what = f"marks tissue {lesion:.2f} times as bright as what surrounds it; old infarcts are darker on T1"
        advice = "Look at it over its scan: it may be a mask of brain or tissue, or of fresh blood, or the scan may be no T1."
        yield Issue(next(iter(scan.masks)), what, advice)


def find_same_voxels(hashes: Mapping[str, str]) -> Iterator[Issue]:
    """Yield an issue for each image with the same voxels as an earlier one, from the hash of each image's voxels."""
    first: dict[str, str] = {}
    for image, voxels in hashes.items():
        if (twin := first.setdefault(voxels, image)) != image:
            yield Issue(image, f"holds the same voxels as {twin}", "Keep one of them, or find the scan that it should be.")


def _refusal(file: str, function: Callable[..., Any], *arguments: Any) -> Iterator[Issue]:
    """Yield an issue if a function of training refuses its arguments."""
    try:
        function(*arguments)
    except SampleError as error:
        yield Issue(file, error.what, error.advice)


def _headers(scan: Scan) -> Iterator[tuple[str, nib.Nifti1Header | None]]:
    """Yield the files of a scan that can be loaded, with their headers if they are NIfTI."""
    image = [] if scan.image is None else [scan.item["image"]]
    return ((file, headers.read_nifti_header(file)) for file in (*image, *scan.masks))
