"""Many small channels in one collector: `python -m bench.channels`.

A collector serves them all (`shmtrace collect NAME...`), and one process reads a part of them and checks every byte
(`bench.audit`).  Told is what the collector costs while nothing happens: soon after its start, long after it, and with
readers; and while some producers write into all of the channels.  At the end everything must add up, channel by
channel.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import resource
import select
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import shmtrace

from . import numbered
from .usage import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from .audit import Audit
    from .usage import Usage

PAGE_SIZE, PAGES = 4096, 32
BUFFER_BYTES = 3 << 20
LIMIT_S = 300


def produce(names: Sequence[str], producer: int, events: int, gap_s: float, told: Connection) -> None:
    """Emit so many rounds of an event into each; tells a tally for each channel."""
    channels = [(shmtrace.open_channel(name), numbered.Tally()) for name in names]
    for _ in range(events):
        for channel, tally in channels:
            tally.emit(channel, producer)
        time.sleep(gap_s)
    told.send([tally.words() for _, tally in channels])


def consume(fifos: Sequence[str], lanes: int, cpus: int, producers: int, control: Connection) -> None:
    """Read them all until something is said; then tell what was found."""
    from .audit import Audit  # compiles

    audits: dict[int, Audit] = {}
    epoll = select.epoll()
    for fifo in fifos:
        file = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        audits[file] = Audit(lanes, cpus, producers, buffer_bytes=BUFFER_BYTES // 2)
        epoll.register(file, select.EPOLLIN | select.EPOLLET)
    epoll.register(control.fileno(), select.EPOLLIN)
    ready: set[int] = set()
    while control.fileno() not in ready:
        ready = {file for file, _ in epoll.poll()}
        for file in ready & audits.keys():
            _drain(audits[file], file)
    for file, audit in audits.items():
        _drain(audit, file)
        audit.end()
    control.send([audit.report() for audit in audits.values()])


def _drain(audit: Audit, file: int) -> None:
    with suppress(BlockingIOError):
        while audit.read(file):
            pass


def idle(pid: int, seconds: float) -> dict[str, float]:
    """What a process uses in a second in which nothing happens."""
    before = usage(pid)
    begin = time.perf_counter()
    time.sleep(seconds)
    after, passed = usage(pid), time.perf_counter() - begin
    return {
        "cpu": round((after.cpu_s - before.cpu_s) / passed, 5),
        "wakes_a_second": round((after.wakes - before.wakes) / passed, 1),
    }


def until_all(made: Sequence[shmtrace.Channel], ready: Callable[[shmtrace.Channel], bool]) -> None:
    """Wait until it holds for each of the channels."""
    limit = time.monotonic() + LIMIT_S
    for channel in made:
        while not ready(channel):
            assert time.monotonic() < limit, f"{channel.name} is not ready"
            time.sleep(0.01)


@dataclass
class Size:
    """What is asked for."""

    channels: int = 1000
    readers: int = 500
    producers: int = 20
    events: int = 100
    gap_s: float = 0.05
    seconds: float = 5.0
    later_s: float = 12.0


def measure(size: Size) -> dict[str, Any]:
    """The figures.  Raises AssertionError where something does not add up."""
    names = [f"channels-{os.getpid()}-{number}" for number in range(size.channels)]
    figures: dict[str, Any] = dataclasses.asdict(size)
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for this process and its producers
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (usual, most))
        made = []
        for name in names:
            made.append(stack.enter_context(shmtrace.create_channel(name, page_size=PAGE_SIZE, pages=PAGES)))
            stack.callback(shmtrace.remove_channel, name)
        begin = time.perf_counter()
        collector = subprocess.Popen([sys.executable, "-m", "shmtrace", "collect", *names], stderr=subprocess.DEVNULL)
        stack.callback(collector.kill)
        pid = collector.pid
        until_all(made, lambda channel: channel.stats()["collector"] == pid)
        figures |= {"start_s": time.perf_counter() - begin, "start_cpu_s": usage(pid).cpu_s}
        figures["idle_at_first"] = idle(pid, size.seconds)
        time.sleep(size.later_s)
        figures["idle_later"] = idle(pid, size.seconds)
        control = stack.enter_context(consumed(made[: size.readers], size.producers))
        figures["idle_with_readers_at_first"] = idle(pid, size.seconds)
        time.sleep(size.later_s)
        figures["idle_with_readers_later"] = idle(pid, size.seconds)

        before, begin = usage(pid), time.perf_counter()
        told = produced(names, size)
        accepted = {name: sum(row[number][1] for row in told) for number, name in enumerate(names)}
        until_all(made, lambda channel: channel.stats()["delivered"] >= accepted[channel.name])
        after, seconds = usage(pid), time.perf_counter() - begin
        collector.terminate()
        collector.wait(LIMIT_S)
        control.send("end")
        audits = control.recv()
        stats = [channel.stats() for channel in made]
    check(told, stats, audits)
    return figures | busy(before, after, seconds, sum(accepted.values())) | {
        "emitted": size.producers * size.events * size.readers, "delivered": sum(accepted.values()),
        "missed": sum(sum(found["missed"].values()) for found in stats),
    }  # fmt: skip


@contextmanager
def consumed(made: Sequence[shmtrace.Channel], producers: int) -> Iterator[Connection]:
    """A process reads these channels; what it is told by, and tells."""
    context = multiprocessing.get_context("spawn")
    stats = made[0].stats()
    ours, theirs = context.Pipe()
    arguments = ([str(channel.fifo) for channel in made], stats["lanes"], len(stats["cpus"]), producers, theirs)
    consumer = context.Process(target=consume, args=arguments)
    consumer.start()
    theirs.close()  # so that its end is seen
    try:
        until_all(made, lambda channel: channel.enabled)
        yield ours
        consumer.join()
    finally:
        consumer.kill()


def produced(names: Sequence[str], size: Size) -> list[list[list[int]]]:
    """Let the producers run; the tallies of each producer, for each channel."""
    context = multiprocessing.get_context("spawn")
    pipes, children = [], []
    try:
        for producer in range(size.producers):
            ours, theirs = context.Pipe()
            arguments = (names, producer, size.events, size.gap_s, theirs)
            children.append(context.Process(target=produce, args=arguments))
            children[-1].start()
            theirs.close()
            pipes.append(ours)
        told = [pipe.recv() for pipe in pipes]
        for child in children:
            child.join()
    finally:
        for child in children:
            child.kill()
    return told


def check(told: Sequence[Any], stats: Sequence[dict[str, Any]], audits: Sequence[dict[str, Any]]) -> None:
    """Channel by channel everything adds up, and where nobody read nothing was recorded.  Raises AssertionError."""
    for number, (found, audit) in enumerate(zip(stats, audits, strict=False)):
        rows = [row[number] for row in told]
        came = [[source["delivered"], source["bytes"], source["digest"]] for source in audit["sources"]]
        assert [row[1:] for row in rows] == came, (number, rows, came)
        assert found["delivered"] == sum(row[1] for row in rows)
        assert sum(found["missed"].values()) == sum(row[0] - row[1] for row in rows) == sum(audit["told_by_cpu"])
        assert sum(found["lost"].values()) == 0
        assert audit["delivered_by_cpu"] == [cpu["delivered"] for cpu in found["cpus"]]
    assert not any(row[1] for rows in told for row in rows[len(audits) :])


def busy(before: Usage, after: Usage, seconds: float, events: int) -> dict[str, float]:
    """What the collector used for so many events."""
    return {
        "busy_us_an_event": (after.cpu_s - before.cpu_s) / max(events, 1) * 1e6,
        "busy_cpu": (after.cpu_s - before.cpu_s) / seconds,
        "busy_wakes_a_second": (after.wakes - before.wakes) / seconds,
        "threads": after.threads, "files": after.files, "private_mib": after.private_bytes / (1 << 20),
    }  # fmt: skip


def main() -> None:
    """The command line."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="python -m bench.channels", description=__doc__)
    parser.add_argument("--channels", type=int, default=usual.channels)
    parser.add_argument("--readers", type=int, default=usual.readers, help="channels that are read")
    parser.add_argument("--producers", type=int, default=usual.producers)
    parser.add_argument("--events", type=int, default=usual.events, help="of each producer into each channel")
    parser.add_argument(
        "--gap", dest="gap_s", type=float, default=usual.gap_s, help="seconds between a producer's rounds"
    )
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="for which idleness is looked at")
    parser.add_argument(
        "--later", dest="later_s", type=float, default=usual.later_s, help="seconds until the next look"
    )
    print(json.dumps(measure(Size(**vars(parser.parse_args()))), indent=2))


if __name__ == "__main__":
    main()
