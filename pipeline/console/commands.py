"""Run a command of a bundle file in this process, as `python -m monai.bundle run` does."""

import runpy
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from strokelesion.networks import CommandLineError
from strokelesion.pipeline.options import command_names
from strokelesion.pipeline.options.bundle_files import bundle_root


class Command(NamedTuple):
    """A command of the program.

    Attributes:
        bundle_command: Command of the bundle file.
        help: One line that says what the command does.
        bundle: Bundle file that is used if none is named.
        by_position: Options that are given by position, without their names.
    """

    bundle_command: str
    help: str
    bundle: str = "resunet"
    by_position: tuple[str, ...] = ()


COMMANDS = {
    "segment": Command(command_names.INFERENCE, "Segment new scans.", by_position=("scans", "output_dir")),
    "group": Command(
        command_names.GROUP, "Write tables, pages and maps of all segmented scans.", by_position=("scans", "output_dir")
    ),
    "train": Command(command_names.TRAINING, "Train a model."),
    "evaluate": Command(command_names.EVALUATING, "Segment and score the scans that a training held out."),
    "score": Command(command_names.SCORING, "Score masks of any method."),
    "experiments": Command(command_names.EXPERIMENTS, "Compare networks, losses and folds.", "experiments"),
    "report": Command(command_names.REPORTING, "Write a report on runs.", "experiments"),
    "doctor": Command(command_names.DOCTOR, "Check a data set before a training."),
    "synthesize": Command(command_names.SYNTHESIS, "Make synthetic scans.", "synthesis"),
    "release": Command(command_names.RELEASE, "Make a model to give away."),
    "export": Command(command_names.EXPORT, "Write a model as ONNX."),
    "package": Command(command_names.PACKAGE, "Write a model as a MONAI bundle in the layout of the model zoo."),
}


def bundle_file(named: str) -> Path:
    """Return a bundle file from its path, or from the name of one that is installed, such as `unet`.

    Raises:
        CommandLineError: There is no such file.
    """
    others = ("metadata", "packaged")  # files of packaged bundles
    installed = {path.stem: path for path in sorted(Path(bundle_root()).glob("*.json")) if path.stem not in others}
    path = installed.get(named, Path(named))
    if not path.is_file():
        raise CommandLineError(f"--bundle got {named}; allowed are {', '.join(installed)}, and the path of a bundle file.")
    return path


def run_command(command: str, bundle: str | Path, options: Mapping[str, Any], others: list[str] | None = None) -> None:
    """Run a command of a bundle file.

    The options pass through MONAI's own command line, so that this program and `python -m monai.bundle run` read and check
    them in the same way.

    Args:
        command: Command of the bundle file.
        bundle: Bundle file, see `bundle_file`.
        options: Values of options as they were typed, by their names; None is left out.
        others: Further words of the command line, passed on as they are.
    """
    path = bundle_file(str(bundle))
    if path.parent == Path(bundle_root()):  # MONAI warns that bundle files of others may run any code
        warnings.filterwarnings("ignore", message="parsing config_file", category=UserWarning)
    words = [f"--{name}={value}" for name, value in options.items() if value is not None]
    sys.argv[1:] = ["run", command, f"--config_file={path}", *words, *(others or [])]
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
