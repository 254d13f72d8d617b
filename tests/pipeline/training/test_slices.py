"""Slice extraction and the slice store: reuse, resume, rebuild, the sampler's promises."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import MapTransform, OneOf, RandGaussianNoised

from strokelesion.networks import UserError
from strokelesion.networks.inferers import with_neighbors
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.runtime.errors import user_error
from strokelesion.pipeline.training import slice_store
from strokelesion.pipeline.training.slice_sampler import SliceSampler
from strokelesion.pipeline.training.slice_store import (
    ScanDataset,
    SliceDataset,
    SliceStore,
    in_each_plane,
    store_path,
    store_scan,
    store_scans,
)
from strokelesion.transforms import (
    BinarizeMasksd,
    ExtractSlicesd,
    FuseSubmasksd,
    LabelLesionsd,
    LoadMasksd,
    LoadScand,
    Recipe,
    TurnToPlaned,
)
from strokelesion.transforms.slices import extent_px

SIZE = (32, 40)


def volume(shape=(1, 23, 27, 11)):
    image, label = torch.zeros(shape), torch.zeros(shape, dtype=torch.uint8)
    image[:, 3:20, 3:24, 2:9] = 1
    label[:, 8:12, 9:14, 4:6] = 1
    label[:, 15, 15, 7] = 2
    image[:, 5, 6, :] = torch.arange(11.0)  # names each slice
    return {"image": image, "label": label}


@pytest.mark.parametrize(("select", "kept"), [("lesion", [4, 5, 7]), ("brain", range(2, 9)), ("all", range(11))])
def test_the_right_slices_are_kept_in_order(select, kept):
    out = ExtractSlicesd(["image", "label"], SIZE, select)(volume())
    assert out["image"].shape == out["label"].shape == (len(kept), 1, *SIZE)
    assert out["image"][:, 0, 5 + 4, 6 + 6].tolist() == list(kept)


def test_cropping_and_padding_keep_image_and_label_together():
    whole = volume()
    out = ExtractSlicesd(["image", "label"], (20, 40), "all")(whole)
    for key in whole:
        middle = whole[key][0, 1:21].permute(2, 0, 1)
        assert torch.equal(out[key][:, 0, :, 6:33], middle), key


def test_lesion_outside_the_window_and_unknown_selections_are_refused():
    with pytest.raises(UserError, match=r"1 of 41 lesion voxels lie outside the 7x40 window.*--slice_mm"):
        ExtractSlicesd(["image", "label"], (7, 40))(volume())
    with pytest.raises(UserError, match="lesion, brain, all"):
        ExtractSlicesd(["image", "label"], SIZE, "head")


@pytest.mark.parametrize(
    ("extent_mm", "spacing_mm", "extent"),
    [
        ((192, 224), (4, 4, 4), [48, 56]),
        ((192, 224), (1.0, 1.5, 3.0), [192, 149]),
        ((32, 32), (10, 100, 1), [3, 1]),
        (None, (1, 1, 1), None),
    ],
)
def test_an_extent_in_mm_is_the_nearest_number_of_voxels(extent_mm, spacing_mm, extent):
    assert extent_px(extent_mm, spacing_mm) == extent


class CountedLoads(MapTransform):
    """Counts how often scans are read."""

    loads = 0

    def __call__(self, data):
        CountedLoads.loads += 1
        return dict(data)


def chain(select="lesion"):
    keys = ["image", "main_mask", "sub_masks"]
    return Recipe(
        [
            CountedLoads("image"),
            LoadScand("image"),
            LoadMasksd(keys[1:], allow_missing_keys=True),
            BinarizeMasksd(keys[1:], allow_missing_keys=True),
            FuseSubmasksd("sub_masks", allow_missing_keys=True),
            LabelLesionsd(),
            ExtractSlicesd(["image", "label"], SIZE, select),
        ]
    )


@pytest.fixture
def records(release_dir):
    CountedLoads.loads = 0
    return read_cohort(release_dir("R2.0"))


def test_scans_are_read_once_and_come_back_as_slices_and_as_volumes(records, tmp_path):
    first = SliceDataset(records, chain("all"), tmp_path / "store")
    items = list(first)
    second = SliceDataset(records, chain("all"), tmp_path / "store")
    volumes = ScanDataset(records, chain("all"), tmp_path / "store")
    assert CountedLoads.loads == len(records)
    assert all(torch.equal(a["image"], second[i]["image"]) for i, a in enumerate(items))
    fresh = [chain("all")(dict(record)) for record in records]
    images, labels = (torch.cat([scan[key] for scan in fresh]) for key in ("image", "label"))
    torch.testing.assert_close(torch.stack([item["image"] for item in items]), images, rtol=1e-3, atol=1e-3)  # half precision
    assert torch.equal(torch.stack([item["label"] for item in items]), labels)
    assert items[0]["image"].dtype == torch.float32
    assert items[0]["image"].shape == items[0]["label"].shape == (1, *SIZE)
    assert first.has_lesion.tolist() == labels.flatten(1).any(dim=1).tolist()
    for item, scan, record in zip(volumes, fresh, records, strict=True):
        assert item["subject"] == record["subject"]
        assert torch.equal(item["label"], scan["label"].permute(1, 2, 3, 0))


def test_only_a_changed_scan_is_made_anew(records, tmp_path):
    store_scans(records, chain(), tmp_path / "store")
    os.utime(records[0]["main_mask"], ns=(0, 0))
    store_scans(records, chain(), tmp_path / "store")
    assert CountedLoads.loads == len(records) + 1


def test_each_scan_has_a_store_for_each_chain_and_plane_and_the_axial_one_is_that_of_records_without_plane(records, tmp_path):
    planes = in_each_plane(records[:1], ["axial", "coronal"])
    paths = [store_path(record, chain(select), tmp_path) for record in planes for select in ("brain", "lesion")]
    assert len(set(paths)) == 4
    assert paths[0] == store_path(records[0], chain("brain"), tmp_path)
    assert paths[0].name.startswith(f"{records[0]['subject']}_{records[0]['session']}_")


def test_a_data_set_shows_each_scan_in_each_plane_that_it_is_given(records, tmp_path):
    *before, extract = chain("brain").transforms
    turned = Recipe([*before, TurnToPlaned(["image", "label"]), extract])

    def items(data, **planes):
        return list(SliceDataset(data, turned, tmp_path / "store", **planes))

    both = items(records, planes=("axial", "coronal"))
    axial, coronal = (items([{**record, "plane": plane} for record in records]) for plane in ("axial", "coronal"))
    assert len(both) == len(axial) + len(coronal)
    shown = {item["image"].numpy().tobytes() for item in both}
    assert shown == {item["image"].numpy().tobytes() for item in [*axial, *coronal]}
    assert [item["image"].sum() for item in items(records)] == [item["image"].sum() for item in axial]
    named = items([{**records[0], "plane": "coronal"}], planes=("axial",))
    assert named
    assert [item["image"].sum() for item in named] == [item["image"].sum() for item in coronal[: len(named)]]


def test_threads_do_not_mix_up_files(release_dir, tmp_path, monkeypatch):
    """MONAI's readers remember their last files: shared by threads, they once dropped one of two sub-masks."""
    records = read_cohort(release_dir("R1.1", subjects=8))
    assert any(len(record.get("sub_masks", ())) > 1 for record in records)
    (tmp_path / "one").mkdir()
    one = [store_scan(record, chain("all"), tmp_path / "one") for record in records]
    monkeypatch.setattr(slice_store, "workers", lambda processes: ThreadPoolExecutor(4))
    for attempt in range(3):
        four = store_scans(records, chain("all"), tmp_path / str(attempt))
        assert [path.read_bytes() for path in four] == [path.read_bytes() for path in one]


