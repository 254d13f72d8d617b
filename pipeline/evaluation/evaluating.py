"""The commands `evaluating` and `scoring`; `evaluating` runs inference on scans with known lesions, then scores the masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import Dataset
from monai.engines import Evaluator

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.records import Record
from strokelesion.pipeline.evaluation.predicted_masks import match_predictions
from strokelesion.pipeline.evaluation.scoring import SCORES, score_predictions
from strokelesion.pipeline.inference.new_scans import segment_new_scans
from strokelesion.pipeline.inference.results import Results
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.runtime.locks import claimed
from strokelesion.transforms import DecideLesionsd


def evaluate(
    evaluator: Evaluator,
    preprocessing: Any,
    records: Sequence[Record],
    results: Results,
    scorable: Any,
    folder: str | Path,
    about: Mapping[str, Any],
) -> None:
    """Segment scans as the command `inference` does, and score the masks.

    Args:
        evaluator: See `segment_new_scans`.
        preprocessing: Transform that brings a scan to the network.
        records: Scans with their lesion masks.
        results: Data set that the predictions are written to.
        scorable: Transform of `score_predictions`.
        folder: Folder of the scores.
        about: Description of the predictions, see `about_model`.

    Raises:
        SystemExit: with status 1 when a scan could not be segmented; then no scan is scored.
    """
    with claimed(folder, "run_dir"):
        # Scores of earlier predictions must not be mistaken for scores of the new ones.
        (Path(folder) / SCORES).unlink(missing_ok=True)
        segment_new_scans(evaluator, Dataset(list(records), preprocessing), results)
        score_predictions(match_predictions(records, results.folder, results.asked), scorable, folder, about)


def about_model(weights: str | Path, measured: Mapping[str, Any], decide: DecideLesionsd) -> dict[str, Any]:
    """Return the description of an evaluated model: `network`, `loss`, `fold`, and all other `settings`.

    Args:
        weights: Model file that is evaluated.
        measured: Settings of the evaluation; they replace those of the training.
        decide: Decision rule.
    """
    model = read_model(weights)
    settings = {**model.description.settings(), **measured}
    settings |= {"weights": Path(weights).name, **decide.rule}
    if model.state.get("init"):
        settings["init"] = model.state["init"]
    if "optimizer" in model.state:
        settings["epochs"] = model.state["epoch"]
    loss, fold = settings.pop("loss", "-"), settings.pop("fold", "-")
    return {"network": model.description.network_name, "loss": loss, "fold": fold, "settings": settings}


def score_folder(
    records: Sequence[Record],
    predictions: str | None,
    scorable: Any,
    run_dir: str | None,
    name: str | None,
    measured: Mapping[str, Any],
) -> None:
    """Score the masks of any method.

    Args:
        records: Scans with their lesion masks.
        predictions: Folder of the predicted masks, see `match_predictions`.
        scorable: Transform of `score_predictions`.
        run_dir: Folder for the scores; they are written to its `evaluation/held_out`, where reports read them.
        name: Name of the method that made the masks.
        measured: Settings of the evaluation.
    """
    for option, value in {"predictions": predictions, "run_dir": run_dir, "name": name}.items():
        if value is None:
            raise UserError(f"--{option} is missing; it has no default. Name it on the command line.")
    items = match_predictions(records, str(predictions))
    folder = find_scores_folder(str(run_dir))
    about = {"network": name, "loss": "-", "fold": "-", "settings": dict(measured)}
    with claimed(str(run_dir), "run_dir"):
        score_predictions(items, scorable, folder, about)


def find_scores_folder(run_dir: str) -> Path:
    """Return the folder for the scores of other software's predictions.

    Raises:
        UserError: when `run_dir` is a run of this project, because its scores would be replaced.
    """
    if (Path(run_dir) / "last.pt").exists():
        raise UserError(
            f"{run_dir} is the run of a network, with scores of its own; expected a new folder. Choose another --run_dir."
        )
    return Path(run_dir, "evaluation", "held_out")
