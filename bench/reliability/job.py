"""The job, as a user's program would do it: `python -m bench.reliability.job TASK`, a `Task` as JSON.

It waits for its workers without a limit, as most programs do; the judge, outside, has one.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .peer import START_METHOD
from .peers import PEERS
from .worker import Task, prepare, work, work_pooled

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

_POLL_S = 0.0005
_LAST_STEP_S = 0.5  # for `os._exit`, which follows at once upon the last count


def victims(task: Task) -> dict[int, int]:
    """Workers to be killed, half of them, each with the number of events at which that happens; set by the seed."""
    chance = random.Random(task.seed)  # noqa: S311 - no secret
    chosen = chance.sample(range(task.workers), task.workers // 2)
    return {worker: chance.randrange(task.events // 10, task.events) for worker in chosen}


def run_killed(task: Task, handed: Any) -> None:  # noqa: ANN401
    """Workers that begin together; half of them are killed, wherever they are when their moment is seen."""
    context = multiprocessing.get_context(START_METHOD)
    doomed = victims(task)
    processes: list[BaseProcess] = [
        context.Process(target=work, args=(task, worker, handed, worker in doomed)) for worker in range(task.workers)
    ]
    for process in processes:
        process.start()
    counts = task.counts()
    while counts.ready < task.workers:
        time.sleep(_POLL_S)
    counts.start()
    while doomed:
        emitted = counts.emitted
        for worker in [worker for worker, moment in doomed.items() if emitted[worker] >= moment]:
            processes[worker].kill()
            del doomed[worker]
        time.sleep(_POLL_S)
    for process in processes:
        process.join()


def run_pool(task: Task, handed: Any) -> None:  # noqa: ANN401
    """A pool that gives each task a new process."""
    context = multiprocessing.get_context(START_METHOD)
    with context.Pool(task.workers, initializer=prepare, initargs=(task, handed), maxtasksperchild=1) as pool:
        results = [pool.apply_async(work_pooled, (number,)) for number in range(task.scenario.tasks(task.workers))]
        if task.scenario.ending == "exit":  # such tasks have no result
            counts = task.counts()
            while min(counts.emitted) < task.events:
                time.sleep(_POLL_S)
            time.sleep(_LAST_STEP_S)
        else:
            pool.close()
            pool.join()
            for result in results:
                result.get()


def main() -> None:
    """Do the job."""
    task = Task(**json.loads(sys.argv[1]))
    with PEERS[task.peer].recording(Path(task.directory)) as handed:
        (run_killed if task.scenario.ending == "kill" else run_pool)(task, handed)


if __name__ == "__main__":
    main()
