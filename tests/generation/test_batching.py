"""Many samples in the making: in order, within the window, batched for the device, and nobody is left waiting."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import bokehsynth as bs
from bokehsynth.errors import DeviceError
from bokehsynth.generation.batching import Flow, Line
from bokehsynth.generation.disk_space import largest_of

WIDE = Flow(window=8, batch=4, threads=3)


@dataclass
class Studio:
    """Stands in for a device: frames are words about the scene. Remembers what it was given, and by whom."""

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


def nobody_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("making")]


@pytest.mark.parametrize("flow", [Flow(), Flow(2, 1, 1), WIDE, Flow(50, 16, 2)])
def test_everything_is_made_once_and_in_order(flow: Flow) -> None:
    studio = Studio()
    line = Line(flow, studio)
    begun: list[range] = []
    made = list(line.run(lambda index: (index, line.photograph(index)), range(5, 40), begun.append))
    assert made == [(index, f"frames of {index}") for index in range(5, 40)]
    assert sorted(scene for batch in studio.batches for scene in batch) == list(range(5, 40))
    assert max(map(len, studio.batches)) <= flow.batch
    assert begun == [range(index, min(index + flow.window, 40)) for index in range(5, 40)]
    assert studio.threads == {threading.get_ident()}, "the device belongs to one thread"
    assert nobody_is_left()


def test_the_window_and_the_threads_are_kept_and_batches_fill_while_the_device_is_busy() -> None:
    studio = Studio(slow=0.02)
    line = Line(WIDE, studio)
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
        line.photograph(index)
        compute(index)
        return index

    for index in line.run(make, range(60)):
        taken = index + 1
    assert most == WIDE.threads
    assert furthest <= WIDE.window
    assert 1 < max(map(len, studio.batches)) <= WIDE.batch


@pytest.mark.parametrize("flow", [Flow(), WIDE])
def test_a_scene_that_cannot_be_photographed_is_its_own_samples_fault(flow: Flow) -> None:
    line = Line(flow, Studio(refuses=9, slow=0.01))
    got: list[int] = []
    with pytest.raises(ValueError, match="no picture of 9"):
        got.extend(line.run(lambda index: line.photograph(index) and index, range(20)))
    assert got == list(range(9))
    assert nobody_is_left()


def test_a_device_that_fails_fails_everybody_at_once() -> None:
    studio = Studio(refuses=1, error=DeviceError, slow=0.01)
    line = Line(WIDE, studio)
    with pytest.raises(DeviceError):
        list(line.run(line.photograph, range(20)))
    assert [1] not in studio.batches or len(studio.batches) == 2, "it is not asked again, scene by scene"
    assert nobody_is_left()


def test_whoever_stops_reading_waits_for_nobody() -> None:
    """Threads that compute end at their shot, threads that wait for theirs at once; none redraws its sample."""
    line = Line(WIDE, Studio())
    tries = []

    def make(index: int) -> int:
        tries.append(index)
        try:
            line.photograph(index)
        except Exception:  # as first_sound has it
            tries.append(index)
            line.photograph(index)
        return index

    run = line.run(make, range(100))
    assert [next(run) for _ in range(3)] == [0, 1, 2]
    run.close()
    assert nobody_is_left()
    assert len(tries) == len(set(tries)) <= 3 + WIDE.window


def test_a_device_gets_more_small_pictures_than_large_ones_at_a_time() -> None:
    assert Flow.for_device(16, 512 * 512) == Flow(window=48, batch=16, threads=16)
    assert Flow.for_device(16, 64 * 64).batch == 16
    assert Flow.for_device(4, 1024 * 1024) == Flow(window=12, batch=4, threads=4)
    assert Flow.for_device(2, 64 * 64) == Flow(window=18, batch=8, threads=2)
    assert Flow.for_device(1, 10**9) == Flow(window=3, batch=1, threads=1)


def test_whoever_is_interrupted_at_the_camera_leaves_nobody_waiting() -> None:
    """Ctrl-C arrives in the thread that photographs, with a batch in its hands."""
    line = Line(WIDE, Studio(refuses=5, error=KeyboardInterrupt, slow=0.01))
    with pytest.raises(KeyboardInterrupt):
        list(line.run(line.photograph, range(20)))
    assert nobody_is_left()


def test_photographs_of_many_sizes_are_taken_for_the_largest(tmp_path: Path) -> None:
    """Memory has to hold a window of them, whichever come together."""
    for number, side in enumerate((80, 96, 1200)):
        Image.effect_noise((side, side), 60).convert("RGB").save(tmp_path / f"{number}.png")
    keys = ["samples={train: 2}", "scene={kind: photo}", "size=own", "assets.val_fraction=0"]
    recipe = bs.load_recipe("quickstart", [*keys, f"assets.photos=[{tmp_path}]"])
    assert largest_of(recipe) == 1200 * 1200
    assert largest_of(bs.load_recipe("quickstart")) == 256 * 256
