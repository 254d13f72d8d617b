"""Slices in a device's memory are those of the store; where there is no room, the store itself is read."""

import pytest
import torch
from test_slices import chain

from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.training.device_slices import DeviceSlices, has_room, slice_loader
from strokelesion.pipeline.training.slice_sampler import SliceSampler
from strokelesion.pipeline.training.slice_store import SliceDataset

CPU = torch.device("cpu")


@pytest.fixture
def slices(release_dir, tmp_path):
    """Two scans at a time, of which one is renewed."""
    return SliceDataset(read_cohort(release_dir("R2.0")), chain(), tmp_path, neighbors=2, shown=2, renewed=1)


def test_batches_are_those_of_the_store_also_when_scans_are_renewed(slices):
    resident = DeviceSlices(slices, CPU)
    for epoch in (1, 2):
        slices.set_epoch(epoch)
        numbers = list(reversed(range(len(slices))))
        batch = resident.__getitems__(numbers)
        assert len(resident) == len(slices)
        for key, dtype in (("image", torch.float32), ("label", torch.uint8)):
            assert batch[key].dtype == dtype
            assert torch.equal(batch[key], torch.stack([slices[number][key] for number in numbers]))


def test_a_loader_gives_the_same_batches_from_memory_and_from_disk(slices, monkeypatch):
    def batches():
        sampler = SliceSampler(slices.has_lesion, slices.scan_of, seed=3)
        return list(slice_loader(slices, sampler, 3, "cpu"))

    from_disk = batches()
    monkeypatch.setattr("strokelesion.pipeline.training.device_slices.has_room", lambda slices, device: True)
    from_memory = batches()
    assert len(from_disk) == len(from_memory) > 1
    for one, other in zip(from_disk, from_memory, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("image", "label"))


def test_only_gpus_with_room_keep_slices(slices, monkeypatch):
    assert not has_room(slices, CPU)
    needed = 2 * sum(path.stat().st_size for path in slices.paths)
    for free, fits in ((2 * needed, True), (2 * needed - 2, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert has_room(slices, torch.device("cuda")) is fits
