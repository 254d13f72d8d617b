"""The synthesis, room by room: what must hold whatever is drawn."""

from typing import Any

import numpy as np
import pytest
import small_head as head
import torch
from monai.data import MetaTensor

from strokelesion.transforms.synthesis import (
    BrainMaskd,
    FitLesionsd,
    RandAddMimicsd,
    RandBiasd,
    RandHeadCoverd,
    RandNoised,
    RandPaintLesionsd,
    RandPaintTissuesd,
    RandPaintVascularSpacesd,
    RandPlaceHeadd,
    RandThickSlicesd,
    RandUnitsd,
    RandWidenSpacesd,
    SeededRecipe,
    Tissue,
    is_brain,
)
from strokelesion.transforms.synthesis.fields import blurred, closed, distance_mm, smooth_noise

STILL: dict[str, Any] = {
    "rotation_deg": 0, "scaling": 0, "shear": 0, "shift_mm": 0, "elastic_mm": 0, "lesion_elastic_mm": 0, "spacing_mm": 3.0,
}  # fmt: skip


def painted(*lesions: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Return a sample with an image without texture of its own."""
    sample = FitLesionsd()(head.sample(*lesions))
    return RandPaintTissuesd(any_contrast_prob=0).set_random_state(seed=seed)(sample)


def drawn(transform: Any, sample: dict[str, Any], key: str = "image", seed: int = 0) -> torch.Tensor:
    """Return one volume of a sample after a random transform."""
    return transform.set_random_state(seed=seed)(dict(sample))[key].as_tensor()  # type: ignore[no-any-return]


def center_mm(volume: MetaTensor, value: int) -> np.ndarray[Any, Any]:
    """Return where a class has its center."""
    where = (torch.as_tensor(volume)[0] == value).nonzero().double().mean(0)
    return np.asarray(volume.affine[:3, :3] @ where + volume.affine[:3, 3])


def test_a_widened_ventricle_of_a_real_t1_keeps_no_line_where_its_border_was() -> None:
    sample = painted()
    sample["image"] = MetaTensor(blurred(sample["image"][0], 3.0, head.SPACING_MM)[None], meta=sample["image"].meta)
    codes = sample["tissues"].clone()
    wide = distance_mm(codes[0] == Tissue.VENTRICLE, head.SPACING_MM) < 7
    codes[:, wide] = int(Tissue.VENTRICLE)
    result = RandPaintTissuesd().set_random_state(seed=1)({**sample, "tissues": codes})
    white, fluid = (result["means"][tissue] for tissue in (Tissue.WHITE, Tissue.VENTRICLE))
    inside = distance_mm(~wide, head.SPACING_MM) > 4
    assert (sample["image"] / sample["means"][Tissue.WHITE])[0, inside].max() > 0.5 * (white + fluid)
    assert result["image"][0, inside].max() < 0.5 * (white + fluid)


def test_fields_have_the_variance_sum_and_distances_that_they_should() -> None:
    noise = smooth_noise((60, 50, 40), 1.0, 5.0, torch.Generator().manual_seed(0))
    assert abs(float(noise.mean())) < 0.1
    assert 0.7 < float(noise.var()) < 1.3
    dot, mask = torch.zeros(41, 45, 37), torch.zeros(40, 44, 36, dtype=torch.bool)
    dot[20, 22, 18] = mask[10] = 1
    for sigma_mm in (0.5, 1.0, 2.0, 4.0):
        assert float(blurred(dot, sigma_mm, 1.0).sum()) == pytest.approx(1, rel=0.05)
    assert torch.allclose(distance_mm(mask, 2.0)[:, 20, 20], 2.0 * (torch.arange(40) - 10).abs().float(), atol=4.0)


def test_noise_is_rician_and_none_where_its_strength_is_0() -> None:
    """Where nothing is, the mean of Rayleigh's distribution: std * sqrt(pi / 2); where the signal is high, its own."""
    image = MetaTensor(torch.cat([torch.zeros(1, 40, 30, 36), torch.full((1, 40, 30, 36), 2.0)], dim=1), affine=head.affine())
    assert torch.equal(drawn(RandNoised(std=0.0, sample_std=False), {"image": image}), image.as_tensor())
    assert torch.equal(drawn(RandNoised(std=0.1, prob=0), {"image": image}), image.as_tensor())
    noisy = drawn(RandNoised(std=0.1, sample_std=False), {"image": image}, seed=2)
    assert float(noisy[:, :40].mean()) == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)
    assert float(noisy[:, 40:].mean()) == pytest.approx(2.0, rel=0.01)
    assert float(noisy[:, 40:].std()) == pytest.approx(0.1, rel=0.02)


