"""Table of all checks of the doctor, `CHECKS`, with the severity of their issues.

Checks for errors that stop training call the functions of training. No other check reports these errors a second time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from strokelesion.pipeline.cohorts.layouts import Survey
from strokelesion.pipeline.doctor import cohort_checks, folder_checks, scan_checks
from strokelesion.pipeline.doctor.complaint import Complaint
from strokelesion.pipeline.doctor.scan import Scan, Sighting

STOPS, SUSPICIOUS, NOTE = HOW_BAD = ("stops training", "suspicious", "note")
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """Row of the table of checks.

    Attributes:
        finds: Description of the issues that the check finds.
        how_bad: Severity, one of `HOW_BAD`.
        look: Function from the subject of the check to its issues.
    """

    finds: str
    how_bad: str
    look: Callable[[Subject], Iterable[Complaint]]


FOLDER_CHECKS: tuple[Check[Survey], ...] = (
    Check(
        "scans without mask, masks without scan, several of one session, damaged tables, persons who may be in two releases",
        STOPS,
        folder_checks.incomplete,
    ),
    Check("labels that are known to be wrong", SUSPICIOUS, folder_checks.known_bad),
    Check("rows that name the same scan", SUSPICIOUS, folder_checks.rows_twice),
    Check("rows without files", NOTE, folder_checks.rows_without_files),
    Check("files without rows", NOTE, folder_checks.files_without_rows),
    Check("names with spaces around them in tables", NOTE, folder_checks.padded_names),
    Check("persons in several releases", NOTE, folder_checks.persons_twice),
    Check("hidden files", NOTE, folder_checks.hidden_files),
)
# These checks also run on scans with missing or unreadable files.
FILE_CHECKS: tuple[Check[Scan], ...] = (
    Check("damaged files, several volumes in one, singular affines, voxels beyond 0.1 to 10 mm", STOPS, scan_checks.unreadable),
    Check("images with NaN or infinite values, constant ones, z-scores", STOPS, scan_checks.no_t1),
    Check("masks that are empty, have more than two values, negative or infinite ones", STOPS, scan_checks.no_masks),
    Check("masks on another grid than their scan", STOPS, scan_checks.other_grids),
    Check("empty masks and masks of many values that were allowed", NOTE, scan_checks.allowed_masks),
    Check("no affine", SUSPICIOUS, scan_checks.no_affine),
    Check("qform and sform that disagree", SUSPICIOUS, scan_checks.two_affines),
    Check("masks of 0.9999999998", NOTE, scan_checks.almost_one),
    Check("masks with rounding noise above 0", NOTE, scan_checks.rounding_noise),
)
# These checks run only on scans without an issue above that stops training.
SCAN_CHECKS: tuple[Check[Scan], ...] = (
    Check("whatever else training cannot prepare", STOPS, scan_checks.unprepared),
    Check("sub-masks larger than the main mask", SUSPICIOUS, scan_checks.large_sub_masks),
    Check("masks outside the head", SUSPICIOUS, scan_checks.outside_head),
    Check("images that are probably T2 or FLAIR", SUSPICIOUS, scan_checks.no_t1_contrast),
)
COHORT_CHECKS: tuple[Check[Sequence[Sighting]], ...] = (
    Check("the same image twice", SUSPICIOUS, cohort_checks.same_image),
    Check("lesions on the other side than their table says", SUSPICIOUS, cohort_checks.mirrored_by_table),
    Check("scans mirrored against the rest of their site", SUSPICIOUS, cohort_checks.mirrored_by_image),
)
CHECKS: tuple[Check[Any], ...] = (*FOLDER_CHECKS, *FILE_CHECKS, *SCAN_CHECKS, *COHORT_CHECKS)
