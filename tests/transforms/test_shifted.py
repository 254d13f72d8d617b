"""The second generator: signal equations by hand, partial volume, anatomy and lesions where they should be, zero strength."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import small_head as head
import torch
from monai.data import MetaTensor

from strokelesion.transforms.shifted import RandShiftedScand, draw_scan_options
from strokelesion.transforms.shifted.atrophy import shrink_brain
from strokelesion.transforms.shifted.infarct_kinds import paint_infarcts
from strokelesion.transforms.shifted.neck import add_neck
from strokelesion.transforms.shifted.relaxation import draw_contrast, mprage, spoiled_gradient_echo
from strokelesion.transforms.shifted.scan_options import LESION_KINDS, VIEWS
from strokelesion.transforms.shifted.signal_acquisition import (
    amplification,
    move_periodically,
    receive_field,
    thicken,
    truncate,
)
from strokelesion.transforms.shifted.substances import Substance, divide_soft_tissue, divide_unknown, mark_cord, mark_dura
from strokelesion.transforms.shifted.supersampling import supersample
from strokelesion.transforms.shifted.tissue_mixture import paint_mixture, paint_old_disease
from strokelesion.transforms.synthesis import SeededRecipe, Tissue, is_brain

OPTIONS = replace(draw_scan_options(0), white_matter_disease=0, vascular_spaces=0, lesion_border_mm=0.2)
OPTIONS = replace(OPTIONS, bright_muscle=False, contrast_agent=False, fat_suppressed=False)
SHAPE = (30, 26, 34)


def random(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


def codes() -> torch.Tensor:
    """Return the small head with a brain stem and, below it, a cord."""
    volume = head.tissues().as_tensor()[0].clone()
    volume[28:33, 30:35, 10:20] = int(Tissue.STEM)
    volume[29:32, 31:34, 4:10] = int(Tissue.VESSEL)
    return volume


def test_a_spoiled_gradient_echo_has_the_signal_of_ernst_at_his_angle() -> None:
    decay = np.exp(-20 / 500)
    signal = spoiled_gradient_echo(torch.tensor(500.0), 20, float(np.rad2deg(np.arccos(decay))))
    assert float(signal) == pytest.approx(np.sqrt((1 - decay) / (1 + decay)), rel=1e-5) == pytest.approx(0.14141, rel=1e-3)


def test_an_mprage_without_flip_is_inversion_recovery() -> None:
    signal = mprage(torch.tensor([600.0, 4300.0]), 2000, 900, 7, 100, 1e-3) / np.sin(np.deg2rad(1e-3))
    expected = [abs(1 - 2 * np.exp(-900 / t1) / (1 + np.exp(-2000 / t1))) for t1 in (600, 4300)]
    assert signal.tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("t1_ms", [370.0, 860.0, 1420.0, 4300.0])
def test_an_mprage_is_the_steady_state_of_its_pulses(t1_ms: float) -> None:
    cycle, inversion, spacing, echoes, angle = 2200.0, 950.0, 7.0, 120, 9.0
    first, flip, longitudinal, middle = inversion - echoes / 2 * spacing, np.deg2rad(angle), 1.0, 0.0

    def recovered(magnetization: float, time: float) -> float:
        return 1 - (1 - magnetization) * float(np.exp(-time / t1_ms))

    for _ in range(30):
        longitudinal = recovered(-longitudinal, first)
        for echo in range(echoes):
            middle = longitudinal if echo == echoes // 2 else middle
            longitudinal = recovered(longitudinal * np.cos(flip), spacing)
        longitudinal = recovered(longitudinal, cycle - first - echoes * spacing)
    assert float(mprage(torch.tensor(t1_ms), cycle, inversion, spacing, echoes, angle)) == pytest.approx(
        abs(middle) * np.sin(flip), rel=1e-3
    )


@pytest.mark.parametrize("sequence", ["mprage", "spoiled"])
@pytest.mark.parametrize("field_t", [1.5, 3.0])
def test_every_contrast_is_that_of_a_t1(sequence: str, field_t: float) -> None:
    for seed in range(20):
        contrast = draw_contrast(replace(OPTIONS, sequence=sequence, field_t=field_t), random(seed))
        signals = contrast.signals()
        assert float(signals[Tissue.WHITE]) == pytest.approx(1)
        assert signals[Tissue.AIR] == 0
        assert signals[Tissue.VENTRICLE] < signals[Tissue.CORTEX] - 0.15
        assert 0.45 < float(signals[Tissue.CORTEX]) < 0.95
        assert float(signals[Substance.FAT]) > 1
        tones = contrast.of_tone(torch.tensor([-0.3, 0.0, 0.3, 1.0]))
        assert tones[1:].tolist() == sorted(tones[1:].tolist(), reverse=True) or float(tones[2]) < 0.3
        assert float(tones[1]) == pytest.approx(float(signals[Tissue.CORTEX]), rel=1e-5)
        assert float(tones[3]) == pytest.approx(float(signals[Tissue.VENTRICLE]), rel=1e-5)


def test_muscle_blood_and_fat_are_as_bright_as_asked() -> None:
    for seed in range(10):
        bright, enhanced, dark = (
            draw_contrast(replace(OPTIONS, **{name: True}), random(seed)).signals()
            for name in ("bright_muscle", "contrast_agent", "fat_suppressed")
        )
        assert bright[Tissue.CORTEX] <= bright[Substance.MUSCLE] <= bright[Tissue.WHITE]
        assert enhanced[Tissue.VESSEL] > 1.1
        assert enhanced[Tissue.MUCOSA] > 0.9
        assert dark[Substance.FAT] < 0.8


def test_fat_lies_below_the_skin_and_dura_beside_bone() -> None:
    divided = mark_dura(divide_soft_tissue(codes(), 3.0, random()))
    assert not (divided == Tissue.SOFT).any()
    assert (divided == Substance.FAT).any()
    dura = divided == Substance.DURA
    assert dura.any()
    assert (codes()[dura] == Tissue.CSF).all()
    assert torch.equal(divided[is_brain(codes())], codes()[is_brain(codes())])


def test_unknown_tissue_is_divided_by_its_brightness() -> None:
    unknown = torch.full((4, 5, 50), int(Tissue.UNKNOWN), dtype=torch.uint8)
    divided = divide_unknown(unknown, torch.arange(50).expand(4, 5, 50).float())
    assert divided[0, 0, [5, 25, 45]].tolist() == [Tissue.SKIN, Substance.MUSCLE, Substance.FAT]
    assert torch.equal(divide_unknown(codes(), torch.zeros(head.SHAPE)), codes())


def test_vessels_below_the_stem_are_cord_and_no_others() -> None:
    placed = codes()
    placed[10, 20:24, 30] = int(Tissue.VESSEL)
    marked = mark_cord(placed)
    assert torch.equal(marked == Substance.CORD, codes() == Tissue.VESSEL)
    assert (marked[10, 20:24, 30] == Tissue.VESSEL).all()
    without = torch.where(placed == Tissue.STEM, int(Tissue.WHITE), placed)
    assert torch.equal(mark_cord(without), without)


def test_a_neck_continues_the_head_and_its_cord_and_has_no_brain() -> None:
    marked = mark_cord(codes())
    whole, first = add_neck(marked, 180, random())
    inner = tuple(slice(-int(start), size - int(start)) for start, size in zip(first[:2], marked.shape[:2], strict=True))
    end = int(first[2]) + 180
    assert torch.equal(whole[(*inner, slice(180, None))], marked[..., end:])
    neck = whole[..., :180]
    assert not is_brain(neck).any()
    assert (neck == Substance.CORD).any(0).any(0).all()
    areas = (neck > 0).sum((0, 1))
    assert areas[0] > 1.25 * areas[110]  # shoulders, which are wider than this volume
    for tissue in (Tissue.SKIN, Tissue.MARROW, Tissue.VESSEL, Tissue.CSF):
        assert (neck == tissue).any()
    airway = ((neck == Tissue.MUCOSA).sum((0, 1)) > 0).float().mean()
    assert airway > 0.9


def test_atrophy_widens_ventricles_and_sulci_inside_the_skull_only() -> None:
    before, volumes = codes(), []
    assert torch.equal(shrink_brain(before, 0.0, 3.0, random()), before)
    for strength in (0.3, 1.0):
        after = shrink_brain(before, strength, 3.0, random())
        outside = before > Tissue.CSF
        assert torch.equal(after[outside], before[outside])
        assert ((after > 0) == (before > 0)).all()
        volumes.append([int((after == tissue).sum()) for tissue in (Tissue.VENTRICLE, Tissue.CSF)])
    base = [int((before == tissue).sum()) for tissue in (Tissue.VENTRICLE, Tissue.CSF)]
    assert base[0] < volumes[0][0] < volumes[1][0]
    assert base[1] < volumes[0][1] < volumes[1][1]


def grid(shape: tuple[int, int, int], affine: torch.Tensor) -> torch.Tensor:
    """Return the positions of the voxels of a grid."""
    axes = torch.meshgrid(*(torch.arange(size).float() for size in shape), indexing="ij")
    return torch.stack(axes, dim=-1) @ affine[:3, :3].float().T + affine[:3, 3].float()


def test_partial_volume_of_a_plane_is_its_fraction() -> None:
    """The anatomy has voxels of 0.5 mm, and a plane at 10.0 mm cuts through the middle of the voxels of 1 mm at 10 mm."""
    fine, coarse = torch.diag(torch.tensor([0.5, 0.5, 0.5, 1.0])), torch.eye(4)
    fine[:3, 3] = 0.25
    side = torch.zeros(40, 20, 24)
    side[20:] = 3.0
    signal, shares = supersample(side, (side > 0).to(torch.uint8), fine, grid((20, 9, 11), coarse))
    assert signal[9:12, 4, 5].tolist() == [0.0, 1.5, 3.0]
    assert shares.shape == (1, 20, 9, 11)
    assert shares[0, 9:12, 4, 5].tolist() == [0.0, 0.5, 1.0]


def test_supersampling_onto_the_same_grid_changes_nothing_and_a_turned_ball_keeps_its_volume() -> None:
    points = grid(head.SHAPE, head.affine())
    classes = head.ball((5, -20, 12), (30, 25, 35)).to(torch.uint8) * 2
    signal, shares = supersample(classes.float(), classes, head.affine(), points)
    assert torch.equal(signal, classes.float())
    assert torch.equal(shares[1], (classes == 2).float())
    assert not shares[0].any()
    angle = torch.tensor(0.4)
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1.0]])
    _, turned = supersample(classes.float(), classes, head.affine(), points @ turn)
    assert float(turned[1].sum()) == pytest.approx(float((classes > 0).sum()), rel=0.01)


def infarct(kind: str, seed: int = 0, **changes: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return signals before and after an infarct, and its mask."""
    options = replace(OPTIONS, lesion_kind=kind, lesion_tone=0.7, **changes)
    placed, contrast = codes(), draw_contrast(options, random(seed))
    before = paint_mixture(placed, contrast, 3.0, random(seed))
    mask = head.ball((-45.0, -18.0, 15.0), (22.0, 20.0, 18.0)) & is_brain(placed)
    after = paint_infarcts(before, placed, mask.to(torch.uint8), contrast, options, 3.0, random(seed))
    return before, after, mask


