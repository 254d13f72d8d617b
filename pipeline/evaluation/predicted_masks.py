"""Match predicted masks to the scans of a data set.

Three kinds of folders are accepted:

- results of `inference` and `evaluating`: the sidecar of each mask holds the SHA-256 of its scan, so scans may have moved; main
  and sub-lesions come from the `dseg` file beside the mask;
- BIDS derivatives of other software: `sub-01[_ses-1]_..._mask.nii.gz`, one for each subject and session;
- masks named like the scans, in the same subfolders as in the data set or fewer, with or without `_lesion` at the end.

Probabilities lie beside the masks: `*_probseg.nii.gz`, or `*_probabilities.nii.gz` with three classes along the last axis.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.records import Record
from strokelesion.pipeline.derivatives.provenance import read_sidecar, sha256_of_scan
from strokelesion.pipeline.derivatives.result_names import CLASSES_MAP, MASK, PROBABILITIES, beside, parse_entities
from strokelesion.pipeline.finding.suffixes import IMAGE_SUFFIXES, stem_of
from strokelesion.pipeline.runtime.errors import format_issue, refuse

_SUFFIX = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True))
_NAME = re.compile(rf"(?P<scan>.+?)(?:_(?P<kind>lesion|probabilities))?(?:{_SUFFIX})", re.IGNORECASE)
_BIDS = re.compile(rf"(?P<scan>sub-[^_]+(?:_ses-[^_]+)?)_.*(?P<kind>mask|dseg|probseg)(?:{_SUFFIX})")
# Part of the names of brain masks, which lie beside lesion masks.
BRAIN = "desc-brain_mask"
_KEYS = {"probabilities": "probabilities", "probseg": "probabilities"}


def match_predictions(
    records: Sequence[Record], folder: str | Path, settings: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return the records with `pred`, the file of the predicted labels, and `probabilities` if there are any.

    Args:
        records: Scans with their lesion masks.
        folder: Folder of the predictions.
        settings: Settings of the masks that count, of those that this project wrote; None takes any.

    Raises:
        UserError: when a scan has no prediction or several, or a prediction fits no scan or several; lists them.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is not a folder; expected that of the predictions. Predict first, or check --predictions.")
    items: list[dict[str, Any]] = [dict(record) for record in records]
    ours = find_own_predictions(Path(folder), settings)
    issues = match_scans(items, ours) if ours else match_names(items, Path(folder))
    missing = [item["image"] for item in items if "pred" not in item]
    advice = "Predict them, or score the data set without them."
    refuse([*issues, format_issue(f"scans without a prediction in {folder}", missing, advice)])
    return items


def find_own_predictions(folder: Path, settings: Mapping[str, Any] | None) -> dict[str, list[Path]]:
    """Return the predictions that this project wrote below a folder, with these settings, by the SHA-256 of their scans.

    A prediction is the map of the lesion classes or, if only the mask is there, the mask.
    """
    # Scans may have an entity that BIDS puts after the label: sub-01_label-lesion_desc-brain_mask.json.
    sidecars = sorted(path for path in folder.rglob("*_label-lesion*_mask.json") if path.name[0] != ".")
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sidecars:
        content, mask = read_sidecar(path), path.with_suffix(".nii.gz")
        if settings in (None, content.get("Settings")) and "InputSHA256" in content and mask.is_file():
            found[content["InputSHA256"]].append(beside(mask, CLASSES_MAP) or mask)
    return found


def match_scans(items: Sequence[dict[str, Any]], masks: Mapping[str, Sequence[Path]]) -> list[str]:
    """Add to each scan the mask that was predicted from it; ignore masks of other scans, and report scans with several."""
    rivals = []
    for item in items:
        mask, *others = masks.get(sha256_of_scan(item), [None])
        rivals += [f"{other} beside {mask}" for other in others]
        if mask is not None:
            item["pred"] = str(mask)
            if (probabilities := beside(mask, PROBABILITIES)) is not None:
                item["probabilities"] = str(probabilities)
    return [format_issue("second predictions of a scan", rivals, "Keep one of each.")]


def match_names(items: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """Add to each scan the predictions that have its name, and return messages about the other predictions."""
    scans = index_by_ending(items)
    strange, rivals = [], []
    for path, name, key in list_predictions(folder):
        candidates = scans.get(name, [])
        if len(candidates) != 1:
            strange.append(path)
        elif (other := candidates[0].setdefault(key, path)) != path:
            rivals.append(f"{path} beside {other}")
    return [
        format_issue("predictions that belong to no scan, or to several by their names", strange, "Move them away."),
        format_issue("second predictions of a scan", rivals, "Keep one of each."),
    ]


def list_predictions(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield all images in a folder and its subfolders, sorted, without hidden files.

    Yields:
        The path, the scan's name according to the path (with subfolders unless BIDS), and the key of the item to set.
    """
    for path in sorted(folder.rglob("[!.]*")):
        if path == beside(path, MASK) and beside(path, CLASSES_MAP):
            continue  # the same lesions without their classes
        if path.is_file() and BRAIN not in path.name and (match := _BIDS.fullmatch(path.name) or _NAME.fullmatch(path.name)):
            name = match["scan"] if match.re is _BIDS else path.relative_to(folder).with_name(match["scan"]).as_posix()
            yield str(path), name, _KEYS.get((match["kind"] or "").lower(), "pred")


def index_by_ending(items: Sequence[dict[str, Any]]) -> Mapping[str, list[dict[str, Any]]]:
    """Return the items by each ending of their path without suffix ("b/scan", "a/b/scan"), and by subject and session."""
    endings: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        path = Path(item["image"])
        parts = path.with_name(stem_of(path.name)).parts
        for start in range(len(parts)):
            endings["/".join(parts[start:])].append(item)
        if entities := parse_entities(parts[-1]):
            endings["_".join(f"{key}-{value}" for key, value in entities if key in ("sub", "ses"))].append(item)
    return endings