def still(seed: int = 0, **lesion: Any) -> dict[str, Any]:
    """Return a head and a lesion, placed without any strength."""
    sample = {"tissues": head.tissues(), "lesions": [{**head.lesion(), **lesion}]}
    return RandPlaceHeadd(**STILL).set_random_state(seed=seed)(sample)


def test_without_any_strength_a_head_stays_where_it_is_but_for_a_flip_of_half_of_the_heads() -> None:
    sides = []
    for seed in range(12):
        placed = still(seed)
        for tissue in (Tissue.WHITE, Tissue.VENTRICLE):
            assert center_mm(placed["tissues"], tissue) == pytest.approx(center_mm(head.tissues(), tissue), abs=1.1)
        assert center_mm(placed["lesions"], 1) == pytest.approx([-40, -10, 15], abs=0.7)
        sides.append(center_mm(placed["tissues"], Tissue.HIPPOCAMPUS)[0] > 0)
    assert 0 < sum(sides) < 12


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_scale_and_flip_of_a_mask_act_about_its_center_and_the_midline(scale: float) -> None:
    lesions = still(1, scale=scale, flip=True)["lesions"]
    assert center_mm(lesions, 1) == pytest.approx([40, -10, 15], abs=1)
    assert int((lesions == 1).sum()) == pytest.approx(int(head.lesion()["mask"].sum()) * scale**3, rel=0.12)


def test_a_head_and_its_image_move_together() -> None:
    image = MetaTensor((head.tissues().as_tensor() == Tissue.WHITE).float(), affine=head.affine())
    placed = RandPlaceHeadd(spacing_mm=3.0).set_random_state(seed=3)({"tissues": head.tissues(), "image": image, "lesions": []})
    white = placed["tissues"].as_tensor() == Tissue.WHITE
    agreement = (white == (placed["image"].as_tensor() > 0.5)).float().mean()
    assert float(agreement) > 0.995
    assert not placed["lesions"].any()


def test_lesions_stay_inside_the_skull_and_off_the_ventricles() -> None:
    inside = FitLesionsd()(head.sample(head.lesion((-55.0, -20.0, 10.0), 40.0)))["label"].as_tensor() > 0
    codes = head.tissues().as_tensor()[inside]
    assert len(codes)
    assert (codes <= Tissue.CSF).all()
    assert (codes != Tissue.VENTRICLE).all()


def test_small_lesions_keep_to_the_tissue_and_those_in_the_wrong_place_go() -> None:
    sample = FitLesionsd()(head.sample(head.lesion((-66.0, -18.0, 10.0), 8.0), head.lesion((0.0, -18.0, 10.0), 7.0)))
    assert is_brain(head.tissues().as_tensor())[sample["label"].as_tensor() > 0].all()
    assert not (sample["lesions"] == 2).any()


def test_small_components_that_a_cut_leaves_of_a_lesion_are_removed() -> None:
    """The drawn lesion has a piece of a hundredth of itself; a lesion of its own of that size stays."""
    fragment = torch.zeros(1, *head.SHAPE, dtype=torch.bool)
    placed = head.sample(head.lesion((30.0, -10.0, 15.0), 22.0))
    lesions = placed["lesions"].as_tensor()
    corner = torch.nonzero((lesions == 0) & (head.tissues().as_tensor() == Tissue.WHITE))[0].tolist()
    fragment[0, corner[1] : corner[1] + 2, corner[2] : corner[2] + 2, corner[3] : corner[3] + 2] = True
    for number, stays in ((1, False), (2, True)):
        marked = torch.where(fragment & (lesions == 0), torch.as_tensor(number, dtype=lesions.dtype), lesions)
        fitted = FitLesionsd(least_ml=0)({**placed, "lesions": MetaTensor(marked, affine=head.affine())})["label"]
        assert bool((fitted.as_tensor()[fragment & (lesions == 0)] > 0).any()) is stays
        assert (fitted.as_tensor()[lesions == 1] == 1).any()


