"""Train and evaluate all experiments (networks x losses x folds x seeds) one after the other, and resume interrupted ones.

Each experiment runs its network's bundle in its own folder, `<runs_dir>/<network>_<loss>_<fold>`, with `_seed<seed>` at the end
for seeds other than 0. Its record holds the settings
at its start and whether it is done. Finished experiments are skipped. An interrupted run continues from its last epoch. All
runs share the split `<runs_dir>/split.csv`.
"""

import gc
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import monai.bundle
import torch
from tqdm import tqdm

from strokelesion.networks import UserError
from strokelesion.pipeline.evaluation.scoring import SCORES
from strokelesion.pipeline.models.description import Description
from strokelesion.pipeline.options.command_names import EVALUATING, TRAINING
from strokelesion.pipeline.options.option_checks import check
from strokelesion.pipeline.options.settings import options_of
from strokelesion.pipeline.report.runs import EVALUATION
from strokelesion.pipeline.report.writing import write_report
from strokelesion.pipeline.runtime import errors
from strokelesion.pipeline.runtime.files import write_bytes, write_json

# Evaluation options that change the result.
MEASURED = {"prepare", "overlap", "tta", "threshold", "min_component_ml", "min_peak"}
RECORD, SPLIT = "experiment.json", "split.csv"
# Characters that the name of a site may contain but the name of a folder should not.
NO_NAME = re.compile(r"[^\w.-]+|^\.+")
LONGEST_NAME = 50
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """One network, loss, fold and seed, and the folder of its run.

    Attributes:
        network: Name of a bundle file.
        loss: Name of a loss.
        fold: Part of the cohort that is held out.
        seed: Seed of the training.
        folder: Folder of the run.
        bundle: Path of the bundle file.
    """

    network: str
    loss: str
    fold: int | str
    seed: int
    folder: Path
    bundle: Path

    @property
    def record(self) -> dict[str, Any]:
        """Return what earlier calls stored: `settings`, `is_done`, and `duration_s` if it ran without interruption."""
        path = self.folder / RECORD
        return dict(json.loads(path.read_text())) if path.is_file() else {}

    @property
    def is_done(self) -> bool:
        """Return whether the experiment is done and its scores exist."""
        return self.record.get("is_done", False) and (self.folder / EVALUATION / SCORES).is_file()

    def add_to_record(self, **record: Any) -> None:
        """Add entries to the record."""
        write_json(self.folder / RECORD, self.record | record)


def run_experiments(
    networks: Sequence[str],
    losses: Sequence[str],
    folds: Sequence[int | str],
    seeds: Sequence[int],
    runs_dir: str | Path,
    options: Mapping[str, Any],
    run_options: Mapping[str, Any],
    report_dir: str | Path,
    bundle_root: str | Path,
) -> None:
    """Train and evaluate every combination that is not done, print the time left before each, and write a report on all.

    All combinations of the first fold come before those of the second, and all of the first seed before those of the second.
    If one fails, the log says why and the others continue.

    Args:
        networks: Names of bundle files.
        losses: Values of the option `loss`.
        folds: Values of the option `fold`.
        seeds: Values of the option `seed`.
        runs_dir: Folder of the runs.
        options: Options that all runs share.
        run_options: Further options of training or evaluating, passed to each run.
        report_dir: Folder of the report on these experiments.
        bundle_root: Folder of the bundle files.

    Raises:
        UserError: when an option is wrong, or a run was started with other settings; then nothing is started.
        SystemExit: with status 1 when an experiment failed.
    """
    planned = plan(networks, losses, folds, seeds, Path(runs_dir), Path(bundle_root))
    handed = {**options, **run_options}
    settings = {experiment.folder: resolve_settings(experiment, handed) for experiment in planned}
    failed = carry_out_all(planned, handed, settings)
    if done := [str(experiment.folder) for experiment in planned if experiment.is_done]:
        write_report(done, report_dir)
    print(f"{len(planned) - failed} of {len(planned)} experiments are done; {failed} failed.")
    if failed:
        raise SystemExit(1)


def carry_out_all(planned: Sequence[Experiment], options: Mapping[str, Any], settings: Mapping[Path, dict[str, Any]]) -> int:
    """Run the experiments that are not done, and return the number of failures; the log gives the reasons."""
    for experiment in planned:
        check_record(experiment, settings[experiment.folder])
    failed = 0
    for experiment in announce(planned):
        try:
            carry_out(experiment, options, settings[experiment.folder])
        except (Exception, SystemExit) as error:
            failed += 1
            is_fault = isinstance(error, Exception) and errors.user_error(error) is None
            logger.error("%s failed: %s", experiment.folder, explain_failure(error), exc_info=error if is_fault else None)
        # The engines of a run refer to each other in cycles, which only the garbage collector frees.
        gc.collect()
        torch.cuda.empty_cache()
    return failed


