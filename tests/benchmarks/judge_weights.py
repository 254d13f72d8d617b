"""The tables of the model card: Dice under each condition, Dice by lesion size, volume found where no lesion is.

    python tests/benchmarks/judge_weights.py qc/runs [--reference plain] [--cohort mixed] [--lesion_free qc/masks]

Every folder of `qc/runs` is a run that `evaluating --scored all` has scored on one synthetic cohort, named by its condition;
docs/model_card.md has the commands. `--lesion_free` is a folder of results that `inference` wrote for scans of healthy heads.
Main and sub-lesion count together; intervals are 95 % bootstrap intervals over scans.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import pandas as pd

from strokelesion.pipeline.evaluation.comparison import bootstrap_interval, select_with_truth
from strokelesion.pipeline.lesions.lesion_sizes import SIZE_EDGES_ML, SIZE_NAMES

F1 = {"lesion F1, touched": "atlas22_lesion_f1", "lesion F1, IoU ≥ .25": "isles26_lesion_f1"}


def read_runs(folder: Path, name: str) -> dict[str, pd.DataFrame]:
    """Return a table of each run below a folder, by the run's name."""
    found = sorted(folder.glob(f"*/evaluation/all/{name}"))
    if not found:
        raise SystemExit(
            f"found no {name} in {folder}/*/evaluation/all; expected runs that `evaluating --scored all` has scored."
        )
    return {path.relative_to(folder).parts[0]: pd.read_csv(path) for path in found}


def mean_of(values: pd.Series, persons: pd.Series) -> str:
    """Return a mean with its interval as text."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*bootstrap_interval(values, persons))


def conditions(runs: dict[str, pd.DataFrame], reference: str) -> pd.DataFrame:
    """Return how well lesions are found under each condition, and what that costs against the reference."""
    known = {name: select_with_truth(scores, "both").set_index("subject") for name, scores in runs.items()}
    rows = {}
    for name, found in known.items():
        here, there = found["dice"].align(known[reference]["dice"], join="inner")
        rows[name] = {
            "scans": str(len(found)),
            "Dice, mean": mean_of(found["dice"], found["person"]),
            "median": f"{found['dice'].median():.3f}",
            f"change from {reference}": "-" if name == reference else f"{(here - there).mean():+.3f}",
            **{title: f"{found[column].mean():.3f}" for title, column in F1.items()},
        }
    return pd.DataFrame(rows).T


def sizes(scores: pd.DataFrame, lesions: pd.DataFrame) -> pd.DataFrame:
    """Return how well scans are segmented by their total lesion volume, and how many lesions are found by their own."""
    known = select_with_truth(scores, "both")
    rows = {}
    for size, (low, high) in zip(SIZE_NAMES, pairwise(SIZE_EDGES_ML), strict=True):
        scans = known[known["truth_ml"].between(low, high, inclusive="left")]
        single = lesions[lesions["volume_ml"].between(low, high, inclusive="left")]
        rows[f"{size} ml"] = {
            "scans": str(len(scans)),
            "Dice, mean": mean_of(scans["dice"], scans["person"]) if len(scans) else "-",
            "scans found": share_of(scans["dice"] > 0),
            "lesions": str(len(single)),
            "touched": share_of(single["is_touched"]),
            "matched": share_of(single["is_matched"]),
        }
    return pd.DataFrame(rows).T


def share_of(are: pd.Series) -> str:
    """Return a share in percent as text."""
    return f"{are.mean():.0%}" if len(are) else "-"


def false_volumes(runs: dict[str, pd.DataFrame], masks: Path | None) -> pd.DataFrame:
    """Return the volume found in scans without lesion, by condition."""
    found = {name: scores.query("lesion == 'both' and truth_ml == 0")["pred_ml"] for name, scores in runs.items()}
    if masks is not None:
        found[str(masks)] = pd.read_csv(masks / "volumes.tsv", sep="\t")["total_ml"]
    texts = ("{:.0f}".format, "{:.2f}".format, "{:.2f}".format)
    rows = {name: (len(ml), ml.median(), ml.max()) for name, ml in found.items() if len(ml)}
    columns = ("scans", "median ml", "largest ml")
    return pd.DataFrame({name: [text(x) for text, x in zip(texts, row, strict=True)] for name, row in rows.items()}, columns).T


def markdown(table: pd.DataFrame, title: str) -> str:
    """Return a table as Markdown."""
    lines = [(title, *table.columns), ["---"] * (1 + len(table.columns)), *table.itertuples()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--reference", default="plain")
    parser.add_argument("--cohort", default="mixed")
    parser.add_argument("--lesion_free", type=Path)
    arguments = parser.parse_args()
    scores, lesions = (read_runs(arguments.runs, name) for name in ("scores.csv", "lesions.csv"))
    for name in (arguments.reference, arguments.cohort):
        if name not in scores:
            raise SystemExit(f"got no run {name}; there are {', '.join(scores)}. Choose with --reference and --cohort.")
    with_lesions = {name: table for name, table in scores.items() if (table["truth_ml"] > 0).any()}
    print(markdown(conditions(with_lesions, arguments.reference), "condition"))
    print(markdown(sizes(scores[arguments.cohort], lesions[arguments.cohort]), arguments.cohort))
    print(markdown(false_volumes(scores, arguments.lesion_free), "no lesion"))


if __name__ == "__main__":
    main()
