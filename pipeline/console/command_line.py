"""The program `strokelesion`: its commands, their options and their help.

    strokelesion segment /data/study results
    strokelesion train --bundle unet --dataset_dir /data/ATLAS_R1.1
    strokelesion bids /data/bids results participant --participant_label 01 02

Names and help of the options come from `settings.py`; a name may be written with hyphens, too. The command itself checks the
values. This module imports no torch, so the help appears at once.
"""

import re
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version

import shtab

from strokelesion.networks import CommandLineError, UserError
from strokelesion.pipeline.console.bids_app import add_bids_arguments, run_bids_app
from strokelesion.pipeline.console.commands import COMMANDS, Command, run_command
from strokelesion.pipeline.options.bundle_files import options_taken, read_bundle
from strokelesion.pipeline.options.option_texts import allowed, grouped, shown_default
from strokelesion.pipeline.options.settings import Settings

DESCRIPTION = "Segment post-stroke lesions on T1-weighted MRI. For research only; not a medical device."
DEMO_FOLDER = "strokelesion_demo"
OPTION_NAME = re.compile(r"--[a-z][a-z0-9_-]*")
Run = Callable[[Namespace, list[str]], None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; an error for the user ends it with one line and its exit status."""
    parser = make_parser()
    values, others = parser.parse_known_args([*map(with_underscores, sys.argv[1:] if arguments is None else arguments)])
    if others and not OPTION_NAME.match(others[0]):
        parser.error(f"got {others[0]!r} after all that is allowed; see `strokelesion {values.command} --help`.")
    run: Run = values.run
    try:
        run(values, others)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None


def with_underscores(word: str) -> str:
    """Return a word of the command line; if it is an option, its name has underscores instead of hyphens."""
    return OPTION_NAME.sub(lambda name: "--" + name[0][2:].replace("-", "_"), word, count=1) if word[:2] == "--" else word


def make_parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    parser = ArgumentParser("strokelesion", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"strokelesion {version('strokelesion')}")
    shtab.add_argument_to(parser, "--print_completion", help="print a script for a shell that completes commands and options")
    added = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    def add(name: str, help_line: str, run: Run) -> ArgumentParser:
        made: ArgumentParser = added.add_parser(name, help=help_line, description=help_line, allow_abbrev=False)
        made.set_defaults(run=run)
        return made

    for name, command in COMMANDS.items():
        add_options(add(name, command.help, partial(run_named, command)), command)
    add_bids_arguments(add("bids", "Segment a BIDS data set, as a BIDS App.", run_bids_app))
    demo = add("demo", "Make a synthetic scan and segment it.", run_demo)
    demo.add_argument("output_dir", nargs="?", default=DEMO_FOLDER, help=f"folder for scan and results; default: {DEMO_FOLDER}")
    measure = add("measure", "Measure again with corrected masks.", run_measure)
    measure.add_argument("output_dir", help="folder of the results").complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    measure.add_argument("--masks", help="folder of masks that were corrected in other programs")
    measure.add_argument("--overwrite", action="store_true", help="replace other manual masks of these scans")
    for name in ("rois", "atlas", "atlas_labels"):
        measure.add_argument(f"--{name}", help=f"as for segment, if it has moved: {help_text(name)}")
    review = add("review", "Accept, correct or reject masks in the browser.", run_review)
    review.add_argument("output_dir", help="folder of the results").complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    review.add_argument("--port", type=int, default=0, help="port of this machine; default: a free one")
    review.add_argument("--open", action="store_true", help="open the page in a browser")
    return parser


def add_options(parser: ArgumentParser, command: Command) -> None:
    """Add the options that a command takes, in groups. An option that is not given stays out of the result."""
    taken = options_taken(command.bundle_command, read_bundle(command.bundle))
    for name in command.by_position:
        parser.add_argument(name, help=Settings.model_fields[name].description).complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument("--bundle", default=command.bundle, help="bundle file: a path, or a name; default: %(default)s")
    for title, names in grouped().items():
        group = parser.add_argument_group(title)
        for name in names:
            if name in taken and name not in command.by_position:
                bare = {"nargs": "?", "const": "true"} if allowed(name) == "true, false" else {}
                group.add_argument(f"--{name}", metavar="VALUE", default=SUPPRESS, help=help_text(name), **bare)  # type: ignore[arg-type]


def help_text(name: str) -> str:
    """Return the help of an option: what it does, what is allowed, and its default."""
    choices = "" if allowed(name) == "text" else f" Allowed: {allowed(name)}."
    text = f"{Settings.model_fields[name].description}{choices} Default: {shown_default(name)}."
    return text.replace("%", "%%").replace("`", "")


def run_named(command: Command, values: Namespace, others: list[str]) -> None:
    """Run a command of a bundle file with the options that were typed."""
    options = {name: value for name, value in vars(values).items() if name not in ("run", "command", "bundle")}
    run_command(command.bundle_command, values.bundle, options, others)


def run_demo(values: Namespace, others: list[str]) -> None:
    """Run the demonstration."""
    from strokelesion.pipeline.console.demo import show  # imports torch

    show(values.output_dir, others)


def run_measure(values: Namespace, others: list[str]) -> None:
    """Measure again with corrected masks."""
    if others:
        raise CommandLineError(f"got {others[0]}; see `strokelesion measure --help` for what is allowed.")
    from strokelesion.pipeline.review.remeasuring import measure_corrected  # imports torch

    paths = {name: getattr(values, name) for name in ("rois", "atlas", "atlas_labels")}
    measure_corrected(values.output_dir, values.masks, values.overwrite, **paths)


def run_review(values: Namespace, others: list[str]) -> None:
    """Serve results for a review."""
    if others:
        raise CommandLineError(f"got {others[0]}; allowed are --port and --open.")
    try:
        from strokelesion.pipeline.review.server import review  # imports Starlette, which is optional
    except ModuleNotFoundError as error:
        raise UserError(
            f"`strokelesion review` needs {error.name}, which is not installed; expected Starlette and uvicorn. Run "
            "pip install -c constraints.txt '.[review]'."
        ) from None
    review(values.output_dir, values.port, values.open)
