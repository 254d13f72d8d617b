"""Write the results of new scans as a BIDS derivatives data set.

    dataset_description.json
    lesions.tsv, volumes.tsv, regions.tsv   one row per lesion, per scan, and per region of the given atlas
    failures.tsv                            scans that failed, and the reasons
    inputs.tsv                              scans that were found, files that are no scans, and the reasons
    index.html, pages/                      overview page of all scans, and one page per scan
    registrations/                          registrations to MNI space, stored so that no brain is registered twice
    .bidsignore                             lists the files above that are not part of BIDS
    sub-*/[ses-*/]anat/*_label-lesion_mask.nii.gz      0 background, 1 main lesion, 2 sub-lesion
    sub-*/[ses-*/]anat/*_label-lesion_mask.json        source scan, settings, measurements and warnings
    sub-*/[ses-*/]anat/*_label-lesion_probseg.nii.gz   on request: probability of either lesion class
    sub-*/[ses-*/]anat/*_desc-brain_mask.nii.gz        on request: brain mask, chronic infarcts and ventricles included
    …_space-MNI152NLin2009aSym_label-lesion_…          on request: lesion mask and probability in MNI space

A scan is done when its sidecar exists and holds the SHA-256 of the scan and the current settings.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from math import nan
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from strokelesion.networks import UserError
from strokelesion.pipeline.inference.lesion_table import COLUMNS, Atlas, Row, SegmentedScan, lesion_rows, region_rows, scan_row
from strokelesion.pipeline.inference.plausibility import (
    doubts_of_image,
    doubts_of_item,
    judge,
    notes_of_reading,
    refuse_other_images,
)
from strokelesion.pipeline.inference.provenance import is_made_from, read_sidecar, scan_sources, series_uid, sha256_of_scan
from strokelesion.pipeline.inference.registrations import FOLDER as REGISTRATIONS
from strokelesion.pipeline.inference.result_names import ScanName
from strokelesion.pipeline.inference.scan_pages import write_cohort_page, write_scan_page
from strokelesion.pipeline.inference.scans import INPUTS
from strokelesion.pipeline.runtime.files import (
    DECIMALS,
    plain,
    remove_parts,
    write_bytes,
    write_json,
    write_nifti,
    write_text,
    write_tsv,
)  # fmt: skip
from strokelesion.pipeline.runtime.locks import LOCK
from strokelesion.transforms import DecideLesionsd, ScaleTissued, is_tissue
from strokelesion.transforms.geometry import MNI_SPACE, to_mni_space, voxel_ml
from strokelesion.transforms.headers import MNI, find_missing_affine, mask_header, read_nifti_header
from strokelesion.transforms.recipe import fingerprint
from strokelesion.transforms.registration import Registration

# Columns that identify a scan in the tables.
NAMED_BY = ("subject", "session", "scan")
LABEL_NAMES = {"1": "main lesion", "2": "sub-lesion"}
FAILURES = "failures.tsv"
COMPRESSION = 4
# A lesion rarely fills more than this share of the brain.
LARGEST_SHARE = 0.35
NOT_PLACED = "the head could not be brought to MNI space, so it was segmented as it lies"
NO_BRAIN = "no brain was looked for (intensities: tissue), so there are no places in MNI space and no share of the brain"


@dataclass(frozen=True)
class Results:
    """A derivatives data set, with the options that decide which files each scan gets.

    Attributes:
        folder: Folder of the data set; created if it does not exist.
        settings: All settings that decide the results; stored in each sidecar.
        decide: Decision rule that turns probabilities into labels.
        register: Function that registers a brain to MNI space, see `register_brain`; None skips the registration.
        probabilities: Whether to write the probabilities.
        draw_brain: Function that returns the brain mask of a scan to write, see `BrainExtractor`; None writes none. The lesion
            network and the tables use another mask, so that this one changes no other result.
        in_mni: Whether to write the lesions in MNI space as well.
        pages: Whether to write HTML pages.
        atlas: Atlas for the table of regions, or None.
        overwrite: Whether to segment finished scans again.
    """

    folder: Path
    settings: Mapping[str, Any]
    decide: DecideLesionsd
    register: Callable[..., Registration] | None
    probabilities: bool = False
    draw_brain: Callable[[MetaTensor], torch.Tensor] | None = None
    in_mni: bool = False
    pages: bool = True
    atlas: Atlas | None = None
    overwrite: bool = False

    def path(self, name: ScanName, ending: str, space: str = "") -> Path:
        """Return the path of a scan's file."""
        return Path(self.folder) / name.path(ending, label="lesion", **({"space": space} if space else {}))

    def clear(self, names: Sequence[ScanName]) -> None:
        """Remove half-written files that killed runs left for these scans; no other run may use the folder meanwhile."""
        folders = {self.path(name, "mask.json").parent for name in names}
        for folder in (*folders, *(Path(self.folder) / shared for shared in ("pages", REGISTRATIONS))):
            remove_parts(folder)

    def describe(self) -> None:
        """Write `dataset_description.json` and `.bidsignore`, as BIDS requires."""
        about = {
            "Name": "Lesion masks by strokelesion",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "strokelesion", "Version": version("strokelesion")}],
        }
        write_json(Path(self.folder) / "dataset_description.json", about)
        tables = [f"{table}.tsv" for table in COLUMNS]
        ignored = "".join(f"{name}\n" for name in (*tables, FAILURES, INPUTS, "index.html", "pages", REGISTRATIONS, LOCK))
        write_text(Path(self.folder) / ".bidsignore", ignored)

    def is_done(self, name: ScanName, item: Mapping[str, Any]) -> bool:
        """Return whether a scan's results exist and were made from this scan with these settings."""
        sidecar = read_sidecar(self.path(name, "mask.json"))
        if self.overwrite or not self.path(name, "mask.nii.gz").exists():
            return False
        return sidecar.get("Settings") == self.asked and is_made_from(sidecar, item)

    @cached_property
    def asked(self) -> dict[str, Any]:
        """Return all settings in the form that they have after JSON stores and loads them."""
        wanted: dict[str, Any] = {name: getattr(self, name) for name in ("probabilities", "in_mni", "pages")}
        wanted["atlas"] = None if self.atlas is None else fingerprint(self.atlas)
        wanted["brains"] = None if self.draw_brain is None else fingerprint(self.draw_brain)
        asked: dict[str, Any] = json.loads(json.dumps({**self.settings, **wanted}))
        return asked

    def write(self, name: ScanName, item: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        """Write the files of one scan; write the sidecar last, because it marks the scan as done.

        A sidecar of earlier settings is removed first. After an interruption it would describe files of other settings.
        """
        for old in (self.path(name, "mask.json"), *self.optional_files(name)):
            old.unlink(missing_ok=True)
        refuse_other_images(outcome["scan"])
        probabilities = outcome["pred"]
        labels = self.decide.decide(probabilities).as_subclass(torch.Tensor)
        scan, warnings, doubts = measure(labels, probabilities, outcome, self.register)
        header = read_nifti_header(item["image"])
        if find_missing_affine(item["image"], header):
            scan = replace(scan, knows_left=False)
        row, warnings = judge(scan_row(scan), [*doubts, *doubts_of_item(item)], [*warnings, *notes_of_reading(item)])
        own_grid = mask_header(header, probabilities.affine)
        self.write_volumes(name, labels, probabilities, own_grid)
        if self.draw_brain is not None:
            warnings += self.write_brain(name, outcome["scan"], own_grid)
        # A scan whose name says MNI space already has its results there.
        if self.in_mni and scan.to_mni is not None and ("space", MNI_SPACE) not in name.entities:
            there = to_mni_space(probabilities, scan.to_mni)
            self.write_volumes(name, self.decide.decide(there), there, mask_header(None, there.affine, MNI), MNI_SPACE)
        tables = {"lesions": lesion_rows(scan), "volumes": [{**row, "warnings": "; ".join(warnings) or None}]}
        if self.atlas is not None:
            tables["regions"] = region_rows(scan, self.atlas)
        if self.pages:
            page = Path(self.folder) / "pages" / f"{name}.html"
            cuts = write_scan_page(page, str(name), outcome["scan"], where_to_look(outcome), scan, tables["lesions"], warnings)
            write_bytes(page.with_suffix(".jpg"), cuts)
        write_json(self.path(name, "mask.json"), self.sidecar(item, scan, warnings, tables))

    def optional_files(self, name: ScanName) -> list[Path]:
        """Return the files of a scan that are written on request; those of earlier settings must not stay beside new masks."""
        mask = self.path(name, "mask.nii.gz")
        in_mni = [self.path(name, f"{kind}.nii.gz", MNI_SPACE) for kind in ("mask", "probseg")]
        return [path for path in (self.path(name, "probseg.nii.gz"), self.brain_path(name), *in_mni) if path != mask]

    def write_volumes(
        self, name: ScanName, labels: torch.Tensor, probabilities: torch.Tensor, header: nib.Nifti1Header, space: str = ""
    ) -> None:
        """Write the label map and, if requested, the probability of either lesion class."""
        write_volume(self.path(name, "mask.nii.gz", space), labels[0], header)
        if self.probabilities:
            lesion = probabilities.as_subclass(torch.Tensor)[1:].sum(dim=0).float()
            write_volume(self.path(name, "probseg.nii.gz", space), lesion, header)

    def write_brain(self, name: ScanName, scan: MetaTensor, header: nib.Nifti1Header) -> list[str]:
        """Write the brain mask of a scan `(1, X, Y, Z)`; return a warning if no brain is found."""
        assert self.draw_brain is not None
        try:
            brain = self.draw_brain(scan).as_subclass(torch.Tensor)
        except UserError as error:
            return [f"no brain mask was written: {error}"]
        write_volume(self.brain_path(name), brain[0].cpu().to(torch.uint8), header)
        return []

    def brain_path(self, name: ScanName) -> Path:
        """Return the path of a scan's brain mask."""
        return Path(self.folder) / name.path("mask.nii.gz", desc="brain")

    def sidecar(
        self, item: Mapping[str, Any], scan: SegmentedScan, warnings: Sequence[str], tables: Mapping[str, list[Row]]
    ) -> dict[str, Any]:
        """Return the content of a mask's sidecar."""
        return {
            "Type": "Lesion",
            "Labels": LABEL_NAMES,
            "Sources": scan_sources(item),
            "SeriesInstanceUID": series_uid(item),
            "InputSHA256": sha256_of_scan(item),
            "SoftwareVersion": version("strokelesion"),
            "Settings": self.asked,
            "ToMNI152NLin2009aSym": None if scan.to_mni is None else scan.to_mni.round(DECIMALS).tolist(),
            "Warnings": list(warnings),
            "Tables": plain(tables),
        }

    def gather(self, names: Sequence[ScanName], failed: Mapping[str, str]) -> None:
        """Write the tables of all finished scans, and the table of failures."""
        rows: dict[str, list[list[Any]]] = {table: [] for table in COLUMNS}
        shown = []
        for name, sidecar in self.done(names):
            for table, columns in COLUMNS.items():
                named = [name.subject, name.session or None, str(name)]
                rows[table] += [[*named, *map(row.get, columns)] for row in sidecar["Tables"].get(table, [])]
            if self.pages:
                shown.append(self.shown(name, sidecar))
        for table, columns in COLUMNS.items():
            if table != "regions" or self.atlas is not None:
                whole = {"lesions": "Int64"} if table == "volumes" else {}  # numbers beside n/a would get decimals
                made = pd.DataFrame(rows[table], columns=[*NAMED_BY, *columns]).astype(whole)
                write_tsv(Path(self.folder) / f"{table}.tsv", made)
        write_tsv(Path(self.folder) / FAILURES, pd.DataFrame(failed.items(), columns=["scan", "reason"]))
        if self.pages:
            write_cohort_page(Path(self.folder) / "index.html", shown, failed)

    def done(self, names: Sequence[ScanName]) -> Iterator[tuple[ScanName, dict[str, Any]]]:
        """Yield the scans that are done with the current settings, sorted by name, with their sidecars."""
        for name in sorted(names, key=str):
            sidecar = read_sidecar(self.path(name, "mask.json"))
            if sidecar.get("Settings") == self.asked:
                yield name, sidecar

    def shown(self, name: ScanName, sidecar: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that the cohort page shows for a scan."""
        cuts = Path(self.folder) / "pages" / f"{name}.jpg"
        row = {**sidecar["Tables"]["volumes"][0], "warnings": sidecar["Warnings"]}
        return {"name": str(name), "page": f"pages/{name}.html", "mosaic": cuts, **row}


def write_volume(path: Path, values: torch.Tensor, header: nib.Nifti1Header) -> None:
    """Write a volume `(X, Y, Z)` in its own data type, placed as a header says."""
    # With another affine or without a data type, nibabel would change the codes or the values.
    image = nib.Nifti1Image(values.numpy(), header.get_best_affine(), header, dtype=values.numpy().dtype)
    write_nifti(path, image, COMPRESSION)


def where_to_look(outcome: Mapping[str, Any]) -> torch.Tensor:
    """Return the brain mask of a scan or, if it has none, the mask of all tissue, `(1, X, Y, Z)`."""
    found: torch.Tensor | None = outcome.get("scan_brain")
    return is_tissue(ScaleTissued("scan")({"scan": outcome["scan"]})["scan"]) if found is None else found


def measure(
    labels: torch.Tensor, probabilities: MetaTensor, outcome: Mapping[str, Any], register: Callable[..., Registration] | None
) -> tuple[SegmentedScan, list[str], list[str]]:
    """Return the segmented scan from which all numbers are computed, warnings, and doubts that it is a T1 of a whole brain.

    The registration of the brain to MNI space ignores the lesions, so that they do not distort it. If the scan was brought to
    MNI space before, the registration starts from there.
    """
    warnings, brain_ml, to_mni, doubts = [NO_BRAIN], nan, None, list[str]()
    if "scan_brain" in outcome:
        brain = (outcome["scan_brain"].as_tensor() > 0) | (labels > 0)
        brain_ml, warnings = float(brain.sum()) * voxel_ml(probabilities.affine), []
        start = brought_by(outcome)
        if start is None and "scan_to_mni" in outcome:
            warnings.append(NOT_PLACED)
        try:
            to_mni = None if register is None else register(outcome["scan"], brain, labels > 0, start).to_mni
        except UserError as error:
            doubts.append(str(error))
    lesion = probabilities.as_tensor()[1:].sum(dim=0)
    scan = SegmentedScan(labels[0].numpy(), lesion.numpy(), brain_ml, probabilities.affine.numpy(), to_mni)
    if "scan_brain" in outcome:
        doubts += doubts_of_image(outcome["scan"], brain[0].numpy(), scan)
    if float((labels > 0).sum()) * scan.voxel_ml > LARGEST_SHARE * brain_ml:
        warnings.append(f"more than {LARGEST_SHARE:.0%} of the brain is called lesion: look at the mask")
    return scan, warnings, doubts


def brought_by(outcome: Mapping[str, Any]) -> NDArray[np.floating] | None:
    """Return the affine `(4, 4)` that brought a scan to MNI space before segmentation, or None."""
    to_mni = torch.as_tensor(outcome.get("scan_to_mni", nan)).numpy()
    return None if np.isnan(to_mni).any() else to_mni
