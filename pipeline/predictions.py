"""Predictions on disk: how they are named and written, and which belongs to which scan.

For the scan `a/b/head.nii.gz` of a data set there stand, below the folder of predictions,

    a/b/head_lesion.nii.gz          labels: 0 background, 1 main, 2 sub
    a/b/head_probabilities.nii.gz   on request: probabilities of the three, along the last axis

Other software's predictions are taken too: without `_lesion` in their names, and with fewer folders, as long as the name
belongs to one scan only.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import AsDiscreted, Compose, SaveImaged, Transform

from strokelesion.pipeline.records import Record
from strokelesion.pipeline.scans import IMAGE_SUFFIXES

LABELS, PROBABILITIES = "lesion", "probabilities"
_SUFFIX = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True))
_NAME = re.compile(rf"(?P<scan>.+?)(?:_(?P<kind>{LABELS}|{PROBABILITIES}))?(?:{_SUFFIX})", re.IGNORECASE)
NAMED_AT_MOST = 10


def save_predictions(output_dir: str, data_root_dir: str, probabilities: bool = False) -> Transform:
    """Return the transform that turns `pred`, class probabilities `(3, X, Y, Z)`, into labels and writes both.

    Args:
        output_dir: where files go, in the folders that the scans have below `data_root_dir`.
        data_root_dir: folder of the scans.
        probabilities: write these as well.
    """

    def saver(postfix: str, dtype: str) -> SaveImaged:
        return SaveImaged(
            "pred",
            output_dir=output_dir,
            output_postfix=postfix,
            output_dtype=dtype,
            data_root_dir=data_root_dir,
            separate_folder=False,
            resample=False,
            print_log=False,
        )

    before = [saver(PROBABILITIES, "float32")] if probabilities else []
    return Compose([*before, AsDiscreted("pred", argmax=True), saver(LABELS, "uint8")])


def match_predictions(records: Sequence[Record], folder: str | Path) -> list[dict[str, Any]]:
    """Return the records with `pred`, the file of their predicted labels, and `probabilities` where there are any.

    A prediction belongs to the scan whose path ends as its own below `folder` does.

    Raises:
        ValueError: names scans without a prediction, predictions of no scan or of several, and second ones of a scan.
    """
    items: list[dict[str, Any]] = [dict(record) for record in records]
    scans = scans_by_ending(items)
    strange, rivals = [], []
    for path in predictions_in(Path(folder)):
        name, key = scan_and_kind(path.relative_to(folder))
        candidates = scans.get(name, [])
        if len(candidates) != 1:
            strange.append(path)
        elif (other := candidates[0].setdefault(key, str(path))) != str(path):
            rivals.append(f"{path} beside {other}")
    refuse("predictions that belong to no scan, or to several by their names", strange, "Move them away.")
    refuse("second predictions of a scan", rivals, "Keep one of each.")
    missing = [item["image"] for item in items if "pred" not in item]
    refuse(f"scans without a prediction in {folder}", missing, "Predict them, or score the data set without them.")
    return items


def predictions_in(folder: Path) -> list[Path]:
    """Return all images below a folder, hidden ones left out, sorted."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; expected that of the predictions. Predict first, or check --predictions.")
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name[0] != "." and _NAME.fullmatch(p.name))


def scan_and_kind(path: Path) -> tuple[str, str]:
    """Return what a prediction's path, below its folder, says: the scan's path without suffix, and the key of the item."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is no image; expected one of {', '.join(IMAGE_SUFFIXES)}.")
    is_map = (match["kind"] or "").lower() == PROBABILITIES
    return path.with_name(match["scan"]).as_posix(), "probabilities" if is_map else "pred"


def scans_by_ending(items: Sequence[dict[str, Any]]) -> Mapping[str, list[dict[str, Any]]]:
    """Return the items by each ending of their scan's path, without suffix: "b/head", "a/b/head" and so on."""
    endings: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        parts = Path(re.sub(rf"(?:{_SUFFIX})$", "", item["image"], flags=re.IGNORECASE)).parts
        for start in range(len(parts)):
            endings["/".join(parts[start:])].append(item)
    return endings


def refuse(what: str, files: Sequence[str | Path], advice: str) -> None:
    """Raise ValueError if there are such files, naming the first of them."""
    if files:
        more = f" and {len(files) - NAMED_AT_MOST} more" if len(files) > NAMED_AT_MOST else ""
        raise ValueError(f"{len(files)} {what}: {', '.join(map(str, files[:NAMED_AT_MOST]))}{more}. {advice}")
