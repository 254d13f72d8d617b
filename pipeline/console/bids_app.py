"""The BIDS App: segment the participants of a BIDS data set, and write what describes all of them.

    strokelesion bids BIDS_DIR OUTPUT_DIR participant [--participant_label 01 02] [--session_label 1]
    strokelesion bids BIDS_DIR OUTPUT_DIR group

Calls for different participants may run at the same time and write to one folder: each writes only the files of its
participants. The tables and pages of all are written by `group`.

Source: Gorgolewski et al. 2017, "BIDS Apps", doi:10.1371/journal.pcbi.1005209, for the command line.
"""

import json
import os
from argparse import ArgumentParser, Namespace
from importlib.metadata import version
from pathlib import Path

from strokelesion.networks import CommandLineError, UserError
from strokelesion.pipeline.console.commands import run_command
from strokelesion.pipeline.options.command_names import GROUP, INFERENCE

LEVELS = ("participant", "group")
# Variables that limit the threads of torch and of the numeric libraries; they are read when these are loaded.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def add_bids_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that each BIDS App has."""
    parser.add_argument("bids_dir", help="folder of the data set")
    parser.add_argument("output_dir", help="folder of the results")
    parser.add_argument("level", choices=LEVELS, help="participant: segment; group: tables, pages and maps of all")
    parser.add_argument("--participant_label", nargs="+", metavar="LABEL", help="subjects, with or without sub-; default: all")
    parser.add_argument("--session_label", nargs="+", metavar="LABEL", help="sessions, with or without ses-; default: all")
    parser.add_argument("--skip_bids_validation", action="store_true", help="do not check that bids_dir is a BIDS data set")
    parser.add_argument("--n_cpus", type=int, metavar="N", help="largest number of threads; default: all cores")
    parser.add_argument("--work_dir", metavar="FOLDER", help="folder of temporary files; default: that of the system")
    parser.add_argument("-v", "--version", action="version", version=f"strokelesion {version('strokelesion')}")
    parser.epilog = "Further options are those of `strokelesion segment`; --mni is 2009a unless it is given."


def run_bids_app(values: Namespace, others: list[str]) -> None:
    """Run one level of the BIDS App."""
    if not values.skip_bids_validation:
        require_bids(Path(values.bids_dir))
    if values.n_cpus is not None:
        os.environ.update(dict.fromkeys(THREADS, str(positive(values.n_cpus))))
    if values.work_dir is not None:
        Path(values.work_dir).mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = str(Path(values.work_dir).absolute())
    options = {
        "scans": values.bids_dir,
        "output_dir": values.output_dir,
        "participant": joined(values.participant_label),
        "session": joined(values.session_label),
        # The maps of the group are made of masks in MNI space.
        "mni": None if any(word.split("=")[0] == "--mni" for word in others) else "2009a",
    }
    if values.level == "participant":
        run_command(INFERENCE, "resunet", {**options, "tables": "false"}, others)
    else:
        run_command(GROUP, "resunet", options, others)


def require_bids(folder: Path) -> None:
    """Raise UserError unless a folder describes itself as a BIDS data set and holds subjects."""
    try:
        known = json.loads((folder / "dataset_description.json").read_text())
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict) or not {"Name", "BIDSVersion"} <= known.keys():
        raise UserError(
            f"{folder} has no dataset_description.json with Name and BIDSVersion; expected a BIDS data set. Add this file, or "
            "use --skip_bids_validation."
        )
    if not any(path.is_dir() for path in folder.glob("sub-*")):
        raise UserError(f"{folder} has no folder sub-*; expected a BIDS data set of subjects. Check the path.")


def positive(count: int) -> int:
    """Return a number of threads; raise CommandLineError if it is below 1."""
    if count < 1:
        raise CommandLineError(f"--n_cpus got {count}; allowed is a whole number of at least 1.")
    return count


def joined(labels: list[str] | None) -> str | None:
    """Return labels as the bundles take them, with commas."""
    return None if labels is None else ",".join(labels)