def test_processes_store_what_threads_store(records, tmp_path):
    threads, processes = (store_scans(records, chain(), tmp_path / str(count), count) for count in (0, 2))
    assert [path.name for path in threads] == [path.name for path in processes]
    assert [path.read_bytes() for path in threads] == [path.read_bytes() for path in processes]


def test_what_was_begun_is_waited_for_and_made_once(records, tmp_path):
    store = SliceStore(chain(), tmp_path / "store")
    store.begin(records[:2])
    store.begin(records[:2])
    assert all(path.exists() for path in store.paths(records))
    store.close()
    assert CountedLoads.loads == len(records)


def test_an_unreadable_scan_of_a_later_epoch_is_named_when_its_turn_comes(records, tmp_path):
    Path(records[-1]["image"]).write_bytes(b"no image")
    slices = SliceDataset(records, chain(), tmp_path / "store", shown=len(records) - 1, renewed=1)
    with pytest.raises(UserError, match=r"cannot prepare .*" + records[-1]["subject"]):
        slices.set_epoch(2)


def test_renewed_scans_take_the_place_of_the_oldest(records, tmp_path):
    """A run that is resumed at the third epoch sees what one sees that was never stopped."""
    slices = SliceDataset(records, chain(), tmp_path / "store", shown=2, renewed=1)
    for epoch in (1, 2, 3):
        slices.set_epoch(epoch)
        expected = SliceDataset(records[epoch - 1 : epoch + 1], chain(), tmp_path / "store")
        resumed = SliceDataset(records, chain(), tmp_path / "other", shown=2, renewed=1)
        resumed.set_epoch(epoch)
        for other in (expected, resumed):
            assert np.array_equal(slices.has_lesion, other.has_lesion)
            assert np.array_equal(slices.scan_of, other.scan_of)
            for item, same in zip(slices, other, strict=True):
                assert torch.equal(item["image"], same["image"])