def plan(
    networks: Sequence[str],
    losses: Sequence[str],
    folds: Sequence[int | str],
    seeds: Sequence[int],
    runs_dir: Path,
    bundle_root: Path,
) -> list[Experiment]:
    """Return the experiments in the order in which they run.

    Raises:
        UserError: when two folds would share a folder, or the bundle runner would read a fold as an expression.
    """
    names = [NO_NAME.sub("-", str(fold))[:LONGEST_NAME] for fold in folds]
    strange = [
        fold for fold, name in zip(folds, names, strict=True) if names.count(name) > 1 or str(fold)[:1] in ("$", "@", "%")
    ]
    if strange:
        raise UserError(
            f"got folds named {strange}; expected names that differ in their letters and digits, and none that begins with "
            "$, @ or %. Rename these sites, or give them numbers in a list: --split FILE.csv."
        )
    return [
        Experiment(network, loss, fold, seed, runs_dir / f"{network}_{loss}_{name}{ending}", bundle_root / f"{network}.json")
        for (seed, ending), (fold, name), network, loss in product(
            [(seed, f"_seed{seed}" if seed else "") for seed in seeds], zip(folds, names, strict=True), networks, losses
        )
    ]


def resolve_settings(experiment: Experiment, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings that decide the result of an experiment: those of its model and of its evaluation.

    Raises:
        CommandLineError: when an option is wrong; MONAI raises a RuntimeError from it.
    """
    # Resolve the settings of a new run: a resumed run would keep its first settings and ignore the given ones.
    as_new = {"resume": False, "run_dir": str(experiment.folder / "none")}
    asked_for = {**make_arguments(TRAINING, experiment, options), **as_new}
    workflow = monai.bundle.create_workflow(workflow_type="train", **asked_for)
    parser = workflow.parser
    model: Description = parser.config["model"]
    asked = check({name: options[name] for name in MEASURED & options.keys()})
    measured = {name: getattr(asked, name) for name in MEASURED}
    settings = {**model.settings(), **measured, "epochs": parser.config["epochs"], "fold": str(experiment.fold)}
    return dict(json.loads(json.dumps(settings)))  # the form that settings have when read from the record


def check_record(experiment: Experiment, settings: Mapping[str, Any]) -> None:
    """Raise UserError if a run was started with other settings."""
    was = experiment.record.get("settings", settings)
    for key in sorted(was.keys() | settings.keys()):
        if was.get(key) != settings.get(key):
            raise UserError(
                f"{experiment.folder} was begun with {key} {was.get(key)}; got {settings.get(key)}. Give what it was begun "
                "with, choose another --runs_dir, or remove it."
            )


def make_arguments(command: str, experiment: Experiment, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `monai.bundle` for a command of one experiment; the caller has set up logging."""
    own = {name: getattr(experiment, name) for name in ("loss", "fold", "seed")}
    given = {**options, **own, "run_dir": str(experiment.folder), "resume": True}
    taken = {name: value for name, value in given.items() if name in options_of(command)}
    return {"run_id": command, "logging_file": False, "config_file": str(experiment.bundle), **taken}


def carry_out(experiment: Experiment, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Start or resume the training, and evaluate."""
    is_new, started_s = not experiment.record, time.monotonic()
    experiment.add_to_record(settings=settings)
    share_split(experiment)
    for command in (TRAINING, EVALUATING):
        monai.bundle.run(**make_arguments(command, experiment, options))
    experiment.add_to_record(is_done=True, **({"duration_s": round(time.monotonic() - started_s, 1)} if is_new else {}))


def share_split(experiment: Experiment) -> None:
    """Copy the shared split to a new run; a run that already has a split keeps it."""
    shared, own = experiment.folder.parent / SPLIT, experiment.folder / SPLIT
    if shared.is_file() and not own.exists():
        write_bytes(own, shared.read_bytes())


def explain_failure(error: BaseException) -> str:
    """Return why an experiment failed, as one line."""
    return "not every scan could be predicted, see above" if isinstance(error, SystemExit) else errors.reason(error)


def announce(planned: Sequence[Experiment]) -> Iterator[Experiment]:
    """Yield the experiments that are not done; before each, print its name and the time left."""
    for number, experiment in enumerate(planned, start=1):
        if experiment.is_done:
            continue
        left_s = estimate_time_left_s(planned)
        time_left = "not known before one is done" if left_s is None else f"about {tqdm.format_interval(left_s)}"
        name = f"{experiment.network}, {experiment.loss}, fold {experiment.fold}, seed {experiment.seed}"
        print(f"experiment {number} of {len(planned)}: {name}; time left {time_left}", flush=True)
        yield experiment


def estimate_time_left_s(planned: Sequence[Experiment]) -> float | None:
    """Return the time left in s, from the mean duration of finished experiments: of the same network, or else of any."""
    durations_s: dict[str, list[float]] = {}
    for experiment in planned:
        if "duration_s" in experiment.record:
            durations_s.setdefault(experiment.network, []).append(experiment.record["duration_s"])
    if not durations_s:
        return None
    of_any = mean(mean(of_network) for of_network in durations_s.values())
    waiting = [experiment for experiment in planned if not experiment.is_done]
    return sum(mean(durations_s.get(experiment.network, [of_any])) for experiment in waiting)
