"""Keep the results of new scans as a BIDS derivatives data set: which scans are done, and with which settings.

`outputs.py` lists all files. A scan is done when its sidecar exists and holds the SHA-256 of the scan and the current settings.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from strokelesion.pipeline.derivatives.bids_sources import DESCRIPTION, add_links, read_links, to_uri
from strokelesion.pipeline.derivatives.gathering import gather_results
from strokelesion.pipeline.derivatives.manual_masks import of_record, warn_of_unmeasured, write_record
from strokelesion.pipeline.derivatives.outputs import LESIONS, OUTPUTS, as_settings, find_wanted, ignored_files
from strokelesion.pipeline.derivatives.provenance import is_made_from, read_sidecar, scan_sources, series_uid, sha256_of_scan
from strokelesion.pipeline.derivatives.result_names import MANUAL_MASK, MASK, SIDECAR, ScanName
from strokelesion.pipeline.derivatives.scan_images import ScanFolder
from strokelesion.pipeline.lesions.measuring import MeasuredScan, Register, measure_scan
from strokelesion.pipeline.lesions.registrations import FOLDER as REGISTRATIONS
from strokelesion.pipeline.runtime.files import DECIMALS, remove_parts, write_json, write_text
from strokelesion.transforms import DecideLesionsd

# Version of BIDS that the names and sidecars follow.
BIDS_VERSION = "1.11.1"


@dataclass(frozen=True)
class Results:
    """A derivatives data set, with the settings that decide which files each scan gets.

    Attributes:
        folder: Folder of the data set; created if it does not exist.
        settings: All settings that decide the results; stored in each sidecar.
        decide: Decision rule that turns probabilities into labels.
        register: Function that registers a brain to MNI space, see `register_brain`; None skips the registration.
        wanted: Value of each optional output by name, see `outputs.py`; None and False mean that it is not wanted.
        overwrite: Whether to segment finished scans again.
        options: Paths of what outputs are made from, by option; stored in each sidecar, for `measure`.
        positions: Whether the tables need the registration; some outputs need it anyway.
    """

    folder: Path
    settings: Mapping[str, Any]
    decide: DecideLesionsd
    register: Register
    wanted: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    positions: bool = True

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """Return the names and values of all outputs that are written."""
        return find_wanted(self.wanted)

    @cached_property
    def needed_register(self) -> Register:
        """Return `register` if the tables or an output need it, else None."""
        needed = self.positions or any(output.in_mni and output.name in self.outputs for output in OUTPUTS)
        return self.register if needed else None

    @cached_property
    def asked(self) -> dict[str, Any]:
        """Return all settings in the form that they have after JSON stores and loads them."""
        settings = {**self.settings, "outputs": as_settings(self.outputs), "positions": self.needed_register is not None}
        asked: dict[str, Any] = json.loads(json.dumps(settings))
        return asked

    def path(self, name: ScanName, file: str) -> Path:
        """Return the path of a scan's file, see `ScanName.path`."""
        return Path(self.folder) / name.path(file)

    def clear(self, names: Sequence[ScanName]) -> None:
        """Remove half-written files that killed runs left for these scans; no other run may use the folder meanwhile."""
        of_scans = (path for name in names for output in OUTPUTS for path in output.paths(self.folder, name))
        shared = (path for output in OUTPUTS for path in output.shared_paths(self.folder))
        for folder in {path.parent for path in (*of_scans, *shared, Path(self.folder) / REGISTRATIONS / "any")}:
            remove_parts(folder)

    def describe(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Write `dataset_description.json`, with links to the data sets of these scans, and `.bidsignore`."""
        about = {
            "Name": "Lesion masks by strokelesion",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "DatasetLinks": add_links(read_links(self.folder), (path for item in items for path in scan_sources(item))),
            "GeneratedBy": [{"Name": "strokelesion", "Version": version("strokelesion")}],
        }
        write_json(Path(self.folder) / DESCRIPTION, about)
        write_text(Path(self.folder) / ".bidsignore", "".join(f"{file}\n" for file in ignored_files()))

    def require_possible(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Raise UserError if an output cannot be written for these scans, see `Output.require`."""
        for output in OUTPUTS:
            if output.name in self.outputs and output.require is not None:
                output.require(self.outputs[output.name], Path(self.folder), items)

    def is_done(self, name: ScanName, item: Mapping[str, Any]) -> bool:
        """Return whether a scan's results exist and were made from this scan with these settings."""
        if self.overwrite or not all(path.exists() for path in LESIONS.paths(self.folder, name)):
            return False
        sidecar = read_sidecar(self.path(name, SIDECAR))
        return sidecar.get("Settings") == self.asked and is_made_from(sidecar, item)

    def write(self, name: ScanName, item: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        """Write the files of one scan; write the sidecar last, because it marks the scan as done.

        Files of earlier settings are removed first. After an interruption, their sidecar would belong to other files. A mask
        that a person drew stays, and stays the mask of record.
        """
        for path in self.files_to_remove(name):
            path.unlink(missing_ok=True)
        scan = measure_scan(item, outcome, self.decide, self.needed_register)
        links = read_links(self.folder)
        sources = [to_uri(path, links) for path in scan_sources(item)]
        files = ScanFolder(Path(self.folder), name, sources, self.outputs)
        for output in OUTPUTS:
            if output.name in self.outputs and output.write is not None:
                output.write(scan, files, self.outputs[output.name])
        sidecar = self.sidecar(item, scan, files)
        if self.path(name, MANUAL_MASK).exists():
            write_record(Path(self.folder), name, item, scan.image, sidecar, self.outputs)
        write_json(self.path(name, SIDECAR), sidecar)

    def files_to_remove(self, name: ScanName) -> list[Path]:
        """Return the sidecar and the optional files of a scan, which must not stay beside new masks."""
        always = set(LESIONS.paths(self.folder, name))
        optional = [path for output in OUTPUTS for path in output.paths(self.folder, name) if path not in always]
        return [self.path(name, SIDECAR), *optional]

    def sidecar(self, item: Mapping[str, Any], scan: MeasuredScan, files: ScanFolder) -> dict[str, Any]:
        """Return the content of a mask's sidecar."""
        to_mni = scan.segmented.to_mni
        options = {name: os.path.abspath(path) for name, path in self.options.items() if path is not None}
        return {
            "Type": "Lesion",
            **files.metadata_of(MASK),
            "SeriesInstanceUID": series_uid(item),
            "InputSHA256": sha256_of_scan(item),
            "SoftwareVersion": version("strokelesion"),
            "Settings": self.asked,
            "ToMNI152NLin2009aSym": None if to_mni is None else to_mni.round(DECIMALS).tolist(),
            "Warnings": list(scan.warnings),
            "Tables": scan.stored_tables,
            **({"Options": options} if options else {}),
        }

    def gather(self, names: Sequence[ScanName], failed: Mapping[str, str]) -> None:
        """Write the tables of all finished scans, and the table of failures."""
        done = list(self.done(names))
        warn_of_unmeasured(Path(self.folder), done)
        records = [(name, of_record(Path(self.folder), name, known)) for name, known in done]
        gather_results(Path(self.folder), self.outputs, records, failed)

    def done(self, names: Sequence[ScanName]) -> Iterator[tuple[ScanName, dict[str, Any]]]:
        """Yield the scans that are done with the current settings, sorted by name, with their sidecars."""
        for name in sorted(names, key=str):
            sidecar = read_sidecar(self.path(name, SIDECAR))
            if sidecar.get("Settings") == self.asked:
                yield name, sidecar
