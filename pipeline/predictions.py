"""Predictions on disk: how they are named and written, and which belongs to which scan.

For the scan `a/b/head.nii.gz` of a data set there stand, below the folder of predictions,

    a/b/head_lesion.nii.gz          labels: 0 background, 1 main, 2 sub
    a/b/head_probabilities.nii.gz   on request: probabilities of the three, along the last axis

Other software's predictions are taken too: without `_lesion` in their names, and with fewer folders, as long as the name
belongs to one scan only.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Compose, SaveImaged, Transform

from strokelesion.pipeline.errors import finding, refuse
from strokelesion.pipeline.operating_point import OperatingPoint
from strokelesion.pipeline.records import Record
from strokelesion.pipeline.scans import IMAGE_SUFFIXES
from strokelesion.transforms import DecideLesionsd

LABELS, PROBABILITIES = "lesion", "probabilities"
_SUFFIX = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True))
_NAME = re.compile(rf"(?P<scan>.+?)(?:_(?P<kind>{LABELS}|{PROBABILITIES}))?(?:{_SUFFIX})", re.IGNORECASE)


def save_predictions(
    output_dir: str, data_root_dir: str, operating_point: OperatingPoint, probabilities: bool = False
) -> Transform:
    """Return the transform that turns `pred`, class probabilities `(3, X, Y, Z)`, into labels and writes both.

    Args:
        output_dir: where files go, in the folders that the scans have below `data_root_dir`.
        data_root_dir: folder of the scans.
        operating_point: how labels are decided.
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
    return Compose([*before, DecideLesionsd("pred", **vars(operating_point)), saver(LABELS, "uint8")])


def match_predictions(records: Sequence[Record], folder: str | Path) -> list[dict[str, Any]]:
    """Return the records with `pred`, the file of their predicted labels, and `probabilities` where there are any.

    A prediction belongs to the scan whose path ends as its own below `folder` does.

    Raises:
        ValueError: names scans without a prediction, predictions of no scan or of several, and second ones of a scan.
    """
    items: list[dict[str, Any]] = [dict(record) for record in records]
    scans = scans_by_ending(items)
    strange, rivals = [], []
    for path, name, key in predictions_in(Path(folder)):
        candidates = scans.get(name, [])
        if len(candidates) != 1:
            strange.append(path)
        elif (other := candidates[0].setdefault(key, path)) != path:
            rivals.append(f"{path} beside {other}")
    missing = [item["image"] for item in items if "pred" not in item]
    refuse(
        [
            finding("predictions that belong to no scan, or to several by their names", strange, "Move them away."),
            finding("second predictions of a scan", rivals, "Keep one of each."),
            finding(f"scans without a prediction in {folder}", missing, "Predict them, or score the data set without them."),
        ]
    )
    return items


def predictions_in(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield all images below a folder, sorted, hidden ones left out.

    Yields:
        The path; what it says below the folder: the path of the scan without suffix; and the key of the item it is for.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; expected that of the predictions. Predict first, or check --predictions.")
    for path in sorted(folder.rglob("[!.]*")):
        if path.is_file() and (match := _NAME.fullmatch(path.name)):
            scan = path.relative_to(folder).with_name(match["scan"]).as_posix()
            yield str(path), scan, "probabilities" if (match["kind"] or "").lower() == PROBABILITIES else "pred"


def scans_by_ending(items: Sequence[dict[str, Any]]) -> Mapping[str, list[dict[str, Any]]]:
    """Return the items by each ending of their scan's path, without suffix: "b/head", "a/b/head" and so on."""
    endings: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        parts = Path(re.sub(rf"(?:{_SUFFIX})$", "", item["image"], flags=re.IGNORECASE)).parts
        for start in range(len(parts)):
            endings["/".join(parts[start:])].append(item)
    return endings
