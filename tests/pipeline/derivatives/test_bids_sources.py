"""URIs of sources: each BIDS data set has a link, names of links stay, and every path comes back."""

import json
import os

import pytest

from strokelesion.pipeline.derivatives.bids_sources import DESCRIPTION, add_links, from_uri, read_links, to_uri


@pytest.fixture
def data_sets(tmp_path):
    """Two data sets; the second one lies in the first."""
    roots = [tmp_path / "study", tmp_path / "study/derivatives/ours"]
    for root in roots:
        root.mkdir(parents=True)
        (root / DESCRIPTION).write_text("{}")
    return roots


def test_each_data_set_has_a_link_that_stays_and_a_file_belongs_to_the_nearest(data_sets):
    outer, inner = (f"{root}/sub-1/T1w.nii" for root in data_sets)
    first = add_links({}, [outer])
    links = add_links(first, [inner, outer, "/elsewhere/T1.nii"])
    assert links == {"raw": data_sets[0].as_uri(), "raw2": data_sets[1].as_uri()}
    assert [to_uri(path, links) for path in (outer, inner)] == ["bids:raw:sub-1/T1w.nii", "bids:raw2:sub-1/T1w.nii"]
    assert to_uri(outer, {}) == f"file://{outer}"


@pytest.mark.parametrize("file", ["sub-1/T1w.nii", "a b/ü#1%20.nii:x", os.fsdecode(b"\xff.nii")])
def test_every_path_comes_back(data_sets, file):
    links = add_links({}, [f"{root}/x" for root in data_sets])
    for path in (f"{data_sets[1]}/{file}", f"/elsewhere/{file}"):
        assert (uri := to_uri(path, links)).isascii()
        assert from_uri(uri, links) == path


@pytest.mark.parametrize("uri", ["/data/T1.nii", "bids:raw9:sub-1/T1w.nii", "bids::sub-1/T1w.nii", "https://x/T1.nii"])
def test_what_no_link_resolves_stays_as_it_is(uri):
    assert from_uri(uri, {"raw": "doi:10.1/x"}) == uri


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"DatasetLinks": 3}', json.dumps({"DatasetLinks": {"raw": "file:///x"}})]
)
def test_links_of_a_damaged_description_are_none(tmp_path, content):
    (tmp_path / DESCRIPTION).write_text(content)
    assert read_links(tmp_path) == ({"raw": "file:///x"} if "file" in content else {})
    assert read_links(tmp_path / "nowhere") == {}
