"""Frames of an invented study, as the report takes them: three networks, three losses, three folds, 60 scans of 52 persons."""

import io
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from strokelesion.pipeline.evaluation.comparison import compare, count_false_alarms, summarize, tabulate_runs
from strokelesion.pipeline.report.page import Report

NETWORKS = {"resunet": 0.12, "unet": 0.04, "segnet": -0.08}
LOSSES = {"cce_dice": 0.04, "dice": 0.0, "cce": -0.06}
SITES = ("R001", "R004", "R009", "R011", "R027", "R052")
SCANS, PERSONS, FOLDS, EPOCHS = 60, 52, 3, 20


def report(**changes) -> Report:
    """The invented study's report; `changes` replace fields."""
    return replace(study(), **changes)


@cache
def study() -> Report:
    """Made once: its frames are shared, so change copies only."""
    scores = make_scores()
    return Report(
        scores=scores,
        lesions=make_lesions(),
        history=make_history(),
        table=compare(scores),
        runs=tabulate_runs(scores),
        summary=summarize(scores),
        false_alarms=count_false_alarms(scores),
        worst=[(f"R004 sub-{number:03d} ses-1: Dice 0.00{number}, truth 0.1 ml", picture(number)) for number in range(3)],
        settings={
            "data set": "invented, 60 scans",
            "voxel size": "1 mm",
            "split": "5-fold, by person",
            "epochs": "20",
        },
        notes=["segnet cce holds 40 of the 60 scans."],
        is_phantom=False,
        shown=("resunet", "cce_dice"),
    )


def of(frame, network="resunet", loss="cce_dice"):
    """The rows of one experiment."""
    return frame[(frame["network"] == network) & (frame["loss"] == loss)]


def experiments():
    return [(network, loss, NETWORKS[network] + LOSSES[loss]) for network in NETWORKS for loss in LOSSES]


def cohort() -> pd.DataFrame:
    """Who was scanned where, the first eight persons twice, with the volumes of their lesions; a third has a sub-lesion."""
    random = np.random.default_rng(1)
    persons = [*range(PERSONS), *range(SCANS - PERSONS)]
    people = pd.DataFrame({"person": [f"p{number:03d}" for number in persons]})
    people["fold"] = [number % FOLDS for number in persons]
    people["seed"] = "0"
    people["release"], people["site"] = "R2.0", [SITES[min(number % 9, 5)] for number in persons]
    people["subject"] = people["person"].str.replace("p", "sub-")
    people["session"] = ["ses-1"] * PERSONS + ["ses-2"] * (SCANS - PERSONS)
    people["main_ml"] = np.exp(random.normal(1.8, 1.9, SCANS)).clip(0.08, 300)
    people["sub_ml"] = np.where(np.arange(SCANS) % 3 == 0, np.exp(random.normal(-1, 1, SCANS)), 0.0)
    return people


def make_scores() -> pd.DataFrame:
    rows = []
    for seed, (network, loss, skill) in enumerate(experiments()):
        random = np.random.default_rng(seed)
        for scan in cohort().to_dict("records"):
            identity = {key: value for key, value in scan.items() if not key.endswith("_ml")}
            for lesion, truth_ml in (
                ("main", scan["main_ml"]),
                ("sub", scan["sub_ml"]),
                ("both", scan["main_ml"] + scan["sub_ml"]),
            ):
                ease = 0.32 + skill + 0.09 * np.log(truth_ml) if truth_ml else np.nan
                dice = np.clip(random.normal(ease * (0.3 if lesion == "sub" else 1), 0.14), 0, 0.95)
                pred_ml = truth_ml * np.exp(random.normal(-0.1, 0.4)) if truth_ml else max(0.0, random.normal(-0.2, 0.3))
                experiment = {"network": network, "loss": loss}
                rows.append(experiment | identity | {"lesion": lesion} | scores_of(truth_ml, pred_ml, dice))
    return pd.DataFrame(rows)


def scores_of(truth_ml, pred_ml, dice):
    """All measures of a scan, in the order of the report's scores."""
    off_ml, either = pred_ml - truth_ml, 1.0 if truth_ml == pred_ml == 0 else np.nan_to_num(dice)
    missed = np.nan if dice == 0 else 1 - dice
    return {
        "truth_ml": truth_ml,
        "pred_ml": pred_ml,
        "dice": dice,
        "precision": min(1.0, dice * 1.1),
        "recall": dice * 0.9,
        "hd95_mm": 40 * missed,
        "asd_mm": 8 * missed,
        "volume_difference_ml": off_ml,
        "keras_dice": np.nan_to_num(dice) * 0.8,
        "keras_dice_limit": 0.9 if truth_ml else 0.0,
        "atlas22_dice": either,
        "atlas22_lesion_f1": either * 0.8,
        "atlas22_volume_difference_voxels": abs(off_ml) * 1000,
        "atlas22_lesion_count_difference": round(8 * (1 - either)),
        "isles26_dice": either,
        "isles26_lesion_f1": either * 0.7,
        "isles26_absolute_volume_difference_ml": abs(off_ml),
        "isles26_lesion_count_difference": round(6 * (1 - either)),
        "isles26_pr_auc": np.nan,
    }


def make_lesions() -> pd.DataFrame:
    random = np.random.default_rng(2)
    rows = []
    for network, loss, skill in experiments():
        for scan in cohort().to_dict("records"):
            identity = {key: value for key, value in scan.items() if not key.endswith("_ml")}
            for volume_ml in (scan["main_ml"], *np.exp(random.normal(-1.5, 1.2, random.integers(0, 3)))):
                found = random.random() < 0.5 + skill + 0.1 * np.log(volume_ml)
                matched = bool(found and random.random() < 0.75)
                row = {"network": network, "loss": loss} | identity
                rows.append(row | {"volume_ml": volume_ml, "is_touched": bool(found), "is_matched": matched})
    return pd.DataFrame(rows)


def make_history() -> pd.DataFrame:
    random = np.random.default_rng(3)
    rows = []
    for network, loss, skill in experiments():
        for fold in range(FOLDS):
            for epoch in range(1, EPOCHS + 1):
                rise = 1 - np.exp(-epoch / 6)
                dice = (0.5 + skill) * rise + random.normal(0, 0.02) if epoch % 2 == 0 else np.nan
                losses = 1.2 - (0.8 + skill) * rise + random.normal(0, 0.02)
                rows.append((network, loss, fold, "0", epoch, losses, dice, dice * 0.2, dice))
    columns = ["network", "loss", "fold", "seed", "epoch", "training_loss", "dice_main", "dice_sub", "dice_both"]
    return pd.DataFrame(rows, columns=columns)


def picture(number: int) -> bytes:
    """A PNG in the shape of the worst scans' ones: three gray panels side by side."""
    figure = Figure(figsize=(6, 2), layout="constrained")
    for axes, title in zip(figure.subplots(1, 3), ("left | T1", "truth", "prediction"), strict=True):
        axes.imshow(np.random.default_rng(number).random((30, 24)), cmap="gray")
        axes.set(title=title, xticks=[], yticks=[])
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=80)
    return stream.getvalue()
