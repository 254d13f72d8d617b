"""The last step of a run that is to be used elsewhere: choose its operating point and write its weights to ship."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from strokelesion.pipeline.checkpoints import read_state
from strokelesion.pipeline.files import write_table
from strokelesion.pipeline.operating_point import OperatingPointSearch, best_point
from strokelesion.pipeline.weights import SUFFIX, write_weights

TRIED = "operating_points.csv"


def ship(
    search: OperatingPointSearch,
    network: torch.nn.Module,
    checkpoint: str | Path,
    protocol: Mapping[str, Any],
    run_dir: str | Path,
    weights_dir: str | Path,
    shipped: str | None,
) -> None:
    """Write the weights with the best operating point that was tried, and the table of all.

    Args:
        search: what was tried, done.
        network: with the weights of the checkpoint.
        checkpoint: what the run wrote.
        protocol: the settings that those who use the weights must repeat.
        run_dir: where the table goes, `operating_points.csv`.
        weights_dir: where the weights go.
        shipped: the file of the weights that ship for the network, whose name they get; without, it is the network's.
    """
    path = Path(weights_dir) / Path(shipped or f"{type(network).__name__.lower()}{SUFFIX}").name
    table = search.table()
    write_table(Path(run_dir) / TRIED, table)
    point = best_point(table)
    write_weights(network, path, describe_run(read_state(Path(checkpoint)), protocol) | vars(point))
    chosen = table.set_index(list(vars(point))).loc[tuple(vars(point).values())]
    print(
        f"{path}: threshold {point.threshold:g}, lesions of at least {point.min_component_ml:g} ml and a peak of "
        f"{point.min_peak:g}, mean Dice {chosen['dice']:.3f}, lesion F1 {chosen['lesion_f1']:.3f} over "
        f"{len(search.scores)} held-out scans; all that was tried is in {Path(run_dir) / TRIED}."
    )


def describe_run(state: Mapping[str, Any], protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the description of weights says of a checkpoint: `protocol`, and as `training` its other settings."""
    settings = {knob: value for knob, value in state["protocol"].items() if knob not in protocol}
    if "dataset_dir" in settings:
        # Where it lay is of no use to others.
        settings["dataset_dir"] = Path(settings["dataset_dir"]).name
    return {"protocol": dict(protocol), "training": settings | {"epoch": state["epoch"], "init": state.get("init")}}
