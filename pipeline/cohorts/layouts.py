"""File names of the supported data sets: one row of `LAYOUTS` for each release. To support another one, add a row.

Each row has regular expressions on the path of a file below the parent of the cohort folder. The first row that matches a file
identifies it; `survey` reads a whole folder by this table. The groups of the expressions are

    subject, session    names of the scan; both must be there, and `session` may match nothing
    site                name of the site; optional
    number              number of a sub-mask; the main mask is the one without number; optional
    space               part of the name that distinguishes versions of a scan in two spaces; optional

Sources: ATLAS R1.1/R1.2 (Liew et al. 2018, doi:10.1038/sdata.2018.11), R2.0 (Liew et al. 2022,
doi:10.1038/s41597-022-01401-7), BIDS 1.10 (https://bids-specification.readthedocs.io).
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """File names of one release, as regular expressions.

    Attributes:
        release: Name of the release in records and tables.
        example: Path of a T1w scan, for messages.
        t1: T1w scans.
        mask: Lesion masks.
        table: Metadata tables.
        site_column: Column of the table with the site; it wins over the site in the path.
    """

    release: str
    example: str
    t1: str
    mask: str
    table: str
    site_column: str = ""


_IN = r"(?:.*/)?"
_END = r"\.nii(?:\.gz)?"
_R11 = rf"{_IN}(?P<site>Site\d+)/(?P<subject>\d{{6}})/(?P<session>t\d\d)/(?P=subject)"
_R12 = rf"{_IN}(?P<site>c\d{{4}})/(?P<subject>c\d{{4}}s\d{{4}})(?P<session>t\d\d)/(?P=subject)(?P=session)"
_R2 = rf"{_IN}(?P<site>[^/]+)/(?P<subject>sub-[^/_]+)/(?P<session>ses-[^/_]+)/anat/(?P=subject)_(?P=session)"
_BIDS = r"(?P<subject>sub-[^/_]+)(?:_(?P<session>ses-[^/_]+))?_"
_SMOOTH = r"_LesionSmooth(?P<number>_\d+)?"

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
        site_column="SITE",
    ),
    Layout(
        release="BIDS",
        example="sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        t1=rf"(?!(?:.*/)?derivatives/){_IN}anat/{_BIDS}(?:[^/]*_)?T1w{_END}",
        mask=rf"{_IN}{_BIDS}(?![^/]*desc-brain_)[^/]*mask{_END}",  # brain masks of preprocessing are no lesions
        table=rf"{_IN}participants\.tsv",
        site_column="site",
    ),
)


def identify_file(path: str) -> tuple[Layout, str, dict[str, str]] | None:
    """Return the layout of a file, its kind (`t1`, `mask` or `table`) and the groups of its name; None if no row matches.

    Args:
        path: Path below the parent of the cohort folder, with forward slashes.
    """
    for layout in LAYOUTS:
        for kind in ("t1", "mask", "table"):
            if match := re.fullmatch(getattr(layout, kind), path):
                return layout, kind, match.groupdict(default="")
    return None