@pytest.mark.parametrize("kind", LESION_KINDS)
def test_every_kind_of_infarct_is_visible_in_its_mask_and_nowhere_else(kind: str) -> None:
    for seed in range(3):
        before, after, mask = infarct(kind, seed)
        change = (after - before).abs()
        assert float(change[~mask].max()) < 0.01
        assert float((change[mask] > 0.1).float().mean()) > 0.3
        assert after.isfinite().all()


def test_a_wide_border_fades_over_the_outline() -> None:
    sharp, fading = (infarct("gliosis", lesion_border_mm=width) for width in (0.2, 4.0))
    assert float((fading[1] - fading[0])[~fading[2]].abs().max()) > 0.05
    assert float((fading[1] - fading[0])[fading[2]].abs().mean()) < float((sharp[1] - sharp[0])[sharp[2]].abs().mean())


def test_lacunes_and_rims_have_a_core_of_csf() -> None:
    fluid = 0.6
    for kind in ("rim", "lacune"):
        before, after, mask = infarct(kind, lesion_border_mm=0.2)
        assert float((after[mask] < fluid * before[mask].median()).float().mean()) > 0.2


def test_without_lesions_and_disease_the_signal_stays() -> None:
    contrast = draw_contrast(OPTIONS, random())
    signal = paint_mixture(codes(), contrast, 3.0, random())
    empty = torch.zeros(head.SHAPE, dtype=torch.uint8)
    assert torch.equal(paint_infarcts(signal, codes(), empty, contrast, OPTIONS, 3.0, random()), signal)
    assert torch.equal(paint_old_disease(signal, codes(), contrast, OPTIONS, 3.0, random()), signal)


