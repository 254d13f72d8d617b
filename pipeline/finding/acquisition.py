"""Judge by names and metadata whether an image can be a T1: another contrast must not read like a healthy brain.

The metadata are the sidecar that dcm2niix makes of a DICOM series or leaves beside a NIfTI file. An *objection* is certain: the
image is no T1-weighted scan. A *doubt* is not: the image is segmented, with a warning.
"""

import json
import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

# T1-weighted sequences have echo times of 2 to 20 ms; functional images have 30 ms, T2, FLAIR and diffusion 60 ms and more.
LONGEST_ECHO_MS = 30.0
# Gradient echoes this late show T2*, as in susceptibility-weighted images; T1-weighted ones have 2 to 10 ms.
LATE_GRADIENT_ECHO_MS = 15.0
# FLAIR nulls fluid at 1.6 to 2.8 s; inversion times of T1-weighted sequences are 0.4 to 1.2 s.
LATE_INVERSION_MS = 1500.0
# T1-weighted spin echoes without inversion repeat after 0.3 to 0.9 s; later, they show proton density.
LATE_SPIN_ECHO_MS = 1500.0
# Echo times in seconds are below this; larger ones were written in milliseconds.
SECONDS_BELOW = 0.5

# Suffixes of BIDS for images that are no T1w. UNIT1 (MP2RAGE) is T1-weighted.
_BIDS_OTHER = re.compile(
    r"_(T2w|T2starw|FLAIR|PDw|PDT2|PDT2w|inplaneT2|FLASH|MP2RAGE|MPM|MTR|MTS|MTw|MTRmap|MTsat|(T1|T2|T2star|R1|R2|R2star|PD|TB1|"
    r"RB1|S0|M0|Chi)map|MESE|MEGRE|VFA|IRT1|angio|veno|swi|SWI|GRE|bold|cbv|sbref|dwi|ADC|asl|m0scan|aslcontext|epi|"
    r"phase(diff|[12])?|magnitude[12]?|fieldmap|ct|CT|pet|xray|defacemask|localizer|scout)"
)
# Words of series descriptions and file names, in lower case, with spaces between the words.
_PLANE = r"(?:\b|ax|sag|cor|tra)"
_T1 = re.compile(rf"{_PLANE}t1|mp2?rage|spgr|bravo|mdeft|\btfl|\btfe|vibe")
_OTHERS = {
    "FLAIR": re.compile(r"flair|\btirm|\bstir\b|dark ?fluid"),
    "T2": re.compile(rf"{_PLANE}t2(?!prep)|\bhaste|\bciss|\bfiesta"),
    "a scout": re.compile(r"scout|locali[sz]er|\bsurvey\b|\bplan scan"),
    "EPI": re.compile(r"\bepi\b|\bep2d|\bep3d|\bbold|\br?s?fmri|\bdwi|\bdti|\bdiff|\badc\b|\btracew?\b|\bsbref"),
    "a field map": re.compile(r"field ?map|fmap|\bb[01] ?map"),
    "angiography": re.compile(r"\btof|angio|\bmra\b|\bmip\b"),
    "susceptibility": re.compile(r"\bswi\b|\bqsm\b"),
    "perfusion": re.compile(r"\bp?c?asl\b|perfusion|\bcbf\b|\bcbv\b|\bdsc\b"),
    "proton density": re.compile(r"\bpdw?\b ?(?:tse|fse)|\bpdw\b|proton"),
    "a map": re.compile(r"\b(?:t1|t2|r1|r2) ?map"),
}
_AGENT = re.compile(r"\+ ?c\b|\bgd\b|\bgado|\bgad\b|\bkm\b|\bce\b|(?<!no )(?<!non )(?<!without )(?<!w o )\bcontrast")
# Sequences as Siemens, GE and Philips name them.
_SEQUENCES = {
    "EPI": re.compile(r"(?:^|[*%_\\])ep(?:i\b|fid|se|_b|2d|3d)|ep2d|epi2?$", re.IGNORECASE),
    "a field map": re.compile(r"(?:^|[*%_\\])fm[23]d|field_mapping", re.IGNORECASE),
    "susceptibility": re.compile(r"(?:^|[*%_\\])swi3d", re.IGNORECASE),
}
_IMAGE_TYPES = {
    "not the magnitude": {"PHASE", "PHASE MAP", "REAL", "IMAGINARY", "VELOCITY"},
    "a localizer": {"LOCALIZER", "SCOUT"},
    "a map or projection": {
        *("ADC", "FA", "TRACEW", "TRACE", "MIP", "MNIP", "MIN IP", "PROJECTION IMAGE", "T1 MAP", "T2 MAP", "T2_STAR MAP"),
        *("B0 MAP", "FIELD_MAP", "CBF", "CBV", "MTT", "SUBTRACTION", "SUBTRACT"),
    },
    "not T1-weighted": {"DIFFUSION", "PERFUSION", "FMRI", "ASL", "SWI", "T2", "FLAIR"},
}
_ELSEWHERE = re.compile(r"SPINE|KNEE|ABDOMEN|PELVIS|CHEST|HEART|BREAST|SHOULDER|HIP$|ANKLE|WRIST", re.IGNORECASE)


