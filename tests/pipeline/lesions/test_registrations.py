"""Registrations that are remembered: found again for the same brain and lesions, and only then."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from strokelesion.pipeline.lesions.registrations import RememberedRegistrations
from strokelesion.transforms.registration import Registration

SHAPE = (1, 7, 8, 9)


@pytest.fixture
def asked():
    affine = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)), affine=affine)
    return {"image": image, "brain": torch.ones(SHAPE, dtype=torch.bool), "lesions": torch.zeros(SHAPE, dtype=torch.uint8)}


@pytest.fixture
def register(tmp_path):
    """One that answers each question anew, so that an answer given twice was remembered."""
    answers = iter(range(1, 100))

    def answer(*_):
        number = next(answers)
        return Registration(np.eye(4) * number + 1 / 3, number / 7)

    return RememberedRegistrations(tmp_path / "results", answer)


def test_the_same_question_gets_the_same_answer_to_the_last_bit(register, asked):
    first, again = register(**asked), register(**asked)
    assert np.array_equal(first.to_mni, again.to_mni)
    assert first.correlation == again.correlation == 1 / 7


def changed(asked, key):
    if key == "affine":
        return {**asked, "image": MetaTensor(asked["image"].as_tensor(), affine=2 * asked["image"].affine)}
    if key == "no lesions":
        return {**asked, "lesions": None}
    other = asked[key].clone()
    other[0, 3, 4, 5] = 1 - other[0, 3, 4, 5] if key != "brain" else False
    return {**asked, key: other}


@pytest.mark.parametrize("key", ["image", "affine", "brain", "lesions", "no lesions"])
def test_another_question_gets_another_answer(register, asked, key):
    assert register(**asked).correlation != register(**changed(asked, key)).correlation


def test_the_start_does_not_count(register, asked):
    assert register(**asked).correlation == register(**asked, start=np.eye(4)).correlation


@pytest.mark.parametrize("content", ["", "{", "[]", '{"to_mni": [1], "correlation": 1}', '{"correlation": 1}'])
def test_a_damaged_file_is_made_anew(register, asked, content, tmp_path):
    register(**asked)
    (path,) = (tmp_path / "results/registrations").iterdir()
    path.write_text(content)
    assert [register(**asked).correlation for _ in range(2)] == [2 / 7] * 2


def test_what_failed_is_tried_again(asked, tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            RememberedRegistrations(tmp_path, lambda *_: 1 / 0)(**asked)
    assert not list(tmp_path.iterdir())