@pytest.mark.parametrize("neighbors", [1, 3])
def test_slices_come_with_the_neighbors_that_validation_gives_them(records, tmp_path, neighbors):
    folder = str(tmp_path / "store")
    volumes = ScanDataset(records, chain(), folder)
    slices = SliceDataset(records, chain(), folder, neighbors=neighbors)
    expected = [
        with_neighbors(volume["image"][None], torch.tensor([[0, position]]), neighbors)[0]
        for volume in volumes
        for position in range(volume["image"].shape[-1])
    ]
    assert len(slices) == len(expected)
    for item, image in zip(slices, expected, strict=True):
        assert torch.equal(item["image"], image)
        assert item["label"].shape == (1, *image.shape[1:])


def test_a_fingerprint_is_that_of_a_chain_and_its_settings_not_of_its_use_and_state(records):
    """MONAI's transforms change with use: a used chain must be named as a fresh one, also inside another."""
    used = chain()
    used(dict(records[0]))
    assert Recipe([used]).fingerprint == Recipe([chain()]).fingerprint

    def fingerprint(seed, std=0.1):
        noise = RandGaussianNoised("image", std=std)
        noise.set_random_state(seed=seed)
        return Recipe([noise, OneOf([noise])]).fingerprint

    assert fingerprint(0) == fingerprint(1) != fingerprint(0, std=0.2)


@pytest.mark.parametrize("processes", [0, 1])
def test_an_unreadable_scan_is_named(records, tmp_path, processes):
    Path(records[1]["image"]).write_bytes(b"no image")
    image = re.escape(str(records[1]["image"]))
    with pytest.raises(UserError, match=rf"^cannot prepare {image}: it cannot be read: ") as error:
        store_scans(records, chain(), tmp_path / "store", processes)
    assert error.value.__cause__ is None


class Broken(MapTransform):
    """Has a fault."""

    def __call__(self, data):
        return {"image": data["label"]}


