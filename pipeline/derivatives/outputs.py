"""List what `inference` writes: one row of `OUTPUTS` for each output. To add another one, add a row.

From this list follow the files that are written, the files of earlier settings that are removed, the settings in the sidecars
that decide whether a scan is done, and `.bidsignore`. `docs/outputs.md` is held against this list by `tests/test_docs.py`.

A new optional output takes four steps:

1. Write a function in a module of its own. It gets the measured scan, the folder of the scan's files and the value of the
   output: `write_x(scan: MeasuredScan, files: ScanFolder, value: Any) -> None`. It writes with `files.write_image` or to
   `files.path`, and may append to `scan.warnings` or set rows of a table in `scan.tables`; the columns of a new table go to
   `table_columns.py`. An output that is made of the
   results of all scans has a function `gather_x` instead, and does not decide whether a scan is done.
2. Add the row here. Pages come last, because they show the warnings of all others.
3. Add the option to `pipeline/options/settings.py`.
4. Give the value to `wanted` of `results` in `bundles/resunet.json`: that of the option, or what is made of it. `null`,
   `false` and `"none"` mean that the output is not wanted.

CONTRIBUTING.md has the commands that bring the other bundle files and the documentation up to date.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strokelesion.pipeline.derivatives.bids_sources import DESCRIPTION
from strokelesion.pipeline.derivatives.dicom_seg import SEG, require_highdicom, write_dicom_seg
from strokelesion.pipeline.derivatives.fmriprep_overlay import gather_overlay, require_own_tree
from strokelesion.pipeline.derivatives.group_maps import SHARED as OF_GROUP
from strokelesion.pipeline.derivatives.group_maps import gather_group
from strokelesion.pipeline.derivatives.result_names import (
    CLASSES_MAP,
    CLASSES_NAMES,
    MASK,
    PROBABILITIES,
    SIDECAR,
    ScanName,
    in_space,
)
from strokelesion.pipeline.derivatives.scan_images import (
    FILLED,
    ScanFolder,
    path_in,
    with_sidecar,
    write_brain,
    write_filled,
    write_in_space,
    write_lesions,
    write_probabilities,
)
from strokelesion.pipeline.derivatives.scan_pages import (
    AGREEMENT_PICTURE,
    COHORT_PAGE,
    PAGE,
    PICTURE,
    REVIEW_SIZES,
    REVIEW_STATUS,
    DoneScan,
    gather_pages,
    write_page,
)
from strokelesion.pipeline.derivatives.table_columns import TABLES, rows_of, write_with_dictionary
from strokelesion.pipeline.lesions.lesion_table import region_rows
from strokelesion.pipeline.lesions.measuring import MeasuredScan
from strokelesion.pipeline.lesions.registrations import FOLDER as REGISTRATIONS
from strokelesion.pipeline.lesions.roi_loads import roi_rows
from strokelesion.pipeline.runtime.locks import LOCK
from strokelesion.transforms.geometry import FSL_SPACE, MNI_SPACE
from strokelesion.transforms.recipe import fingerprint

Texts = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Output:
    """One output: what asks for it, its files, and the functions that write them.

    Attributes:
        name: Name in `wanted`, and in the settings of a sidecar.
        option: Option or command that asks for the output; "" if it is always written.
        files: What each file of a scan is, by its name as in `path_in`. An image `.nii.gz` implies its sidecar `.json`. Files
            that are not part of BIDS need a folder of their own, such as `pages/*.html`.
        write: Function that writes the files of a scan, from the scan, the folder of its files and the value of the output.
            None if the output is only made of the results of all scans.
        tables: Tables that `write` adds rows to, see `table_columns.py`.
        shared: What each file of all scans is, and what to do with it, by its path in the folder; sidecars as in `files`.
        gather: Function that writes the shared files from the folder, the scans that are done, the reasons of failures and the
            value of the output.
        of_mask: Whether the files are made of the mask, so that they are written again when a person corrects it.
        in_mni: Whether they need the registration to MNI space.
        require: Function that refuses, before any scan is segmented, what cannot be written, from the value of the output, the
            folder and the scans as listed.
    """

    name: str
    option: str
    files: Mapping[str, str]
    write: Callable[[MeasuredScan, ScanFolder, Any], None] | None = None
    tables: tuple[str, ...] = ()
    shared: Texts = field(default_factory=dict)
    gather: Callable[[Path, Sequence[DoneScan], Mapping[str, str], Any], None] | None = None
    require: Callable[[Any, Path, Sequence[Mapping[str, Any]]], None] | None = None
    of_mask: bool = True
    in_mni: bool = False

    def paths(self, folder: str | Path, name: ScanName) -> Iterator[Path]:
        """Yield the paths of all files of a scan."""
        yield from (path_in(folder, name, file) for known in self.files for file in with_sidecar(known))

    def shared_paths(self, folder: str | Path) -> Iterator[Path]:
        """Yield the paths of the shared files, tables included."""
        shared = (*(f"{table}.tsv" for table in self.tables), *self.shared)
        yield from (Path(folder) / file for known in shared for file in with_sidecar(known))


def write_regions(scan: MeasuredScan, _: ScanFolder, atlas: Any) -> None:
    """Add the table of regions of an atlas that contain lesion."""
    scan.tables["regions"] = region_rows(scan.segmented, atlas)


def write_rois(scan: MeasuredScan, _: ScanFolder, rois: Any) -> None:
    """Add the table of how much of each ROI is lesion."""
    scan.tables["rois"] = roi_rows(scan.segmented, rois)


def gather_corrections(folder: Path, done: Sequence[DoneScan], _: Mapping[str, str], __: Any) -> None:
    """Write the table of the scans with manual masks, or remove it if there are none."""
    if rows := rows_of("corrections", done):
        write_with_dictionary(folder, "corrections", rows)
        return
    for file in with_sidecar("corrections.tsv"):
        (folder / file).unlink(missing_ok=True)


def in_standard_space(name: str, option: str, space: str, text: str) -> Output:
    """Return the output of lesions in a standard space."""
    files = {
        MASK: f"mask in {text}",
        CLASSES_MAP: "main and sub-lesions there",
        CLASSES_NAMES: "names of the two labels",
        PROBABILITIES: "probability there, with `--save_probabilities true`",
    }
    named = {in_space(space, file): words for file, words in files.items()}
    return Output(name=name, option=option, files=named, write=lambda scan, to, _: write_in_space(scan, to, space), in_mni=True)


LESIONS = Output(
    name="lesions",
    option="",
    files={
        MASK: "1 where there is a lesion, 0 elsewhere, on the scan's own grid",
        SIDECAR: "source and its SHA-256, model and settings, tables, warnings, and `ToMNI152NLin2009aSym`",
        CLASSES_MAP: "1 main lesion, 2 sub-lesion; each lesion belongs to one class as a whole",
        CLASSES_NAMES: "names of the two labels",
    },
    write=write_lesions,
    tables=("volumes", "lesions"),
    of_mask=False,
)
OUTPUTS = (
    LESIONS,
    Output(
        name="probabilities",
        option="--save_probabilities",
        files={PROBABILITIES: "probability of either lesion"},
        write=write_probabilities,
        of_mask=False,
    ),
    Output(
        name="brain",
        option="--save_brain",
        files={"desc-brain_mask.nii.gz": "brain, with infarcts and ventricles, refined at its surface"},
        write=write_brain,
        of_mask=False,
    ),
    in_standard_space("mni", "--mni 2009a", MNI_SPACE, "MNI space, 1 mm; affine only"),
    in_standard_space("fsl", "--mni fsl", FSL_SPACE, "the space of FSL, on its 1 mm grid; affine only, off by several mm"),
    Output(
        name="filled",
        option="--fill",
        files={FILLED: "scan with its lesions filled with mirrored tissue; none where `warnings` says why not"},
        write=write_filled,
        in_mni=True,
    ),
    Output(
        name="dicom",
        option="--dicom_seg",
        files={SEG: "segmentation for DICOM viewers; of scans from DICOM only"},
        write=write_dicom_seg,
        require=require_highdicom,
    ),
    Output(name="regions", option="--atlas", files={}, write=write_regions, tables=("regions",), in_mni=True),
    Output(name="rois", option="--rois", files={}, write=write_rois, tables=("rois",), in_mni=True),
    Output(
        name="corrections",
        option="",
        files={},
        shared={"corrections.tsv": (TABLES["corrections"].text, TABLES["corrections"].use)},
        gather=gather_corrections,
    ),
    Output(name="fmriprep", option="--for_fmriprep", files={}, gather=gather_overlay, require=require_own_tree),
    Output(name="group", option="group", files={}, shared=OF_GROUP, gather=gather_group),
    Output(
        name="pages",
        option="--pages true",
        files={
            PAGE: "the scan in NiiVue, which loads nothing from elsewhere; the mask can be corrected there",
            PICTURE: "axial slices of the scan for the page of all scans",
        },
        write=write_page,
        shared={
            COHORT_PAGE: ("all scans with axial slices, sorted by volume, uncertainty or warnings", "look through all scans"),
        },
        gather=gather_pages,
    ),
)
# Other files of the folder: what they are, and what to do with them.
OTHERS: Texts = {
    **{
        f"{table}.tsv": (TABLES[table].text, TABLES[table].use)
        for table in ("failures", "inputs", "review", REVIEW_STATUS, REVIEW_SIZES)
    },
    AGREEMENT_PICTURE: ("volumes before and after the review (Bland-Altman), written by `measure`", "report a review"),
    f"{REGISTRATIONS}/": ("registrations to MNI space", "keep: they are not computed twice"),
    DESCRIPTION: ("name of the data set; `DatasetLinks` says where the scans lie", "nothing"),
    ".bidsignore": ("files that are not part of BIDS", "nothing"),
}


def find_wanted(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs that are wanted and their values; those that are always written are among them.

    Raises:
        ValueError: when an output is not in `OUTPUTS`.
    """
    if unknown := set(wanted) - {output.name for output in OUTPUTS}:
        raise ValueError(f"got the outputs {', '.join(sorted(unknown))}; expected names of `OUTPUTS`.")
    values = {output.name: True if output.option == "" else wanted.get(output.name) for output in OUTPUTS}
    return {name: value for name, value in values.items() if not (value is None or value is False or value == "none")}


def as_settings(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the wanted outputs of each scan as a sidecar stores them: `true`, or the fingerprint of what was given."""
    of_scans = {output.name for output in OUTPUTS if output.write is not None}
    return {name: value if value is True else fingerprint(value) for name, value in wanted.items() if name in of_scans}


def ignored_files() -> list[str]:
    """Return all files and folders of results that are not part of BIDS."""
    tables = [file for table in TABLES for file in with_sidecar(f"{table}.tsv")]
    others = [file for output in OUTPUTS for file in (*output.files, *output.shared) if "/" in file or file in output.shared]
    first = [file.split("/")[0] for file in others if not file.startswith("tpl-")]
    return list(dict.fromkeys([*tables, *first, REGISTRATIONS, LOCK, ".review.lock"]))
