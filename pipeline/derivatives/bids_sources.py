"""Name the scans that results were made from as BIDS URIs, and find their files again.

`DatasetLinks` in the `dataset_description.json` of the results gives each BIDS data set of scans a short name, so that
`bids:raw:sub-01/anat/sub-01_T1w.nii.gz` can be resolved. Scans outside a BIDS data set have `file:` URIs.

Source: BIDS 1.11, "BIDS uniform resource indicator".
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

DESCRIPTION = "dataset_description.json"
# Name of the first data set of scans; further ones are raw2, raw3 and so on.
RAW = "raw"
Links = Mapping[str, str]


def find_dataset(path: str) -> Path | None:
    """Return the BIDS data set of a file: the nearest folder above it that has a `dataset_description.json`."""
    return next((folder for folder in Path(path).parents if (folder / DESCRIPTION).is_file()), None)


def read_links(folder: str | Path) -> dict[str, str]:
    """Return the URIs of data sets by name from a folder's `dataset_description.json`; none if it is missing or damaged."""
    try:
        links: dict[str, str] = json.loads((Path(folder) / DESCRIPTION).read_text())["DatasetLinks"]
        return {str(name): str(uri) for name, uri in links.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def add_links(known: Links, paths: Iterable[str]) -> dict[str, str]:
    """Return links to the data sets of these files, added to those that are known; known names stay."""
    links = dict(known)
    roots = {root.as_uri() for path in paths if (root := find_dataset(path)) is not None}
    for uri in sorted(roots - {*links.values()}):
        links[next(name for name in (RAW, *(f"{RAW}{n}" for n in range(2, len(links) + 3))) if name not in links)] = uri
    return links


def to_uri(path: str, links: Links) -> str:
    """Return the BIDS URI of a file in a linked data set, or the `file:` URI of another one; the path is absolute."""
    root = find_dataset(path)
    names = [name for name, uri in links.items() if root is not None and uri == root.as_uri()]
    if root is None or not names:
        return Path(path).as_uri()
    return f"bids:{names[0]}:{quote_from_bytes(os.fsencode(Path(path).relative_to(root).as_posix()))}"


def from_uri(uri: str, links: Links) -> str:
    """Return the path of a file from its URI; a URI of an unknown kind or data set stays as it is."""
    scheme, _, rest = uri.partition(":")
    name, _, inside = rest.partition(":")
    if scheme == "bids" and links.get(name, "").startswith("file://"):
        return os.path.join(from_uri(links[name], {}), _unquote(inside))
    return _unquote(rest.removeprefix("//")) if scheme == "file" else uri


def _unquote(path: str) -> str:
    return os.fsdecode(unquote_to_bytes(path))
