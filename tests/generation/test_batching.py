"""Many samples in flight: in order, within the window, batched for the device, and no thread is left waiting."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import bokehsynth as bs
from bokehsynth.errors import DeviceError
from bokehsynth.generation.batching import BatchOptions, RenderQueue, batch_of_all
from bokehsynth.generation.disk_space import largest_sample_pixels

WIDE = BatchOptions(window=8, batch=4, threads=3)


@dataclass
class FakeDevice:
    """Stands in for a device: frames are strings. Records the batches it was given, and the threads."""

    refuses: object = None
    error: type[Exception] = ValueError
    slow: float = 0.0

    def __post_init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()

    def __call__(self, scenes):
        self.batches.append(list(scenes))
        self.threads.add(threading.get_ident())
        time.sleep(self.slow)
        if self.refuses in scenes:
            raise self.error(f"no picture of {self.refuses}")
        return [f"frames of {scene}" for scene in scenes]


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("samples")]


@pytest.mark.parametrize("options", [BatchOptions(), BatchOptions(2, 1, 1), WIDE, BatchOptions(50, 16, 2)])
def test_everything_is_made_once_and_in_order(options: BatchOptions) -> None:
    device = FakeDevice()
    queue = RenderQueue(options, device)
    begun: list[range] = []
    made = list(queue.run(lambda index: (index, queue.render(index)), range(5, 40), begun.append))
    assert made == [(index, f"frames of {index}") for index in range(5, 40)]
    assert sorted(scene for batch in device.batches for scene in batch) == list(range(5, 40))
    assert max(map(len, device.batches)) <= options.batch
    assert begun == [range(index, min(index + options.window, 40)) for index in range(5, 40)]
    assert device.threads == {threading.get_ident()}, "the device belongs to one thread"
    assert no_thread_is_left()


def test_the_window_and_the_threads_are_kept_and_batches_fill_while_the_device_is_busy() -> None:
    device = FakeDevice(slow=0.02)
    queue = RenderQueue(WIDE, device)
    lock, computing, most, taken, furthest = threading.Lock(), 0, 0, 0, 0

    def compute(index: int) -> None:
        nonlocal computing, most, furthest
        with lock:
            computing += 1
            most, furthest = max(most, computing), max(furthest, index - taken)
        time.sleep(0.002)
        with lock:
            computing -= 1

    def make(index: int) -> int:
        compute(index)
        queue.render(index)
        compute(index)
        return index

    for index in queue.run(make, range(60)):
        taken = index + 1
    assert most == WIDE.threads
    assert furthest <= WIDE.window
    assert 1 < max(map(len, device.batches)) <= WIDE.batch


@pytest.mark.parametrize("options", [BatchOptions(), WIDE])
def test_a_scene_that_cannot_be_rendered_fails_its_own_sample(options: BatchOptions) -> None:
    queue = RenderQueue(options, FakeDevice(refuses=9, slow=0.01))
    got: list[int] = []
    with pytest.raises(ValueError, match="no picture of 9"):
        got.extend(queue.run(lambda index: queue.render(index) and index, range(20)))
    assert got == list(range(9))
    assert no_thread_is_left()


def test_a_device_that_fails_fails_all_samples_at_once() -> None:
    device = FakeDevice(refuses=1, error=DeviceError, slow=0.01)
    queue = RenderQueue(WIDE, device)
    with pytest.raises(DeviceError):
        list(queue.run(queue.render, range(20)))
    assert [1] not in device.batches or len(device.batches) == 2, "it is not asked again, scene by scene"
    assert no_thread_is_left()


def test_closing_the_iterator_waits_for_no_rendering() -> None:
    """Threads that compute end at their rendering, threads that wait for theirs at once; none redraws its sample."""
    queue = RenderQueue(WIDE, FakeDevice())
    tries = []

    def make(index: int) -> int:
        tries.append(index)
        try:
            queue.render(index)
        except Exception:  # as retry_until_valid has it
            tries.append(index)
            queue.render(index)
        return index

    run = queue.run(make, range(100))
    assert [next(run) for _ in range(3)] == [0, 1, 2]
    run.close()
    assert no_thread_is_left()
    assert len(tries) == len(set(tries)) <= 3 + WIDE.window


def test_a_device_gets_more_small_pictures_than_large_ones_at_a_time() -> None:
    assert BatchOptions.for_device(16, 512 * 512) == BatchOptions(window=48, batch=16, threads=16)
    assert BatchOptions.for_device(16, 64 * 64).batch == 16
    assert BatchOptions.for_device(4, 1024 * 1024) == BatchOptions(window=12, batch=4, threads=4)
    assert BatchOptions.for_device(2, 64 * 64) == BatchOptions(window=18, batch=8, threads=2)
    assert BatchOptions.served(512 * 512) == BatchOptions(window=5, batch=2, threads=1)
    assert BatchOptions.served(10**7) == BatchOptions(window=3, batch=1, threads=1)
    assert [batch_of_all(*each) for each in ((15, 512 * 512), (2, 512 * 512), (15, 10**6))] == [16, 4, 4]
    assert BatchOptions.for_device(1, 10**9) == BatchOptions(window=3, batch=1, threads=1)


def test_an_interrupt_while_rendering_leaves_no_thread_waiting() -> None:
    """Ctrl-C arrives in the thread that renders, during a batch."""
    queue = RenderQueue(WIDE, FakeDevice(refuses=5, error=KeyboardInterrupt, slow=0.01))
    with pytest.raises(KeyboardInterrupt):
        list(queue.run(queue.render, range(20)))
    assert no_thread_is_left()


def test_a_window_is_sized_for_the_largest_photograph(tmp_path: Path) -> None:
    """Memory has to hold a window of them, whichever come together."""
    for number, side in enumerate((80, 96, 1200)):
        Image.effect_noise((side, side), 60).convert("RGB").save(tmp_path / f"{number}.png")
    keys = ["samples={train: 2}", "scene={kind: photo}", "size=own", "assets.val_fraction=0"]
    recipe = bs.load_recipe("quickstart", [*keys, f"assets.photos=[{tmp_path}]"])
    assert largest_sample_pixels(recipe) == 1200 * 1200
    assert largest_sample_pixels(bs.load_recipe("quickstart")) == 256 * 256
