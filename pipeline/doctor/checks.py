"""Table of all checks of the doctor, `CHECKS`, with the severity of their issues.

Checks for errors that stop training call the functions of training. No other check reports these errors a second time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from strokelesion.pipeline.cohorts.survey import Survey
from strokelesion.pipeline.doctor import folder_checks, scan_checks
from strokelesion.pipeline.doctor.scan import Scan
from strokelesion.pipeline.runtime.errors import Issue

STOPS, SUSPICIOUS, NOTE = SEVERITIES = ("stops training", "suspicious", "note")
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """Row of the table of checks.

    Attributes:
        title: Words for the issues that the check finds.
        severity: Severity of these issues, one of `SEVERITIES`.
        find: Function from the subject of the check to its issues.
    """

    title: str
    severity: str
    find: Callable[[Subject], Iterable[Issue]]


FOLDER_CHECKS: tuple[Check[Survey], ...] = (
    Check(
        "scans without lesion mask, masks without scan, several of one session, unusable tables, "
        "persons who may be in two releases",
        STOPS,
        folder_checks.find_refused_files,
    ),
    Check("labels that are known to be wrong", SUSPICIOUS, folder_checks.find_known_bad_labels),
    Check("rows that name the same scan", SUSPICIOUS, folder_checks.find_repeated_rows),
    Check("rows without files", NOTE, folder_checks.find_rows_without_files),
    Check("files without rows", NOTE, folder_checks.find_files_without_rows),
    Check("tables without sites", NOTE, folder_checks.find_tables_without_sites),
    Check("masks left out by their names", NOTE, folder_checks.find_left_out_masks),
    Check("names with spaces around them in tables", NOTE, folder_checks.find_padded_names),
    Check("persons in several releases", NOTE, folder_checks.find_persons_in_two_releases),
    Check("hidden files", NOTE, folder_checks.find_hidden_files),
)
# These checks also run on scans with missing or unreadable files.
FILE_CHECKS: tuple[Check[Scan], ...] = (
    Check(
        "damaged files, several volumes in one, singular affines, voxels beyond 0.1 to 10 mm",
        STOPS,
        scan_checks.find_unreadable_files,
    ),
    Check("images with NaN or infinite values, constant ones, z-scores", STOPS, scan_checks.find_bad_intensities),
    Check("masks that are empty, have more than two values, negative or infinite ones", STOPS, scan_checks.find_bad_masks),
    Check("masks on another grid than their scan", STOPS, scan_checks.find_other_grids),
    Check("empty masks and masks of many values that were allowed", NOTE, scan_checks.find_allowed_masks),
    Check("no affine", SUSPICIOUS, scan_checks.find_missing_affines),
    Check("qform and sform that disagree", SUSPICIOUS, scan_checks.find_two_affines),
    Check("masks of 0.9999999998", NOTE, scan_checks.find_almost_one),
    Check("masks with rounding noise above 0", NOTE, scan_checks.find_rounding_noise),
)
# These checks run only on scans without an issue above that stops training.
SCAN_CHECKS: tuple[Check[Scan], ...] = (
    Check("whatever else training cannot prepare", STOPS, scan_checks.find_other_errors),
    Check("sub-masks larger than the main mask", SUSPICIOUS, scan_checks.find_large_sub_masks),
    Check("masks outside the head", SUSPICIOUS, scan_checks.find_masks_outside_head),
    Check("images that are probably T2 or FLAIR", SUSPICIOUS, scan_checks.find_other_contrasts),
    Check("masks of bright tissue", SUSPICIOUS, scan_checks.find_bright_lesions),
)
# This check compares the scans above with each other, by the hash of each image's voxels.
COHORT_CHECKS: tuple[Check[Mapping[str, str]], ...] = (Check("the same image twice", SUSPICIOUS, scan_checks.find_same_voxels),)
CHECKS: tuple[Check[Any], ...] = (*FOLDER_CHECKS, *FILE_CHECKS, *SCAN_CHECKS, *COHORT_CHECKS)
