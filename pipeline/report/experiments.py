"""All experiments, networks x losses x folds, one after the other: trained, evaluated, resumed where they stopped.

Each is a run of its network's bundle in a folder of its own, `<runs_dir>/<network>_<loss>_<fold>`. Its record says with which
settings it was begun and whether it is done; then it is skipped. A run that was stopped, by whatever, goes on from its
last epoch. All share the split that lies beside them, `<runs_dir>/split.csv`.
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
from strokelesion.pipeline.options.settings import EVALUATING, TRAINING, check, options_of
from strokelesion.pipeline.report.runs import EVALUATION
from strokelesion.pipeline.report.writing import write_report
from strokelesion.pipeline.runtime import errors
from strokelesion.pipeline.runtime.files import write_bytes, write_json
from strokelesion.pipeline.runtime.locks import claimed

# Options of the evaluation that decide its result.
MEASURED = {"prepare", "overlap", "tta", "threshold", "min_component_ml", "min_peak"}
RECORD, SPLIT = "experiment.json", "split.csv"
# What a site's name may have and a folder's should not.
NO_NAME = re.compile(r"[^\w.-]+|^\.+")
LONGEST_NAME = 50
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """One network, loss and fold, and where its run lies.

    Attributes:
        network: name of a bundle file.
        loss: name of a loss.
        fold: which part of the cohort it holds out.
        folder: the run's.
        bundle: the bundle file.
    """

    network: str
    loss: str
    fold: int | str
    folder: Path
    bundle: Path

    @property
    def record(self) -> dict[str, Any]:
        """What earlier calls noted: `settings`, `is_done`, and `duration_s` if it ran in one go."""
        path = self.folder / RECORD
        return dict(json.loads(path.read_text())) if path.is_file() else {}

    @property
    def is_done(self) -> bool:
        """Whether it was carried out and its scores are there."""
        return self.record.get("is_done", False) and (self.folder / EVALUATION / SCORES).is_file()

    def note(self, **record: Any) -> None:
        """Add to the record."""
        write_json(self.folder / RECORD, self.record | record)


def run_experiments(
    networks: Sequence[str],
    losses: Sequence[str],
    folds: Sequence[int | str],
    runs_dir: str | Path,
    options: Mapping[str, Any],
    run_options: Mapping[str, Any],
    report_dir: str | Path,
    bundle_root: str | Path,
) -> None:
    """Train and evaluate every combination that is not done, say before each how much time is left, and report on all.

    All combinations of the first fold come before those of the second. One that fails is reported and the others go on.

    Args:
        networks: names of bundle files.
        losses: values of the option `loss`.
        folds: values of the option `fold`.
        runs_dir: folder of the runs.
        options: options that all runs share.
        run_options: further options, of training or evaluating, handed to each run.
        report_dir: where the report on these experiments goes.
        bundle_root: folder of the bundle files.

    Raises:
        UserError: when an option is wrong, another run works in `runs_dir`, or a run was begun with other settings; nothing
            was started then.
        SystemExit: with status 1 when an experiment failed.
    """
    planned = plan(networks, losses, folds, Path(runs_dir), Path(bundle_root))
    handed = {**options, **run_options}
    settings = resolve(planned, handed)
    with claimed(runs_dir, "runs_dir"):
        failed = carry_out_all(planned, handed, settings)
        if done := [str(experiment.folder) for experiment in planned if experiment.is_done]:
            write_report(done, report_dir)
    print(f"{len(planned) - failed} of {len(planned)} experiments are done; {failed} failed.")
    if failed:
        raise SystemExit(1)


def carry_out_all(planned: Sequence[Experiment], options: Mapping[str, Any], settings: Mapping[Path, dict[str, Any]]) -> int:
    """Carry out the experiments that are not done, and return how many failed; the log says why."""
    for experiment in planned:
        check_record(experiment, settings[experiment.folder])
    failed = 0
    for experiment in announced(planned):
        try:
            carry_out(experiment, options, settings[experiment.folder])
        except (Exception, SystemExit) as error:
            failed += 1
            is_fault = isinstance(error, Exception) and errors.user_error(error) is None
            logger.error("%s failed: %s", experiment.folder, reason(error), exc_info=error if is_fault else None)
        release_memory()
    return failed


def plan(
    networks: Sequence[str], losses: Sequence[str], folds: Sequence[int | str], runs_dir: Path, bundle_root: Path
) -> list[Experiment]:
    """Return the experiments in the order in which they are run.

    Raises:
        UserError: when two folds would share a folder, or one would be read as an expression by the bundle runner.
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
        Experiment(network, loss, fold, runs_dir / f"{network}_{loss}_{name}", bundle_root / f"{network}.json")
        for (fold, name), network, loss in product(zip(folds, names, strict=True), networks, losses)
    ]


