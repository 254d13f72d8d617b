"""What adapting the pretrained model to a few scans of a new site gives there, and what it costs on other scans.

    python tests/benchmarks/compose_new_site.py HEADS MASKS FOLDER
    python tests/benchmarks/adapt_new_site.py FOLDER [--picture docs/adapting.png]

For each number of scans and each seed, scans are drawn from FOLDER/pool (a larger draw of the same seed holds the smaller one),
and `strokelesion train --bundle adapt` adapts the pretrained model to them. Each model then segments FOLDER/test, and those of
10 scans FOLDER/general, as prepared for the network at 1 mm, with the model's own decision rule. Main and sub-lesion count
together. Intervals are 95 % bootstrap intervals over scans; those of the change resample the differences of the same scans.

FOLDER/adapted.csv has a row for each model and scan. What is there is kept, so the command goes on where it was stopped.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from candidates.bundle import configured
from compose_new_site import SCANS
from matplotlib.figure import Figure
from monai.data import MetaTensor

from strokelesion.pipeline.evaluation.comparison import bootstrap_interval
from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.model_files import read_model
from strokelesion.pipeline.options.model_options import model_file
from strokelesion.pipeline.options.workflow import bundle_root
from strokelesion.pipeline.training.slice_store import ScanDataset
from strokelesion.transforms import DecideLesionsd

SIZES, SEEDS = (3, 5, 10, 20), (0, 1, 2)
# Models of this size are also measured on other scans.
GENERAL_SIZE = 10


def draw_scans(folder: Path, size: int, seed: int) -> Path:
    """Return a data set of scans that are drawn from the pool."""
    drawn = folder / f"draws/{size}_{seed}"
    scans = sorted((folder / "pool").glob("ATLAS_R1.1/Site*/*"))
    for number in np.random.default_rng(seed).permutation(SCANS["pool"])[:size]:
        shutil.copytree(scans[number], drawn / scans[number].relative_to(folder / "pool"), dirs_exist_ok=True)
    return drawn


def adapt(folder: Path, size: int, seed: int) -> Path:
    """Return the model that is adapted to a draw; it is made if it is missing."""
    run_dir = folder / f"runs/{size}_{seed}"
    model = run_dir / "resunet.safetensors"
    if not model.exists():
        program = "from strokelesion.pipeline.console.command_line import main; main()"
        command = [sys.executable, "-c", program, "train", "--bundle", "adapt"]
        options = {
            "dataset_dir": draw_scans(folder, size, seed),
            "run_dir": run_dir,
            "seed": seed,
            "cache_dir": folder / "slices",
        }
        subprocess.run([*command, *(f"--{name}={value}" for name, value in options.items())], check=True)
    return model


def predict(cohort: Path, weights: str | Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, DecideLesionsd]]:
    """Yield subject, probabilities `(3, X, Y, Z)`, true mask `(X, Y, Z)` and decision rule of each scan, prepared at 1 mm."""
    options = {"dataset_dir": str(cohort), "cache_dir": str(cohort.parent / "slices"), "init": "pretrained"}
    config = configured("resunet", "training", **options, run_dir=str(cohort.parent / "unused"))
    records, inferer, network, preprocessing = map(
        config.get_parsed_content, ("cohort", "inferer", "network", "validate::preprocessing")
    )
    model = read_model(weights)
    load_weights(network, model, weights).eval()
    decide = DecideLesionsd("pred", **model.description.decision.model_dump())
    for record, sample in zip(records, ScanDataset(records, preprocessing, options["cache_dir"]), strict=True):
        with torch.inference_mode():
            probabilities = inferer(sample["image"][None], network)[0].softmax(0)
        yield record["subject"], probabilities, sample["label"][0] > 0, decide


def measure_dice(cohort: Path, weights: str | Path) -> list[dict[str, Any]]:
    """Return volumes and Dice of each scan of a cohort."""
    rows = []
    for subject, probabilities, truth, decide in predict(cohort, weights):
        mask = decide.decide(MetaTensor(probabilities, affine=torch.eye(4)))[0].as_subclass(torch.Tensor) > 0
        dice = 2 * float((mask & truth).sum()) / max(1.0, float(mask.sum() + truth.sum()))
        rows.append({"cohort": cohort.name, "subject": subject, "truth_ml": float(truth.sum()) / 1000, "dice": dice})
    return rows


def measure_all(folder: Path) -> pd.DataFrame:
    """Return Dice by `size`, `seed`, `cohort` and `subject`; size 0 is the pretrained model."""
    path = folder / "adapted.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["size", "seed", "cohort"])
    wanted = [(0, 0), *((size, seed) for seed in SEEDS for size in SIZES)]
    for size, seed in wanted:
        for cohort in ("test", "general") if size in (0, GENERAL_SIZE) else ("test",):
            if not table.query("size == @size and seed == @seed and cohort == @cohort").empty:
                continue
            weights = adapt(folder, size, seed) if size else model_file("pretrained", bundle_root())
            rows = pd.DataFrame(measure_dice(folder / cohort, str(weights))).assign(size=size, seed=seed)
            table = pd.concat([table, rows], ignore_index=True)
            table.to_csv(path, index=False)
    return table


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean Dice and its change from the pretrained model by cohort and number of scans, with intervals."""
    before = table[table["size"] == 0].set_index(["cohort", "subject"])["dice"]
    rows = []
    for (cohort, size), found in table.groupby(["cohort", "size"], sort=True):
        change = found["dice"] - before.loc[pd.MultiIndex.from_frame(found[["cohort", "subject"]])].to_numpy()
        values = zip(("dice", "low", "high"), bootstrap_interval(found["dice"], found["subject"]), strict=True)
        changes = zip(("change", "change_low", "change_high"), bootstrap_interval(change, found["subject"]), strict=True)
        by_seed = [round(float(mean), 3) for mean in found.groupby("seed")["dice"].mean()]
        rows.append({"cohort": cohort, "scans": size, **dict(values), **dict(changes), "seeds": by_seed})
    return pd.DataFrame(rows)


def draw(summary: pd.DataFrame, path: Path) -> None:
    """Draw mean Dice and its change by the number of scans, with intervals; points are seeds."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, value, title in zip(
        figure.subplots(1, 2), ("dice", "change"), ("Dice, 15 scans of the new site", "change of Dice"), strict=True
    ):
        for cohort, color, shift in (("test", "#0072b2", 0.0), ("general", "#d55e00", 0.4)):
            rows = summary[summary["cohort"] == cohort]
            low, high = ("low", "high") if value == "dice" else ("change_low", "change_high")
            if cohort == "general" and value == "dice":
                continue
            spread = [rows[value] - rows[low], rows[high] - rows[value]]
            label = {"test": "new site", "general": "scans as in training"}[cohort]
            axes.errorbar(rows["scans"] + shift, rows[value], spread, color=color, marker="o", capsize=3, label=label)
            if value == "dice":
                for _, row in rows.iterrows():
                    axes.plot([row["scans"]] * len(row["seeds"]), row["seeds"], "k.", markersize=4, zorder=3)
        axes.set(xlabel="scans to adapt to", title=title, xticks=[0, *SIZES])
        axes.grid(alpha=0.3)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Adapt, measure and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    summary = summarize(measure_all(arguments.folder))
    print(summary.round(3).to_string(index=False))
    if arguments.picture:
        draw(summary, arguments.picture)


if __name__ == "__main__":
    main()
