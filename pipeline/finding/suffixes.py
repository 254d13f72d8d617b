"""Say which files hold images by the ends of their names."""

import re

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr")
# Images in other forms: of AFNI, MINC, MRtrix and Philips, packed, encrypted or not fully downloaded ones.
_OTHER_FORMS = re.compile(
    r"\.(?:mnc|head|brik(?:\.gz)?|mif(?:\.gz)?|par|rec)$|"
    r"\.(?:nii|nii\.gz|mg[hz]|mh[ad]|nrrd|dcm)\.(?:bz2|xz|zst|lz4|zip|7z|gpg|pgp|enc|part|partial|crdownload|download|tmp)$"
)
_ARCHIVE = re.compile(r"\.(?:zip|7z|rar|tar|tgz|tbz2?|txz|tar\.\w+)$")


def stem_of(name: str) -> str:
    """Return a file name without its image suffix."""
    matching = [suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)]
    return name[: -len(max(matching, key=len))] if matching else name


def reason_not_read(name: str) -> str:
    """Return why a file that may hold scans is not read; "" for any other file."""
    if _OTHER_FORMS.search(name.lower()):
        return f"a form that is not read; expected {', '.join(IMAGE_SUFFIXES)} or DICOM"
    return "an archive; unpack it to take the scans in it" if _ARCHIVE.search(name.lower()) else ""