def resolve(planned: Sequence[Experiment], options: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """Return the settings of each experiment, by its folder, as its bundle file and the options say.

    Raises:
        CommandLineError: when an option is wrong; MONAI raises a RuntimeError from it.
    """
    return {experiment.folder: settings_of(experiment, options) for experiment in planned}


def settings_of(experiment: Experiment, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides the result of an experiment: of its model, and of its evaluation."""
    # As a new run: one that is resumed would keep what it was begun with, whatever is asked for.
    as_new = {"resume": False, "run_dir": str(experiment.folder / "none")}
    asked_for = {**arguments(TRAINING, experiment, options), **as_new}
    workflow = monai.bundle.create_workflow(workflow_type="train", **asked_for)
    parser = workflow.parser
    model: Description = parser.config["model"]
    asked = check({name: options[name] for name in MEASURED & options.keys()})
    measured = {name: getattr(asked, name) for name in MEASURED}
    settings = {**model.settings(), **measured, "epochs": parser.config["epochs"], "fold": str(experiment.fold)}
    return dict(json.loads(json.dumps(settings)))  # as it comes back from the record


def check_record(experiment: Experiment, settings: Mapping[str, Any]) -> None:
    """Raise UserError when a run was begun with other settings."""
    was = experiment.record.get("settings", settings)
    for key in sorted(was.keys() | settings.keys()):
        if was.get(key) != settings.get(key):
            raise UserError(
                f"{experiment.folder} was begun with {key} {was.get(key)}; got {settings.get(key)}. Give what it was begun "
                "with, choose another --runs_dir, or remove it."
            )


def arguments(command: str, experiment: Experiment, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `monai.bundle` for a command of one experiment; logging is set up already."""
    chosen = {"loss": experiment.loss, "fold": experiment.fold, "run_dir": str(experiment.folder), "resume": True}
    taken = {name: value for name, value in {**options, **chosen}.items() if name in options_of(command)}
    return {"run_id": command, "logging_file": False, "config_file": str(experiment.bundle), **taken}


def carry_out(experiment: Experiment, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Train, or go on training, and evaluate."""
    is_new, started_s = not experiment.record, time.monotonic()
    experiment.note(settings=settings)
    share_split(experiment)
    for command in (TRAINING, EVALUATING):
        monai.bundle.run(**arguments(command, experiment, options))
    experiment.note(is_done=True, **({"duration_s": round(time.monotonic() - started_s, 1)} if is_new else {}))


def share_split(experiment: Experiment) -> None:
    """Give a new run the split that lies beside the runs; where it has one, that rules."""
    shared, own = experiment.folder.parent / SPLIT, experiment.folder / SPLIT
    if shared.is_file() and not own.exists():
        write_bytes(own, shared.read_bytes())


def reason(error: BaseException) -> str:
    """Return why an experiment failed, as one line."""
    return "not every scan could be predicted, see above" if isinstance(error, SystemExit) else errors.reason(error)


def announced(planned: Sequence[Experiment]) -> Iterator[Experiment]:
    """Yield the experiments that are not done, each after a line that says which it is and how much time is left."""
    for number, experiment in enumerate(planned, start=1):
        if experiment.is_done:
            continue
        left_s = time_left_s(planned)
        time_left = "not known before one is done" if left_s is None else f"about {tqdm.format_interval(left_s)}"
        name = f"{experiment.network}, {experiment.loss}, fold {experiment.fold}"
        print(f"experiment {number} of {len(planned)}: {name}; time left {time_left}", flush=True)
        yield experiment


def time_left_s(planned: Sequence[Experiment]) -> float | None:
    """Return how long the experiments that are not done will take, as those done of the same network, else of any, took."""
    durations_s: dict[str, list[float]] = {}
    for experiment in planned:
        if "duration_s" in experiment.record:
            durations_s.setdefault(experiment.network, []).append(experiment.record["duration_s"])
    if not durations_s:
        return None
    of_any = mean(mean(of_network) for of_network in durations_s.values())
    waiting = [experiment for experiment in planned if not experiment.is_done]
    return sum(mean(durations_s.get(experiment.network, [of_any])) for experiment in waiting)


def release_memory() -> None:
    """Give back what a run held: its engines refer to each other in circles."""
    gc.collect()
    torch.cuda.empty_cache()