def test_the_largest_component_is_the_main_lesion() -> None:
    sample = FitLesionsd()(head.sample(head.lesion((40.0, -10.0, 15.0), 6.0), head.lesion()))
    label, numbers = sample["label"].as_tensor(), sample["lesions"].as_tensor()
    assert (label[numbers == 2] == 1).all()
    assert (label[numbers == 1] == 2).all()


def test_ventricles_grow_beside_a_lesion_more_than_away_from_it() -> None:
    sample = head.sample(head.lesion((-35.0, -18.0, 10.0), 20.0))
    widened = RandWidenSpacesd(ventricle_mm=0.0, ex_vacuo_mm=9.0, sulci=0.0).set_random_state(seed=3)(sample)
    grown = (widened["tissues"] == Tissue.VENTRICLE).as_tensor() & (head.tissues() != Tissue.VENTRICLE).as_tensor()
    left, right = grown[0, :30].sum(), grown[0, 31:].sum()
    assert left > 2 * right
    assert (RandWidenSpacesd(0.0, 0.0, 0.0).set_random_state(seed=0)(head.sample())["tissues"] == head.tissues()).all()


def test_clefts_are_closed_and_open_space_stays_open() -> None:
    mask = torch.ones(40, 44, 48, dtype=torch.bool)
    mask[:, :, 30:] = False
    mask[:, 20:23, 10:30] = False  # a cleft of 6 mm
    filled = closed(mask, 5.0, 2.0)
    assert filled[8:-8, 8:-8, 10:26].all()
    assert not filled[8:-8, 8:-8, 34:].any()


def test_lesions_keep_off_the_fluid_between_brain_and_skull() -> None:
    sample = head.sample(head.lesion())
    tissues = torch.full_like(sample["tissues"].as_tensor(), int(Tissue.CSF))
    where = sample["lesions"].as_tensor()[0].nonzero()
    middle = int(where[:, 0].float().mean())
    tissues[0, :middle] = int(Tissue.WHITE)  # beyond, fluid up to the skull
    sample["tissues"] = MetaTensor(tissues, affine=head.affine())
    label = FitLesionsd()(sample)["label"].as_tensor()[0]
    assert label[:middle].any()
    assert not label[middle + round(5.0 / head.SPACING_MM) :].any()


def test_mimics_spare_the_lesions_and_need_their_probability() -> None:
    sample = FitLesionsd()(head.sample(head.lesion()))
    confused, before = drawn(RandAddMimicsd(prob=1.0, spots=0.1), sample, "tissues"), head.tissues().as_tensor()
    inside = sample["label"].as_tensor() > 0
    assert torch.equal(confused[inside], before[inside])
    assert (confused == Tissue.HYPOINTENSE).any()
    assert (confused == Tissue.CSF).sum() > (before == Tissue.CSF).sum()
    assert torch.equal(drawn(RandAddMimicsd(prob=0.0), sample, "tissues"), before)


def test_a_drawn_t1_has_dark_fluid_gray_cortex_and_bright_white_matter() -> None:
    for seed in range(6):
        sample = painted(seed=seed)
        image, codes = sample["image"].as_tensor(), head.tissues().as_tensor()
        fluid, gray, white = (float(image[codes == t].median()) for t in (Tissue.VENTRICLE, Tissue.CORTEX, Tissue.WHITE))
        assert fluid < gray < white
        assert float(image[codes == Tissue.AIR].median()) < 0.05


def test_any_contrast_is_not_that_of_t1() -> None:
    means = [RandPaintTissuesd(any_contrast_prob=1).set_random_state(seed=s)(head.sample())["means"] for s in range(12)]
    assert 0 < sum(bool(m[Tissue.CSF] > m[Tissue.WHITE]) for m in means) < 12


