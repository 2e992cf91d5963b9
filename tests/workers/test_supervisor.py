"""The supervisor over workers that are scripted: what deaths on other machines, and of whole machines, count for."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from bokehsynth.errors import BokehsynthError, UsageError
from bokehsynth.workers import supervisor
from bokehsynth.workers.events import Died, Done, Failed
from bokehsynth.workers.handle import Exit, WorkerHandle
from bokehsynth.workers.supervisor import RunPolicy, supervise

KILLED = Exit("signal SIGKILL", "killed", by_itself=False)
NODE_LOST = Exit("the end of its node", "killed", by_itself=False, outside=True)


class ScriptedWorker(WorkerHandle):
    """Ends by the next exit in the script of each spec, and does the spec when there is none left."""

    def __init__(self, slot: int, scripts: dict[str, "deque[Exit]"]) -> None:
        super().__init__(slot)
        self.placed, self.scripts = False, scripts
        self.messages: deque[tuple[str, Any]] = deque([("placed", f"node{slot}"), ("ready", None)])
        self.exit = KILLED

    def send(self, spec: str) -> None:
        """Take a spec."""
        self.messages.append(("ended", self.scripts[spec].popleft()) if self.scripts[spec] else ("done", self.host))

    def receive(self) -> tuple[str, Any]:
        """The next message of the script."""
        kind, value = self.messages.popleft()
        if kind == "ended":
            self.exit = value
            raise EOFError
        return kind, value

    def end(self, ended: bool = False) -> Exit:
        """How it ended."""
        return self.exit


class ScriptedCrew:
    """Workers, each on a node of its own."""

    def __init__(self, workers: int, **scripts: Sequence[Exit]) -> None:
        self.workers, self.scripts = workers, {spec: deque(exits) for spec, exits in scripts.items()}

    def wanted(self) -> int:
        """As many as were asked for."""
        return self.workers

    def start(self, slot: int) -> ScriptedWorker:
        """On the node of that slot."""
        return ScriptedWorker(slot, self.scripts)

    def wait(self, workers: Sequence[ScriptedWorker], seconds: float) -> list[ScriptedWorker]:
        """Those that have something to say."""
        time.sleep(0.001)
        return [worker for worker in workers if worker.messages]

    def end(self, workers: Sequence[ScriptedWorker]) -> None:
        """Nothing runs."""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(supervisor, "SETTLE_SECONDS", 0.01)
    return


def run(crew: ScriptedCrew) -> list[Any]:
    return list(supervise(crew, list(crew.scripts), RunPolicy()))


def test_a_killer_is_found_while_workers_die_on_other_machines() -> None:
    """Both kill in the same moment, again and again; each on its own node."""
    events = run(ScriptedCrew(2, a=[KILLED] * 4, b=[KILLED] * 4))
    assert [e.in_company for e in events if isinstance(e, Died)] == [False] * 8
    assert {e.spec for e in events if isinstance(e, Done)} == {"a", "b"}


def test_nodes_that_are_lost_use_up_no_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_ATTEMPTS", 4)
    (*deaths, done) = run(ScriptedCrew(1, a=[NODE_LOST] * 10 + [KILLED] * 3))
    assert [death.in_company for death in deaths] == [True] * 10 + [False] * 3
    assert isinstance(done, Done)


def test_a_spec_that_takes_its_node_away_every_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_LOST", 7)
    (*deaths, failed) = run(ScriptedCrew(1, a=[NODE_LOST] * 20))
    assert len(deaths) == 7
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, BokehsynthError)


def test_specs_whose_nodes_are_lost_are_not_tried_one_at_a_time() -> None:
    """Else a cluster of spot machines would soon work on one shard alone."""
    jobs = supervisor._Supervisor(ScriptedCrew(1), RunPolicy(), deque([supervisor.Job("a")]))
    job = jobs.waiting.popleft()
    for attempts, how in enumerate([NODE_LOST] * 5, 1):
        job.attempts, job.lost = attempts, attempts
        jobs.unsettled.append(supervisor._Death(job, how, 0.0, -1.0, "node0"))
        list(jobs._settle())
        assert jobs.waiting.popleft() is job
        assert not job.serial


def test_a_failed_start_tells_where_its_message_is() -> None:
    class Failing(ScriptedWorker):
        def __init__(self, slot: int, scripts: dict[str, "deque[Exit]"]) -> None:
            super().__init__(slot, scripts)
            place = "its message stands on node n7 in worker-1.err"
            self.messages = deque([("placed", "n7"), ("ended", Exit("code 1", "crashed", True, message=place))])

    crew = ScriptedCrew(1, a=[])
    crew.start = lambda slot: Failing(slot, crew.scripts)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="code 1 while starting; its message stands on node n7 in worker-1"):
        run(crew)


def test_waiting_for_room_is_not_running_time() -> None:
    """A worker that a cluster placed after a while is not at once as old as the run."""
    jobs = supervisor._Supervisor(ScriptedCrew(1), RunPolicy(), deque())
    worker = ScriptedWorker(0, {})
    worker.started = 0.0
    list(jobs._receive(worker))
    assert worker.started > 0.0
    assert (worker.placed, worker.host) == (True, "node0")