def test_old_disease_lies_in_white_matter_and_grows_with_its_extent() -> None:
    contrast, changed = draw_contrast(OPTIONS, random()), []
    signal = paint_mixture(codes(), contrast, 3.0, random())
    for extent, spaces in ((0.3, 0), (1.0, 0), (0.0, 80)):
        ill = replace(OPTIONS, white_matter_disease=extent, vascular_spaces=spaces)
        after = paint_old_disease(signal, codes(), contrast, ill, 3.0, random())
        where = (after - signal).abs() > 0.02
        assert (codes()[where] == Tissue.WHITE).all()
        changed.append(int(where.sum()))
    assert 0 < changed[0] < changed[1]
    assert 0 < changed[2] < 0.1 * int((codes() == Tissue.WHITE).sum())


def test_truncation_keeps_low_frequencies_and_removes_high_ones() -> None:
    volume = torch.rand(SHAPE)
    assert torch.allclose(truncate(volume, 1.2), volume, atol=1e-5)
    position = torch.arange(SHAPE[0])[:, None, None] / SHAPE[0]
    low, high = (torch.cos(2 * np.pi * cycles * position).expand(SHAPE) for cycles in (3, 13))
    assert torch.allclose(truncate(low + high, 0.7), low, atol=1e-4)
    assert torch.allclose(truncate(low, 0.7, window=1), low * np.cos(np.pi / 2 * 3 / 15 / 0.7) ** 2, atol=1e-4)