def test_sulci_are_bright_up_to_a_share_of_the_way_to_cortex_and_nothing_else_is() -> None:
    sample = head.sample()
    codes = sample["tissues"].as_tensor()[0]
    options = {"any_contrast_prob": 0, "blur_mm": (0.01, 0.01)}
    clear, bright = (
        [RandPaintTissuesd(sulcal_partial_volume=w, **options).set_random_state(seed=seed)(sample) for seed in range(8)]
        for w in (0.0, 0.6)
    )
    sulci = codes == Tissue.CSF
    shares = []
    for before, after in zip(clear, bright, strict=True):
        assert torch.equal(before["image"][0, ~sulci], after["image"][0, ~sulci])
        way = before["means"][Tissue.CORTEX] - before["means"][Tissue.CSF]
        share = ((after["image"] - before["image"])[0, sulci] / way).as_tensor()
        assert share.min() >= -1e-5
        assert share.max() <= 0.6 + 1e-5
        shares.append(float(share.mean()))
    assert min(shares) < 0.2
    assert max(shares) > 0.4


def test_a_head_with_a_t1_keeps_it_where_nothing_changed() -> None:
    sample = head.sample()
    own = MetaTensor(torch.rand(1, *head.SHAPE) * 0.1 + sample["tissues"].as_tensor() / 20 + 1, affine=head.affine())
    sample["tissues"] = MetaTensor(sample["tissues"].as_tensor().clone(), affine=head.affine())
    sample["tissues"][0, 30:34, 20:24, 40:44] = int(Tissue.VENTRICLE)
    kept = RandPaintTissuesd().set_random_state(seed=0)({**sample, "image": own})
    ratio = kept["image"].as_tensor() / own.as_tensor()
    far = torch.ones_like(ratio, dtype=torch.bool)
    far[0, 25:40, 15:30, 35:50] = False
    assert torch.allclose(ratio[far], ratio[0, 0, 0, 0], rtol=1e-4)
    assert not torch.allclose(ratio[~far], ratio[0, 0, 0, 0], rtol=1e-2)


def test_old_infarcts_are_darker_than_what_they_replace_and_the_rest_stays() -> None:
    item = head.lesion()
    before = painted(item)
    inside = before["label"].as_tensor() > 0
    far = distance_mm(inside[0], head.SPACING_MM) > 20
    assert torch.equal(RandPaintLesionsd()(painted())["image"], painted()["image"])  # without lesion
    for seed in range(6):
        after = drawn(RandPaintLesionsd(), before, seed=seed)
        assert float(after[inside].mean()) < 0.9 * float(before["image"].as_tensor()[inside].mean())
        assert torch.allclose(after[0][far], before["image"].as_tensor()[0][far], atol=1e-3)


@pytest.mark.parametrize(("radius_mm", "least_cavity"), [(30.0, 0.0), (12.0, 0.8)])
def test_large_lesions_and_those_that_must_be_cavity_are_mostly_as_dark_as_csf(radius_mm: float, least_cavity: float) -> None:
    before = painted(head.lesion((-38.0, -18.0, 12.0), radius_mm))
    inside = before["label"].as_tensor() > 0
    csf, gray = float(before["means"][Tissue.VENTRICLE]), float(before["means"][Tissue.CORTEX])
    paint = RandPaintLesionsd(strand_prob=0, least_cavity=least_cavity)
    painted_over = (drawn(paint, before, seed=seed)[inside] for seed in range(10))
    assert np.median([float((after < (csf + gray) / 2).float().mean()) for after in painted_over]) > 0.6


@pytest.mark.parametrize(("there", "darkest", "brightest"), [(1.0, 0.2, 0.75), (2.0, 0.2, 1.1), (0.1, 0.0, 0.0)])
def test_no_lesion_is_as_bright_as_what_was_there(there: float, darkest: float, brightest: float) -> None:
    """What was there is gray matter, white matter, or CSF: 1, 2 and nearly 0 on the way from CSF to gray matter."""
    numbers = torch.zeros(9, 9, 9, dtype=torch.long)
    numbers[2:7, 2:7, 2:7] = 1
    paint = RandPaintLesionsd()
    tones = []
    for seed in range(200):
        paint.set_random_state(seed=seed)
        tones.append(float(paint.mixtures(numbers, torch.rand(9, 9, 9), torch.full((9, 9, 9), there), 0.001)[1][1]))
    assert darkest <= min(tones) <= max(tones) <= brightest
    assert max(tones) > brightest - 0.05