@pytest.mark.parametrize("processes", [0, 1])
def test_a_fault_keeps_its_traceback_and_names_the_scan(records, tmp_path, processes):
    with pytest.raises(RuntimeError, match="Broken") as error:
        store_scans(records[:1], Recipe([Broken("image")]), tmp_path / "store", processes)
    assert user_error(error.value) is None
    assert f"while preparing {records[0]['image']}" in error.value.__notes__


@given(
    has_lesion=st.lists(st.booleans(), min_size=1, max_size=60).filter(any),
    share=st.floats(0.05, 1),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 99),
)
def test_each_epoch_shows_every_lesion_slice_once_and_others_as_the_share_says(has_lesion, share, seed, epoch):
    has_lesion = np.array(has_lesion)
    sampler = SliceSampler(has_lesion, np.zeros(len(has_lesion), dtype=int), share, seed=seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(order) == len(sampler) == len(set(order))
    assert set(np.flatnonzero(has_lesion)) <= set(order)
    wanted = has_lesion.sum() * (1 - share) / share
    assert len(order) - has_lesion.sum() == min(round(wanted), (~has_lesion).sum())
    assert order == list(sampler)
    sampler.set_epoch(epoch + 1)
    assert len(order) < 20 or order != list(sampler)


def test_with_evenness_scans_of_few_lesion_slices_are_shown_as_often_as_others():
    """Of 3 scans with 1, 10 and 100 lesion slices; each of 111 draws falls on each scan with its share."""
    has_lesion, scan_of = np.ones(111, dtype=bool), np.repeat([0, 1, 2], [1, 10, 100])

    def shares(evenness):
        sampler = SliceSampler(has_lesion, scan_of, evenness=evenness)
        counts = np.zeros(3)
        for epoch in range(100):
            sampler.set_epoch(epoch)
            counts += np.bincount(scan_of[list(sampler)], minlength=3)
        return counts / counts.sum()

    np.testing.assert_allclose(shares(0), np.array([1, 10, 100]) / 111)
    np.testing.assert_allclose(shares(1), [1 / 3] * 3, atol=0.02)
    np.testing.assert_allclose(shares(0.5), np.sqrt([1, 10, 100]) / np.sqrt([1, 10, 100]).sum(), atol=0.02)


@pytest.mark.parametrize("evenness", [0, 0.5])
def test_where_scans_are_renewed_epochs_keep_their_length(evenness):
    sampler = SliceSampler(np.arange(30) < 10, np.zeros(30, dtype=int), evenness=evenness)
    for slices, lesions in ((30, 10), (9, 4), (50, 45)):
        sampler.show(np.arange(slices) < lesions, np.zeros(slices, dtype=int))
        order = np.array(list(sampler))
        assert len(order) == len(sampler) == 20
        assert (order < lesions).sum() == 10
        assert order.max() < slices


@pytest.mark.parametrize(("lesions", "evenness"), [(4, 0), (30, 0), (30, 0.7)])
def test_an_epoch_has_as_many_slices_as_asked_for(lesions, evenness):
    has_lesion = np.arange(60) < lesions
    sampler = SliceSampler(has_lesion, np.arange(60) // 6, lesion_share=0.25, evenness=evenness, epoch_slices=16)
    order = np.array(list(sampler))
    assert (len(order), len(sampler), has_lesion[order].sum()) == (16, 16, 4)


def test_samplers_without_lesion_or_share_are_refused():
    with pytest.raises(UserError, match="above 0 and at most 1"):
        SliceSampler(np.ones(3, dtype=bool), np.zeros(3, dtype=int), 0)
    with pytest.raises(UserError, match=r"got evenness 1\.5; allowed is 0 to 1"):
        SliceSampler(np.ones(3, dtype=bool), np.zeros(3, dtype=int), evenness=1.5)
    with pytest.raises(UserError, match="no training slice has a lesion"):
        SliceSampler(np.zeros(3, dtype=bool), np.zeros(3, dtype=int))