def sidecar_of(path: Path) -> dict[str, Any]:
    """Return the metadata of an image: its `.json` file and, in BIDS, those that it inherits; the nearest one wins."""
    stem = re.sub(r"(\.nii)?(\.gz)?$|\.\w+$", "", path.name, count=1, flags=re.IGNORECASE)
    own = path.with_name(f"{stem}.json")
    known: dict[str, Any] = {}
    for file in (*inherited_sidecars(own.absolute()), own):
        known |= read_json(file)
    return known


def inherited_sidecars(own: Path) -> list[Path]:
    """Return the sidecars that an image inherits by the rules of BIDS, from the top of the data set to its folder.

    A sidecar such as `T1w.json` counts for images below its folder that have its suffix and all of its entities.

    Args:
        own: Absolute path of the image's own sidecar.
    """
    *entities, suffix = own.stem.split("_")
    if not own.name.startswith("sub-"):
        return []
    folders = [own.parent]
    while re.fullmatch(r"anat|(?:sub|ses)-.+", folders[-1].name):
        folders.append(folders[-1].parent)
    # Possible names are tried one by one: listing the top folder for each scan would take quadratic time in the cohort.
    kept = (chosen for count in range(len(entities) + 1) for chosen in combinations(entities, count))
    names = sorted(("_".join([*chosen, suffix]) + ".json" for chosen in kept), key=len)
    return [file for folder in reversed(folders) for name in names if (file := folder / name).is_file()]


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a sidecar; empty if it is missing, damaged or of another kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="replace"), strict=False)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def objection_to_file(path: Path) -> str:
    """Return why an image file is no T1 by its BIDS suffix or the sidecar beside it; "" if it can be one."""
    if not is_magnitude(path.name):
        return "not the magnitude"
    if match := _BIDS_OTHER.fullmatch(f"_{path.name.split('.')[0].rpartition('_')[2]}"):
        return f"not T1-weighted by its suffix {match[0]}" if "_" in path.name else ""
    return objection_to_metadata(sidecar_of(path))


def is_magnitude(name: str) -> bool:
    """Return whether a BIDS name does not say that the image is a phase, or a real or imaginary part."""
    return re.search(r"_part-(?!mag[_.])", name) is None


def objection_to_metadata(sidecar: Mapping[str, Any]) -> str:
    """Return why an image is no T1-weighted scan by its metadata; "" if it can be one."""
    modality = str(sidecar.get("Modality") or "MR")
    if modality.upper() not in ("MR", "MRI"):
        return f"modality {modality}, not MR"
    types = {str(word).upper() for word in listed(sidecar.get("ImageType"))}
    for reason, words in _IMAGE_TYPES.items():
        if found := sorted(types & words):
            return f"{reason} (image type {found[0]})" if reason != "not the magnitude" else reason
    if (echo_ms := milliseconds(sidecar, "EchoTime")) >= LONGEST_ECHO_MS:
        return f"echo time {echo_ms:g} ms, not T1-weighted"
    description = series_description(sidecar)
    if (sequence := other_sequence(sidecar)) and not _T1.search(in_words(description)):
        return f"{sequence} by its sequence, not T1-weighted"
    other = other_contrast(description)
    return f"{other} by its description {description!r}, not T1-weighted" if other and not names_t1(description) else ""