def test_vascular_spaces_are_few_dark_voxels_in_the_brain() -> None:
    before = painted()
    after = drawn(RandPaintVascularSpacesd(prob=1), before, seed=2)
    changed = after != before["image"].as_tensor()
    assert 5 <= int(changed.sum()) < 0.02 * changed.numel()
    assert is_brain(head.tissues().as_tensor())[changed].all()


def test_the_brain_mask_holds_brain_ventricles_and_lesions() -> None:
    sample = BrainMaskd()(FitLesionsd()(head.sample(head.lesion((-55.0, -18.0, 10.0), 25.0))))
    brain = sample["brain"].as_tensor() > 0
    assert brain[is_brain(head.tissues().as_tensor())].all()
    assert brain[sample["label"].as_tensor() > 0].all()
    assert not brain[(head.tissues().as_tensor() > Tissue.VENTRICLE) & (sample["label"].as_tensor() == 0)].any()


def covered(**shares: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image of ones after a cover, and the brain."""
    sample = BrainMaskd()(FitLesionsd()(head.sample()))
    sample["image"] = MetaTensor(torch.ones(1, *head.SHAPE), affine=head.affine())
    return RandHeadCoverd(**shares).set_random_state(seed=5)(sample)["image"].as_tensor(), sample["brain"].as_tensor() > 0


def test_stripping_leaves_brain_defacing_takes_the_lower_front_and_cutting_a_part_of_the_brain() -> None:
    stripped, brain = covered(stripped=1.0, defaced=0.0)
    assert float(stripped[brain].mean()) > 0.9
    assert not stripped[head.tissues().as_tensor() == Tissue.SKIN].any()
    defaced, _ = covered(stripped=0.0, defaced=1.0)
    gone = (defaced == 0)[0].nonzero().double().mean(0)
    assert defaced[brain].all()
    assert gone[1] > head.SHAPE[1] / 2 > gone[2] + (head.SHAPE[1] - head.SHAPE[2]) / 2
    assert 0.7 < float(covered(stripped=0.0, defaced=0.0, cut=1.0)[0][brain].mean()) < 1
    assert covered(stripped=0.0, defaced=0.0)[0].all()


def test_a_bias_field_is_positive_smooth_and_as_strong_as_asked() -> None:
    flat = {"image": MetaTensor(torch.ones(1, *head.SHAPE), affine=head.affine())}
    field = drawn(RandBiasd(strength=0.4, fixed=True), flat)
    assert 0.6 < float(field.min()) < 0.95
    assert 1.05 < float(field.max()) < 1.5
    assert float((field[0, 1:] - field[0, :-1]).abs().max()) < 0.05
    assert torch.allclose(drawn(RandBiasd(strength=0.0), flat), flat["image"].as_tensor())


def test_thick_slices_lose_detail_along_one_axis_only_and_units_are_whole_numbers_of_two_bytes() -> None:
    noise = {"image": MetaTensor(2 * torch.rand(1, *head.SHAPE), affine=head.affine())}
    thick = drawn(RandThickSlicesd((9.0, 9.0), prob=1, axis=2), noise)
    assert thick[0].diff(dim=2).abs().mean() < 0.6 * thick[0].diff(dim=0).abs().mean()
    assert float(thick.mean()) == pytest.approx(float(noise["image"].mean()), rel=0.01)
    scaled = drawn(RandUnitsd(), noise)
    assert (scaled == scaled.round()).all()
    assert 60 <= float(scaled.max()) <= 32767


def test_one_seed_gives_one_scan_and_input_is_not_changed() -> None:
    chain = SeededRecipe(
        [RandPlaceHeadd(spacing_mm=4.0), RandWidenSpacesd(), FitLesionsd(), RandPaintTissuesd(), RandPaintLesionsd()]
    )
    record = {"tissues": head.tissues(), "lesions": [head.lesion()], "seed": 7}
    first, again, other = chain(dict(record)), chain(dict(record)), chain({**record, "seed": 8})
    assert torch.equal(first["image"].as_tensor(), again["image"].as_tensor())
    assert torch.equal(first["label"].as_tensor(), again["label"].as_tensor())
    assert not torch.equal(first["image"].as_tensor(), other["image"].as_tensor())
    assert torch.equal(record["tissues"].as_tensor(), head.tissues().as_tensor())
