"""What the doctor looks for.

`CHECKS` is the table of contents: one row a check, with how bad it is what it finds. What stops training is found by the
functions that training itself calls, and never told here a second time.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import nibabel as nib
import numpy as np
from monai.data import MetaTensor

from strokelesion.pipeline.datalist import Survey
from strokelesion.pipeline.errors import innermost
from strokelesion.pipeline.examination import Scan, Sighting
from strokelesion.pipeline.metadata import Row, Table, scan_names
from strokelesion.pipeline.slices import prepare_scan
from strokelesion.transforms.intensity import tissue_scale
from strokelesion.transforms.lesions import ROUNDING_TOLERANCE, binarize_mask, corner_shift_mm, require_same_grid
from strokelesion.transforms.portrait import bright_fluid, bright_lesion, outside_shares
from strokelesion.transforms.sample_error import SampleError

STOPS, SUSPICIOUS, NOTE = HOW_BAD = ("stops training", "suspicious", "note")

# qform and sform that place a corner further apart are two opinions, not one that was rounded.
FORMS_TOLERANCE_MM = 1.0
# Lesions that open to the surface of a stripped brain have less of their mask outside the head.
MOST_OUTSIDE = 0.25
# See `bright_fluid` and `bright_lesion`.
FLUID_OF_T2 = 0.1
LESION_OF_T2 = 1.1
# A lesion lies on one side when so much of it does.
ONE_SIDED = 0.9
# A site tells left from right by its images when it has so many scans, so alike; a mirrored one is so unlike the others.
LEAST_SCANS, LEAST_LIKENESS, MOST_UNLIKENESS = 6, 0.3, -0.3
# Labels that the makers or users of a release found to be wrong.
KNOWN_BAD_LABELS = {("R2.0", "sub-r009s003")}

Subject = TypeVar("Subject")


class Complaint(NamedTuple):
    """What a check says: the file, what is wrong with it, what to do."""

    file: str
    what: str
    advice: str


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """A row of the table.

    Attributes:
        finds: what it looks for.
        how_bad: one of `HOW_BAD`.
        look: from what it looks at to what it found.
    """

    finds: str
    how_bad: str
    look: Callable[[Subject], Iterable[Complaint]]


def incomplete(survey: Survey) -> Iterator[Complaint]:
    """What `read_cohort` refuses."""
    return (Complaint(file, fault.each, fault.advice) for fault in survey.faults for file in fault.files)


def known_bad(survey: Survey) -> Iterator[Complaint]:
    """Labels that others found to be wrong."""
    for record in survey.records:
        if (record["release"], record["subject"]) in KNOWN_BAD_LABELS:
            yield Complaint(
                record["main_mask"], "is known to be wrong", "Look at it; move the scan away, or draw the mask anew."
            )


def rows_twice(survey: Survey) -> Iterator[Complaint]:
    """Rows that name the same scan; only the last of them reaches its record."""
    for layout, tables in survey.tables.items():
        rows = [(table, number, name) for table, number, row in _rows(tables) for name in _scans_of(row, survey, layout)]
        count = Counter(name for _, _, name in rows)
        for table, number, name in rows:
            if count[name] > 1:
                yield Complaint(table.path, f"row {number} is one of {count[name]} that name {name}", "Keep one row a scan.")


def rows_without_files(survey: Survey) -> Iterator[Complaint]:
    """Rows that name no scan."""
    for layout, tables in survey.tables.items():
        for table, number, row in _rows(tables):
            if not _scans_of(row, survey, layout):
                names = ", ".join(scan_names(row)) or "no scan"
                yield Complaint(
                    table.path, f"row {number} names {names}, and there are no such files", "Nothing, if they were left out."
                )


def files_without_rows(survey: Survey) -> Iterator[Complaint]:
    """Scans without a row, of releases whose tables have rows of others."""
    listed = {record["release"] for record in survey.records if "metadata" in record}
    for record in survey.records:
        if record["release"] in listed and "metadata" not in record:
            yield Complaint(record["image"], "has no row in the tables of its release", "Add one, if its site or side matters.")


def padded_names(survey: Survey) -> Iterator[Complaint]:
    """Names of scans with spaces around them, as ATLAS R1.1 has in its column Session."""
    for table in (table for tables in survey.tables.values() for table in tables):
        if table.padded:
            what = f"has spaces around {table.padded} names of sessions or subjects"
            yield Complaint(table.path, what, "Nothing here, they are taken off; other software may find no row.")


def persons_twice(survey: Survey) -> Iterator[Complaint]:
    """Persons whom a table knows, or a name shows, to be in several releases."""
    releases = defaultdict(list)
    for record in survey.records:
        releases[record["person"]].append(record["release"])
    for record in survey.records:
        others = sorted({*releases[record["person"]]} - {record["release"]})
        if others and record["release"] != releases[record["person"]][0]:
            what = f"shows {record['person']}, who is also in {', '.join(others)}"
            yield Complaint(
                record["image"], what, "Nothing here, splits keep a person's scans together; other software may not."
            )


def hidden_files(survey: Survey) -> Iterator[Complaint]:
    """Files and folders that were passed over because of their names."""
    return (Complaint(file, "is hidden, and not read", "Remove it, or give it a name without a dot.") for file in survey.hidden)


def unreadable(scan: Scan) -> Iterator[Complaint]:
    """What `load_volume` refuses."""
    return (Complaint(refusal.source, refusal.what, refusal.advice) for refusal in scan.refusals)


def no_t1(scan: Scan) -> Iterator[Complaint]:
    """What `tissue_scale` refuses."""
    if scan.image is not None:
        yield from _refused(scan.item["image"], tissue_scale, scan.image)


def no_masks(scan: Scan) -> Iterator[Complaint]:
    """What `binarize_mask` refuses."""
    for file, mask in scan.masks.items():
        yield from _refused(file, binarize_mask, mask, scan.training.allow_empty, scan.training.allow_gray)


def other_grids(scan: Scan) -> Iterator[Complaint]:
    """What `require_same_grid` refuses."""
    if scan.image is not None:
        for file, mask in scan.masks.items():
            yield from _refused(file, require_same_grid, scan.image, mask)


def allowed_masks(scan: Scan) -> Iterator[Complaint]:
    """What `binarize_mask` would refuse if it had not been told otherwise."""
    for file, mask in scan.masks.items():
        if not list(_refused(file, binarize_mask, mask, scan.training.allow_empty, scan.training.allow_gray)):
            for complaint in _refused(file, binarize_mask, mask):
                yield complaint._replace(advice="Nothing, it was allowed.")


def no_affine(scan: Scan) -> Iterator[Complaint]:
    """NIfTI headers that do not say where their voxels are."""
    for file, _, header in _headers(scan):
        if header["qform_code"] == header["sform_code"] == 0:
            what = "has no affine (the codes of qform and sform are 0): which side is left, and which way is up, was guessed"
            yield Complaint(file, what, "Export it again with its orientation, or look at it and set the header.")


def two_affines(scan: Scan) -> Iterator[Complaint]:
    """NIfTI headers that say two things about where their voxels are, or contradict their voxel size."""
    for file, volume, header in _headers(scan):
        coded = [header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]]
        said = [affine for affine in coded if affine is not None]
        shift_mm = max((corner_shift_mm(volume.shape[1:], affine, volume.affine) for affine in said), default=0)
        if not shift_mm <= FORMS_TOLERANCE_MM:
            where = f"a corner is read {shift_mm:.1f} mm from where one of them puts it"
            what = f"has a qform, a sform and a voxel size that disagree: {where}"
            yield Complaint(file, what, "Find out which is right, and write it to both forms.")


def almost_one(scan: Scan) -> Iterator[Complaint]:
    """Masks of ATLAS that hold (2**32 - 1) / 2**32 for 1."""
    for file, mask in scan.masks.items():
        if 0.99 < (top := float(mask.max())) < 1:
            what = f"holds {top:.10f} for 1"
            yield Complaint(file, what, "Nothing here; software that casts masks to integers loses this lesion.")


def rounding_noise(scan: Scan) -> Iterator[Complaint]:
    """Masks with values just above 0, as ATLAS R1.x has them around lesions."""
    for file, mask in scan.masks.items():
        noisy = int(((mask > 0) & (mask <= ROUNDING_TOLERANCE * mask.max())).sum())
        if noisy:
            what = f"has {noisy} voxels just above 0, up to {ROUNDING_TOLERANCE:.0%} of its maximum"
            yield Complaint(file, what, "Nothing here; software that takes all above 0 adds them to the lesion.")


def unprepared(scan: Scan) -> Iterator[Complaint]:
    """Whatever else stops the transform that training learns through."""
    try:
        prepare_scan(scan.item, scan.training.transform)
    except ValueError as error:
        yield Complaint(scan.item["image"], f"cannot be prepared: {innermost(error)}", "Do as it says, or remove the scan.")


def large_sub_masks(scan: Scan) -> Iterator[Complaint]:
    """Sub-masks that are larger than the main mask."""
    main, *subs = ((file, int(lesion.sum())) for file, lesion in scan.lesions.items())
    for file, voxels in subs:
        if voxels > main[1]:
            what = f"has {voxels} voxels, more than the {main[1]} of its main mask"
            yield Complaint(file, what, "Check which is which: the main mask is the one without a number.")


def outside_head(scan: Scan) -> Iterator[Complaint]:
    """Masks of which much lies outside the head, see `outside_shares`."""
    for file, share in zip(scan.masks, outside_shares(scan.portrait), strict=True):
        if share > MOST_OUTSIDE:
            yield Complaint(
                file, f"lies outside the head by {share:.0%}", "Look at it over its scan; it may belong to another."
            )


def no_t1_contrast(scan: Scan) -> Iterator[Complaint]:
    """Images whose fluid or whose lesions are bright, see `bright_fluid` and `bright_lesion`."""
    fluid, lesion = bright_fluid(scan.portrait), bright_lesion(scan.portrait)
    reasons = [f"fluid seems bright ({fluid:.2f})"] if fluid > FLUID_OF_T2 else []
    reasons += [f"the lesions are {lesion:.2f} times as bright as what surrounds them"] if lesion > LESION_OF_T2 else []
    if reasons:
        what = f"is probably a T2 or FLAIR: {' and '.join(reasons)}"
        yield Complaint(scan.item["image"], what, "Look at it; if it is no T1, remove the scan.")


def same_image(sightings: Sequence[Sighting]) -> Iterator[Complaint]:
    """Scans that are equal voxel by voxel."""
    first: dict[str, str] = {}
    for seen in sightings:
        image = seen.record["image"]
        twin = first.setdefault(seen.digest, image)
        if twin != image:
            yield Complaint(image, f"holds the same voxels as {twin}", "Keep one of them, or find the scan that it should be.")


def mirrored_by_table(sightings: Sequence[Sighting]) -> Iterator[Complaint]:
    """Scans whose main lesion is on the other side than their table says.

    Tells whoever was mirrored from whoever was not where the rest of the site agrees with the table; where it does not, the
    site or its rows may be mirrored as a whole. Lesions on both sides tell nothing.
    """
    known = [(seen, side) for seen in sightings if (side := side_in_table(seen.record.get("metadata", {}))) and _side(seen)]
    agreeing = Counter(seen.record["site"] for seen, side in known if side == _side(seen))
    scans = Counter(seen.record["site"] for seen, _ in known)
    for seen, side in known:
        if side != _side(seen):
            site = seen.record["site"]
            others = f"{agreeing[site]} of {scans[site]} scans of {site} agree with it"
            what = f"has its lesion on the {_side(seen)}, and the table says {side}; {others}"
            yield Complaint(seen.record["image"], what, "Look at it: scan and mask, or the row, may be mirrored.")


def mirrored_by_image(sightings: Sequence[Sighting]) -> Iterator[Complaint]:
    """Scans whose asymmetry is the reverse of the rest of their site, see `asymmetry`.

    Only where scans of a site resemble each other in what is not symmetric. Heads that are mirrored with their brains' own
    asymmetry alone are too alike for this: what tells is the coil and how the face was cut off.
    """
    for site, seen in _by_site(sightings).items():
        likeness = _likeness(np.stack([one.asymmetry.ravel() for one in seen]))
        if len(seen) < LEAST_SCANS or np.median(likeness) < LEAST_LIKENESS:
            continue
        for one, alike in zip(seen, likeness, strict=True):
            if alike < MOST_UNLIKENESS:
                what = f"is lopsided the other way than the {len(seen)} scans of {site} (correlation {alike:.2f})"
                yield Complaint(one.record["image"], what, "Look at it: it may be mirrored.")


FOLDER_CHECKS: tuple[Check[Survey], ...] = (
    Check(
        "scans without mask, masks without scan, several of one session, persons who may be in two releases", STOPS, incomplete
    ),
    Check("labels that are known to be wrong", SUSPICIOUS, known_bad),
    Check("rows that name the same scan", SUSPICIOUS, rows_twice),
    Check("rows without files", NOTE, rows_without_files),
    Check("files without rows", NOTE, files_without_rows),
    Check("names with spaces around them in tables", NOTE, padded_names),
    Check("persons in several releases", NOTE, persons_twice),
    Check("hidden files", NOTE, hidden_files),
)
FILE_CHECKS: tuple[Check[Scan], ...] = (
    Check("damaged files, several volumes in one, singular affines, voxels beyond 0.1 to 10 mm", STOPS, unreadable),
    Check("images with NaN or infinite values, constant ones, z-scores", STOPS, no_t1),
    Check("masks that are empty, have more than two values, negative or infinite ones", STOPS, no_masks),
    Check("masks on another grid than their scan", STOPS, other_grids),
    Check("empty masks and masks of many values that were allowed", NOTE, allowed_masks),
    Check("no affine", SUSPICIOUS, no_affine),
    Check("qform and sform that disagree", SUSPICIOUS, two_affines),
    Check("masks of 0.9999999998", NOTE, almost_one),
    Check("masks with rounding noise above 0", NOTE, rounding_noise),
)
SCAN_CHECKS: tuple[Check[Scan], ...] = (
    Check("whatever else training cannot prepare", STOPS, unprepared),
    Check("sub-masks larger than the main mask", SUSPICIOUS, large_sub_masks),
    Check("masks outside the head", SUSPICIOUS, outside_head),
    Check("images that are probably T2 or FLAIR", SUSPICIOUS, no_t1_contrast),
)
COHORT_CHECKS: tuple[Check[Sequence[Sighting]], ...] = (
    Check("the same image twice", SUSPICIOUS, same_image),
    Check("lesions on the other side than their table says", SUSPICIOUS, mirrored_by_table),
    Check("scans mirrored against the rest of their site", SUSPICIOUS, mirrored_by_image),
)
CHECKS: tuple[Check[Any], ...] = (*FOLDER_CHECKS, *FILE_CHECKS, *SCAN_CHECKS, *COHORT_CHECKS)


def side_in_table(row: Row) -> str:
    """Return the side that a row of metadata gives the lesion, "left" or "right"; "" where it names both or none.

    From R1.x's column of the primary stroke's hemisphere, else from the columns that count strokes or lesions by hemisphere.
    """
    hemisphere = next((str(cell).lower() for column, cell in row.items() if column.endswith("Hemisphere")), "")
    counts = {side: sum(bool(row[column]) for column in row if f" {code} " in column) for side, code in _HEMISPHERES.items()}
    one_sided = [side for side, count in counts.items() if count] if not hemisphere else [hemisphere]
    return one_sided[0] if len(one_sided) == 1 and one_sided[0] in _HEMISPHERES else ""


_HEMISPHERES = {"left": "LH", "right": "RH"}


def _side(seen: Sighting) -> str:
    return "right" if seen.right_share >= ONE_SIDED else "left" if seen.right_share <= 1 - ONE_SIDED else ""


def _refused(file: str, function: Callable[..., Any], *arguments: Any) -> Iterator[Complaint]:
    """What a function of training says against its arguments."""
    try:
        function(*arguments)
    except SampleError as error:
        yield Complaint(file, error.what, error.advice)


def _headers(scan: Scan) -> Iterator[tuple[str, MetaTensor, nib.Nifti1Header]]:
    """The volumes of a scan that come from NIfTI files, with the headers as they were written."""
    image = {} if scan.image is None else {scan.item["image"]: scan.image}
    for file, volume in {**image, **scan.masks}.items():
        if isinstance(header := nib.load(file).header, nib.Nifti1Header):
            yield file, volume, header


def _rows(tables: Iterable[Table]) -> Iterator[tuple[Table, int, Row]]:
    """Rows with their numbers, as a spreadsheet counts them: the header is row 1."""
    return ((table, number, row) for table in tables for number, row in enumerate(table.rows, start=2))


def _scans_of(row: Row, survey: Survey, layout: str) -> set[str]:
    return set(scan_names(row)) & survey.names.get(layout, set())


def _by_site(sightings: Iterable[Sighting]) -> dict[tuple[str, str], list[Sighting]]:
    sites = defaultdict(list)
    for seen in sightings:
        sites[seen.record["release"], seen.record["site"]].append(seen)
    return sites


def _likeness(vectors: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Correlation of each row with the sum of the others."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    others = unit.sum(axis=0) - unit
    return np.asarray((unit * others).sum(axis=1) / np.maximum(np.linalg.norm(others, axis=1), 1e-9))