def test_motion_makes_ghosts_along_its_axis_and_none_at_rest() -> None:
    volume = torch.zeros(SHAPE)
    volume[10:20, 8:18, 10:20] = 1
    assert torch.allclose(move_periodically(volume, 1, 0.0, random()), volume, atol=1e-5)
    moved = move_periodically(volume, 1, 1.0, random())
    assert float(moved[10:20, :5, 10:20].max()) > 0.01
    assert not moved[:8].any()
    assert float((moved - volume).abs().mean()) > 0.001


def test_thick_slices_lose_detail_along_one_axis_only() -> None:
    noise = torch.rand(SHAPE)
    thick = thicken(noise, 2, 4.0, 1.1)
    assert thick.diff(dim=2).abs().mean() < 0.3 * thick.diff(dim=0).abs().mean()
    assert float(thick.mean()) == pytest.approx(float(noise.mean()), rel=0.02)


def test_coils_and_parallel_imaging_vary_smoothly_over_the_head() -> None:
    brain, center_mm = is_brain(codes()), torch.tensor([90.0, 105.0, 85.0])
    field = receive_field(brain.shape, center_mm, 3.0, brain, random())
    assert float(field[brain].median()) == pytest.approx(1, rel=0.01)
    assert (field > 0).all()
    assert float(field.max() / field.min()) > 1.5
    assert float((field.diff(dim=0).abs() / field[1:]).max()) < 0.2
    noise = amplification(brain.shape, center_mm, 3.0, random())
    assert 1 <= float(noise.min()) < float(noise.max()) <= 2
    assert float(noise[30, 35, 28]) > 0.95 * float(noise.max())


