"""The command `release`: choose the decision rule of a trained model and write the model for release."""

from pathlib import Path
from typing import Any

from monai.engines import Evaluator
from torch import nn

from strokelesion.pipeline.evaluation.decision_search import DecisionSearch, find_best_decision
from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.description import Decision, Description
from strokelesion.pipeline.models.model_files import RELEASED, Model, read_model, write_released
from strokelesion.pipeline.runtime.files import write_table

TRIED = "decisions.csv"


def release(evaluator: Evaluator, network: nn.Module, weights: str | Path, folder: str | Path) -> None:
    """Write a model with the best decision rule on its held-out scans, and the table of all searched rules.

    Args:
        evaluator: Engine that predicts the held-out scans with `network`.
        network: Network of the model's definition.
        weights: Model file from the training.
        folder: Folder for `<network>.safetensors` and `decisions.csv`.
    """
    folder, model = Path(folder), read_model(weights)
    search = DecisionSearch(model.description.protocol.spacing_mm)
    load_weights(network, model, weights)
    search.attach(evaluator)
    evaluator.run()
    table = search.average_scores()
    write_table(folder / TRIED, table)
    path = folder / f"{model.description.network_name.lower()}{RELEASED}"
    decision = find_best_decision(table)
    write_released(path, describe_released(model, decision), model.weights)
    chosen = table.set_index(list(vars(decision))).loc[tuple(vars(decision).values())]
    print(
        f"{path}: threshold {decision.threshold:g}, components of at least {decision.min_component_ml:g} ml and a peak of "
        f"{decision.min_peak:g}, mean Dice {chosen['dice']:.3f}, lesion F1 {chosen['lesion_f1']:.3f} over "
        f"{len(search.scores)} held-out scans; all rules that were tried are in {folder / TRIED}."
    )


def describe_released(model: Model, decision: Decision) -> Description:
    """Return the description of a released model, without data paths and held-out subjects, which are of no use to others."""
    description = model.description
    summary: dict[str, Any] = {
        name: value for name, value in description.settings().items() if name not in vars(description.protocol)
    }
    for name in ("dataset_dir", "split"):
        if summary.get(name) is not None:
            summary[name] = Path(str(summary[name])).name
    summary |= {"epoch": model.state["epoch"], "init": model.state.get("init")}
    return description.model_copy(update={"decision": decision, "held_out": None, "training": summary})
