"""Read a reviewed results folder as a data set: its accepted and corrected scans, with their masks of record as the truth."""

from collections.abc import Iterator
from pathlib import Path

from strokelesion.pipeline.cohorts.records import Record
from strokelesion.pipeline.cohorts.survey import CohortError, Survey, read_cohort, survey_cohort
from strokelesion.pipeline.derivatives.bids_sources import read_links
from strokelesion.pipeline.derivatives.provenance import is_made_from, read_sidecar, sources_of
from strokelesion.pipeline.derivatives.result_names import CLASSES_MAP, MANUAL_CLASSES, SIDECAR
from strokelesion.pipeline.review.decisions import ACCEPTED, CORRECTED, REJECTED, TABLE, Decision, read_decisions
from strokelesion.pipeline.review.saving import Reviewed, find_reviewed
from strokelesion.pipeline.runtime.derived_files import sha256_of_files
from strokelesion.pipeline.runtime.errors import format_issue, refuse


def read_labeled(folder: str | Path) -> list[Record]:
    """Return the records of a data set, see `read_cohort`, or of a results folder, see `read_reviewed`."""
    return read_reviewed(Path(folder)) if is_results(folder) else read_cohort(folder)


def survey_labeled(folder: str | Path) -> Survey:
    """Return the content of a data set, see `survey_cohort`, or the reviewed scans of a results folder."""
    if not is_results(folder):
        return survey_cohort(folder)
    records = read_reviewed(Path(folder))
    return Survey(Path(folder), records, loose=[], names={}, tables={}, left_out=[], hidden=[], faults=[])


def is_results(folder: str | Path) -> bool:
    """Return whether a folder has the results of `segment`."""
    return (Path(folder) / "volumes.tsv").is_file()


def read_reviewed(folder: Path) -> list[Record]:
    """Return the records of the accepted and corrected scans of a results folder, in the order of its tables.

    The main mask of a record is the mask of record, and `classes` the map that divides it. `session` also has the other
    entities of the name of the scan, such as `run`. Persons are subjects, and all scans are of one unknown site.

    Raises:
        CohortError: No scan is accepted or corrected, or a decision is about another mask, or a scan cannot be read.
    """
    decisions, scans = read_decisions(folder), find_reviewed(folder)
    status = {name: decisions.get(name, Decision()) for name in scans}
    taken = {name: scan for name, scan in scans.items() if status[name].status in (ACCEPTED, CORRECTED)}
    if not taken:
        rejected = sum(one.status == REJECTED for one in status.values())
        raise CohortError(
            f"{folder} holds results of {len(scans)} scans, none accepted or corrected ({rejected} rejected, the others "
            f"pending); expected decisions in {TABLE}.tsv. Review them: strokelesion review {folder}. For masks that were "
            f"corrected in other programs: strokelesion measure {folder} --masks FOLDER."
        )
    problems = [f"{name}: {problem}" for name, scan in taken.items() for problem in find_problems(scan, status[name])]
    advice = "Review these scans again, or reject them; bring scans back to where they were."
    refuse([format_issue("accepted or corrected scans cannot be used", problems, advice)], CohortError)
    return [as_record(scan) for scan in taken.values()]


def find_problems(scan: Reviewed, decision: Decision) -> Iterator[str]:
    """Yield in words why a decided scan is of no use for training."""
    known = read_sidecar(scan.path(SIDECAR))
    source = sources_of(known, read_links(scan.folder))[0]
    if known.get("SeriesInstanceUID") is not None:
        yield "it comes from DICOM; convert it to NIfTI, and segment and review that"
    elif not is_made_from(known, {"image": source}):
        yield f"{source} is gone, or has changed since it was segmented"
    if decision.status == CORRECTED and not scan.has_manual:
        yield "its manual mask is gone"
    if decision.status == ACCEPTED and decision.mask_sha256 != sha256_of_files([scan.mask]):
        yield "its mask has changed since it was accepted"


def as_record(scan: Reviewed) -> Record:
    """Return the record of a scan."""
    subject, *others = str(scan.name).split("_")
    classes = scan.path(MANUAL_CLASSES if scan.has_manual else CLASSES_MAP)
    record = Record(
        image=sources_of(read_sidecar(scan.path(SIDECAR)), read_links(scan.folder))[0],
        main_mask=str(scan.mask),
        subject=subject,
        person=subject,
        session="_".join(others),
        site="unknown",
        release="BIDS",
    )
    if classes.exists():
        record["classes"] = str(classes)
    return record
