"""File names of the supported data sets: one row of `LAYOUTS` for each release. To support another one, add a row.

Each row has regular expressions on the path of a file below the parent of the cohort folder. The first row that matches a file
identifies it; `survey` reads a whole folder by this table. The groups of the expressions are

    subject, session    names of the scan; both must be there, and `session` may match nothing
    site                name of the site; optional
    number              number of a sub-mask; the main mask is the one without number; optional
    space               part of the name that distinguishes versions of a scan in two spaces; optional
    rest                rest of the name of a mask, if only this rest says whether the mask shows the lesion; optional

Sources: ATLAS R1.1/R1.2 (Liew et al. 2018, doi:10.1038/sdata.2018.11), R2.0 (Liew et al. 2022,
doi:10.1038/s41597-022-01401-7), BIDS 1.10 (https://bids-specification.readthedocs.io).
"""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """File names of one release, as regular expressions.

    Attributes:
        release: Name of the release in records and tables.
        example: Path of a T1w scan, for messages.
        t1: T1w scans.
        mask: Lesion masks.
        table: Metadata tables.
        has_sites: Whether the table has a column with the site; it wins over the site in the path.
    """

    release: str
    example: str
    t1: str
    mask: str
    table: str
    has_sites: bool = False


_IN = r"(?:.*/)?"
_END = r"\.nii(?:\.gz)?"
_R11 = rf"{_IN}(?P<site>Site\d+)/(?P<subject>\d{{6}})/(?P<session>t\d\d)/(?P=subject)"
_R12 = rf"{_IN}(?P<site>c\d{{4}})/(?P<subject>c\d{{4}}s\d{{4}})(?P<session>t\d\d)/(?P=subject)(?P=session)"
_R2 = rf"{_IN}(?P<site>[^/]+)/(?P<subject>sub-[^/_]+)/(?P<session>ses-[^/_]+)/anat/(?P=subject)_(?P=session)"
_RAW = r"(?![^/]+/(?:.*/)?(?:derivatives|sourcedata)/)"  # the given folder itself may have any name
_BIDS = r"(?P<subject>sub-[^/_]+)(?:_(?P<session>ses-[^/_]+))?_"
_NO_CLASSES = r"(?![^/]*seg-lesions_[^/]*dseg)"  # `inference` writes that map of main and sub-lesions beside its mask
_SMOOTH = r"_LesionSmooth(?P<number>_\d+)?"

_LESION = re.compile(r"lesion|infarct|(?:^|-)stroke$")
# A lesion's surroundings, its opposite side, and scans whose lesions were filled.
_NO_LESION = re.compile(
    r"(?:non?|peri|without|healthy)-?lesion|(?:^|_)non?_lesion|lesional|lesion-?(?:fill|free|less|network|disconn)"
)
# BIDS entities that say how a scan was taken or where it lies, not what a mask shows.
_OF_SCAN = ("acq", "ce", "den", "dir", "echo", "hemi", "inv", "mod", "part", "rec", "res", "run", "space", "task", "trc")
_OTHER_CONTRAST = re.compile(
    r"[_-](?:T2w?|T2starw?|FLAIR|PDw?|PDT2|dwi|adc|trace|swi|bold|ct|angio)(?:_|lesion)", re.IGNORECASE
)
_OTHER_FOLDERS = ("dwi", "func", "perf", "fmap", "swi", "ct")
_SPACE = re.compile(r"_space-([^_]+)_")
_SPACES_OF_SCAN = ("orig", "native", "individual", "T1w", "t1w", "anat")