def record(*lesions: dict[str, Any], seed: int = 3) -> dict[str, Any]:
    return {"tissues": head.tissues(), "lesions": list(lesions), "seed": seed}


def made(*lesions: dict[str, Any], seed: int = 3) -> dict[str, Any]:
    """Return a scan at 4 mm."""
    scan: dict[str, Any] = SeededRecipe([RandShiftedScand(4.0)])(record(*lesions, seed=seed))
    return scan


def test_one_seed_gives_one_scan() -> None:
    first, again, other = made(head.lesion()), made(head.lesion()), made(head.lesion(), seed=4)
    for key in ("image", "label", "brain"):
        assert torch.equal(first[key].as_tensor(), again[key].as_tensor())
        assert torch.equal(first[key].affine, first["image"].affine)
    assert first["image"].shape != other["image"].shape or not torch.equal(first["image"], other["image"])


def test_label_and_brain_are_those_of_the_anatomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The label is the mask where the mask lies in white matter. The scan shows brain and lesion in the same proportion."""

    def block(_: Any, data: Any, tissues: MetaTensor) -> torch.Tensor:
        white = tissues.as_tensor() == Tissue.WHITE
        low, high = white[0].nonzero().amin(0), white[0].nonzero().amax(0)
        inside = torch.zeros_like(white)
        inside[0, low[0] : low[0] + 12, low[1] : high[1], low[2] : high[2]] = True
        return (inside & white).to(torch.uint8)

    monkeypatch.setattr(RandShiftedScand, "place_lesions", block)
    options = draw_scan_options(4)
    assert options.atrophy == 0
    anatomy = RandShiftedScand(4.0).set_random_state(seed=0).draw_anatomy(record(), options, -90.0)
    label = anatomy["label"] > 0
    assert int(label.sum()) > 1000
    assert torch.equal(label, block(None, None, MetaTensor(anatomy["tissues"])) > 0)
    scan = made(seed=4)
    found, brain = scan["label"].as_tensor() > 0, scan["brain"].as_tensor() > 0
    assert brain[found].all()
    share = float(label.sum() / (is_brain(anatomy["tissues"]) | label).sum())
    assert float(found.sum() / brain.sum()) == pytest.approx(share, rel=0.1)


def test_a_scan_without_lesions_has_no_label() -> None:
    scan = made()
    assert not scan["label"].any()
    assert scan["brain"].any()
    assert float(scan["image"].max()) > 50


def test_all_options_are_drawn() -> None:
    drawn = [draw_scan_options(seed) for seed in range(400)]
    assert {options.view for options in drawn} == set(VIEWS)
    assert {options.lesion_kind for options in drawn} == set(LESION_KINDS)
    for name, share in (("bright_muscle", 0.3), ("contrast_agent", 0.15), ("fat_suppressed", 0.2), ("slice_mm", 0.2)):
        assert np.mean([getattr(options, name) > 0 for options in drawn]) == pytest.approx(share, abs=0.06)
    assert all(options.extent_mm[2] >= 250 for options in drawn if options.view == "neck")
    assert draw_scan_options(7) == draw_scan_options(7)