def doubts_of_metadata(sidecar: Mapping[str, Any]) -> list[str]:
    """Return why an image may be no plain T1-weighted scan of a head by its metadata."""
    description, doubts = series_description(sidecar), []
    if (other := other_contrast(description)) and not (other == "FLAIR" and names_t1(description)):
        doubts.append(f"its description {description!r} names {other}")
    if sequence := other_sequence(sidecar):
        doubts.append(f"its sequence is that of {sequence}")
    scanning = {word.upper() for text in listed(sidecar.get("ScanningSequence")) for word in re.split(r"[\\_]", str(text))}
    echo_ms, repetition_ms = milliseconds(sidecar, "EchoTime"), milliseconds(sidecar, "RepetitionTime", 50)
    inversion_ms = milliseconds(sidecar, "InversionTime", 50)
    if "GR" in scanning and echo_ms >= LATE_GRADIENT_ECHO_MS:
        doubts.append(f"an echo time of {echo_ms:g} ms is long for a T1-weighted gradient echo")
    if inversion_ms >= LATE_INVERSION_MS and "mp2rage" not in in_words(description):
        doubts.append(f"an inversion time of {inversion_ms:g} ms is that of FLAIR")
    if "SE" in scanning and not scanning & {"IR", "GR"} and not inversion_ms and repetition_ms >= LATE_SPIN_ECHO_MS:
        doubts.append(f"a repetition time of {repetition_ms:g} ms is long for a T1-weighted spin echo")
    if re.search(r"\binv ?[12]\b", in_words(description)):
        doubts.append(f"its description {description!r} names one inversion of an MP2RAGE")
    if _AGENT.search(in_words(description)) or any(sidecar.get(key) for key in sidecar if key.startswith("ContrastBolus")):
        doubts.append("a contrast agent was given")
    part = str(sidecar.get("BodyPart") or sidecar.get("BodyPartExamined") or "")
    return [*doubts, *([f"the body part is {part}"] if _ELSEWHERE.search(part) else [])]


def doubts_of_name(name: str) -> list[str]:
    """Return why an image may be no plain T1 by the name of its file."""
    words = in_words(name.split(".")[0])
    other = other_contrast(name.split(".")[0]) or ("CT" if re.search(r"\bct\b", words) else "")
    doubts = [f"its name says {other}"] if other and not names_t1(name) else []
    return [*doubts, *(["its name says that a contrast agent was given"] if re.search(r"_ce-(?!none)", name) else [])]


def series_description(sidecar: Mapping[str, Any]) -> str:
    """Return the description of a series or, without one, the name of its protocol, which may name several contrasts."""
    return str(sidecar.get("SeriesDescription") or sidecar.get("ProtocolName") or "")


def in_words(text: str) -> str:
    """Return a text in lower case, with single spaces for all but letters, digits and +."""
    return re.sub(r"[^a-z0-9+]+", " ", text.lower())


def names_t1(text: str) -> bool:
    """Return whether a text names a T1-weighted sequence; a map of T1 is none."""
    words = in_words(text)
    return _T1.search(words) is not None and not _OTHERS["a map"].search(words)


def other_contrast(text: str) -> str:
    """Return the first contrast other than T1 that a text names; "" for none."""
    words = in_words(text).replace("mapping", "map")
    return next((contrast for contrast, pattern in _OTHERS.items() if pattern.search(words)), "")


def other_sequence(sidecar: Mapping[str, Any]) -> str:
    """Return the kind of a sequence that is not used for T1-weighted scans; "" for another one."""
    if "EP" in {word for text in listed(sidecar.get("ScanningSequence")) for word in re.split(r"[\\_]", str(text))}:
        return "EPI"
    names = [str(sidecar.get(key) or "") for key in ("SequenceName", "PulseSequenceName", "PulseSequenceType")]
    found = (kind for kind, pattern in _SEQUENCES.items() if any(map(pattern.search, names)))
    return next(found, "")


def milliseconds(sidecar: Mapping[str, Any], key: str, seconds_below: float = SECONDS_BELOW) -> float:
    """Return a time in milliseconds, 0 if it is unknown; sidecars have seconds, but some were written by hand.

    Args:
        sidecar: Metadata.
        key: Name of the time.
        seconds_below: Limit above which the number cannot be in seconds.
    """
    first = next(iter(listed(sidecar.get(key))), 0)
    try:
        value = float(first)
    except (TypeError, ValueError):
        return 0.0
    return round(1000 * value if value < seconds_below else value, 3)


def listed(value: Any) -> list[Any]:
    """Return a list as it is, nothing as an empty list, and anything else as a list of it."""
    return value if isinstance(value, list) else [] if value is None else [value]