LAYOUTS = (
    Layout(
        release="R1.1",
        example="ATLAS_R1.1/Site1/031768/t01/031768_t1w_deface_stx.nii.gz",
        t1=rf"{_R11}_t1w_deface(?P<space>_stx){_END}",
        mask=rf"{_R11}{_SMOOTH}(?P<space>_stx){_END}",
        table=rf"{_IN}[^/]*ATLAS_Meta-Data_Release_1\.1_standard_mni\.csv",
    ),
    Layout(
        release="R1.2",
        example="c0003/c0003s0001t01/c0003s0001t01_t1w_stx.nii.gz",
        t1=rf"{_R12}_t1w(?:_deface)?(?P<space>_stx)?{_END}",
        mask=rf"{_R12}{_SMOOTH}(?P<space>_stx)?{_END}",
        table=rf"{_IN}[^/]*ATLAS_Meta-Data_Release_1\.1_Updated\.xlsx",
    ),
    Layout(
        release="R2.0",
        example="Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
        t1=rf"{_R2}_space-MNI152NLin2009aSym_T1w{_END}",
        mask=rf"{_R2}_space-MNI152NLin2009aSym_label-[LR]_desc-T1lesion_mask{_END}",
        table=rf"{_IN}[^/]*ATLAS_2\.0_MetaData\.(?:xlsx|csv)",
    ),
    Layout(
        release="R3.0",  # R2.1 has the same names, see `survey`
        example="R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-orig_desc-brain_T1w.nii.gz",
        t1=rf"{_R2}_space-orig_desc-brain_T1w{_END}",
        mask=rf"{_R2}_space-orig_label-lesion_desc-T1lesion_mask{_END}",
        table=rf"{_IN}sub-[^/]*_metadata\.csv",
        has_sites=True,
    ),
    Layout(
        release="BIDS",
        example="sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        t1=rf"{_RAW}{_IN}anat/{_BIDS}(?:[^/]*_)?T1w{_END}",
        mask=rf"{_IN}{_BIDS}{_NO_CLASSES}(?P<rest>[^/]*(?i:mask|roi|seg|lesions?|infarct|stroke))(?:{_END}|\.mgz)",
        table=rf"{_RAW}{_IN}participants\.(?:tsv|csv|xlsx)",
        has_sites=True,
    ),
)


def identify_file(path: str) -> tuple[Layout, str, dict[str, str]] | None:
    """Return the layout of a file, its kind and the groups of its name; None if no row matches.

    The kind is `t1`, `mask`, `table`, or `other` for a mask whose name does not say that it shows the lesion.

    Args:
        path: Path below the parent of the cohort folder, with forward slashes.
    """
    for layout in LAYOUTS:
        for kind in ("t1", "mask", "table"):
            if match := re.fullmatch(getattr(layout, kind), path):
                groups = match.groupdict(default="")
                return layout, "other" if "rest" in groups and not names_lesion(groups["rest"]) else kind, groups
    return None


def names_lesion(rest: str) -> bool:
    """Return whether the name of a BIDS mask, without subject, session and extension, says that it shows the lesion.

    A label decides: `label-L` (BIDS), `label-lesion`, `label-stroke`. Otherwise `lesion`, `infarct` or `stroke` must be in the
    name, but not in an entity that describes the scan, such as `acq-lesion`. A plain `_roi` is a lesion too, as in fMRIPrep.
    """
    *entities, suffix = rest.lower().split("_")
    values = dict(entity.split("-", 1) for entity in entities if "-" in entity)
    words = [word for word in entities if word.split("-")[0] not in _OF_SCAN]
    if suffix == "probseg" or _NO_LESION.search(rest.lower()):
        return False
    if "label" in values:
        return values["label"] == "l" or _LESION.search(values["label"]) is not None
    is_plain_roi = suffix == "roi" and {*words} <= {"t1w"}
    return is_plain_roi or any(_LESION.search(word) for word in (*words, suffix))


def drawn_elsewhere(mask: str, scan: str) -> bool:
    """Return whether the name of a BIDS mask says that it was drawn on another image than its T1w scan.

    That is an image of another contrast (`_T2w_desc-lesion_mask`, or in the folder `dwi`), or one in another space.
    """
    folder, name = Path(mask).parent.name, Path(mask).name
    contrast = _OTHER_CONTRAST.search(name)
    spaces = [(_SPACE.search(Path(file).name) or ["", "orig"])[1] for file in (mask, scan)]
    of_mask, of_scan = ("orig" if space in _SPACES_OF_SCAN else space for space in spaces)
    return folder in _OTHER_FOLDERS or contrast is not None or of_mask != of_scan
