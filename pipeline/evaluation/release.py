"""Write a trained model for others: `release`, which chooses its decision rule, and the end of an adaptation."""

from pathlib import Path
from typing import Any

from monai.engines import Evaluator
from torch import nn

from strokelesion.pipeline.evaluation.decision_search import DecisionSearch, find_best_decision
from strokelesion.pipeline.models.application import add_neighbors, load_weights
from strokelesion.pipeline.models.description import Decision, Description
from strokelesion.pipeline.models.model_files import RELEASED, Model, read_model, write_released
from strokelesion.pipeline.models.starting import LAST
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


def release_adapted(run_dir: str | Path, init: str | Path, share: float) -> None:
    """Write the model of a run that adapted another one to the folder of the run.

        weights = share * weights of the initial model + (1 - share) * weights of last.pt

    Such a mean keeps most of what the initial model knew about other scans. It also keeps the initial decision rule: a rule
    that is chosen on a few scans costs more on other scans.
    Source: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022 (WiSE-FT).

    Args:
        run_dir: Folder of the run.
        init: File of the initial model.
        share: Share of the initial model, from 0 to 1.
    """
    start, model = read_model(init), read_model(Path(run_dir, LAST))
    known = add_neighbors(start.weights, model.weights)
    mixed = {name: (share * known[name] + (1 - share) * tensor).to(tensor.dtype) for name, tensor in model.weights.items()}
    path = Path(run_dir) / f"{model.description.network_name.lower()}{RELEASED}"
    write_released(path, describe_released(model, start.description.decision), mixed)
    print(f"{path}: the adapted model; segment scans with --weights {path}")


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
