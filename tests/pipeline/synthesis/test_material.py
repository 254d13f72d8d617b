"""Files found in folders, and persons divided among training, validation and testing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strokelesion.networks import UserError
from strokelesion.pipeline.synthesis.material import SIDES, divide, files_in

persons = st.lists(st.text("abc-01", min_size=1, max_size=4), min_size=1, max_size=40)


@given(persons)
def test_every_item_is_on_one_side_and_a_person_never_on_two(names):
    items = [{"person": name, "number": number} for number, name in enumerate(names)]
    sides = [divide(items, side) for side in SIDES]
    assert sorted(item["number"] for side in sides for item in side) == list(range(len(items)))
    assert sum(len({item["person"] for item in side}) for side in sides) == len(set(names))
    assert len(set(names)) < 3 or all(sides)


@given(st.permutations([f"person-{number}" for number in range(20)]))
def test_the_order_of_the_items_does_not_matter(names):
    held_out = {item["person"] for item in divide([{"person": name} for name in names], "held_out")}
    assert held_out == {item["person"] for item in divide([{"person": name} for name in sorted(names)], "held_out")}
    assert len(held_out) == 4


def test_an_unknown_side_is_refused():
    with pytest.raises(UserError, match="allowed are training, validation, held_out"):
        divide([{"person": "a"}], "test")


@pytest.mark.parametrize("form", [list, tuple, lambda folders: ",".join(map(str, folders)), lambda folders: folders[0].parent])
def test_folders_are_named_in_any_form_and_hidden_files_passed_over(tmp_path, form):
    wanted = [tmp_path / "a" / "deep" / "1.nii", tmp_path / "b" / "2.nii"]
    for path in [*wanted, tmp_path / "a" / ".hidden"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list(files_in(form([tmp_path / "a", tmp_path / "b"]))) == wanted


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        list(files_in(f"{tmp_path},{tmp_path / 'nowhere'}"))
