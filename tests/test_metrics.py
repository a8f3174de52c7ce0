"""What Prometheus gets: well-formed text, and the numbers of `stats()`."""

from __future__ import annotations

import re
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

import commands
import recording
import shmtrace
from shmtrace.collector.endpoint import parse_address
from shmtrace.metrics import exposition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(100)

_SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\[\\"n])*)"')


def parse(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples, after the rules of the format have been looked at: HELP and TYPE first, once, samples together."""
    assert text.endswith("\n")
    known: list[str] = []
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            kind = next(lines)
            assert re.fullmatch(rf"# TYPE {name} (counter|gauge)", kind), kind
            assert kind.endswith("counter") == name.endswith("_total")
            assert name not in known
            known.append(name)
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        assert match[1] == known[-1]
        key = match[1], tuple(_LABEL.findall(match[2] or ""))
        assert key not in samples
        samples[key] = float(match[3])
    return samples


@pytest.fixture
def channel(channel_name: str) -> Iterator[shmtrace.Channel]:
    """A channel, removed afterwards."""
    with shmtrace.create_channel(channel_name, pages=64, page_size=8192) as made:
        yield made
    shmtrace.remove_channel(channel_name)


def test_stat_prints_the_numbers_of_stats(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with recording.recorded(channel, tmp_path / "trace") as recorder:
        for _ in range(1000):
            channel.event(b"x")
        recorder.finish()
        stats = channel.stats()
        text = commands.run("stat", channel.name, "--prometheus").stdout
    samples = parse(text)
    labels = (("channel", channel.name), ("mode", "drop"))
    delivered = {key[1][-1]: value for key, value in samples.items() if key[0] == "shmtrace_records_delivered_total"}
    assert delivered == {("cpu", str(cpu["cpu"])): cpu["delivered"] for cpu in stats["cpus"]}
    assert sum(delivered.values()) == 1000
    for reason, count in stats["missed"].items():
        assert samples["shmtrace_records_missed_total", (*labels, ("reason", reason))] == count
    assert samples["shmtrace_pages", labels] == 64
    assert samples["shmtrace_recording", labels] == 0


def test_text_in_labels_is_escaped(channel: shmtrace.Channel) -> None:
    samples = parse(exposition([channel.stats() | {"name": 'a"\\\nb'}]))
    assert ("channel", r"a\"\\\nb") in {key[1][0] for key in samples}


def test_the_collector_serves_the_numbers_of_its_channels(channel: shmtrace.Channel) -> None:
    with commands.running("collect", channel.name, "--metrics", "0") as collector:
        assert collector.stderr is not None
        address = collector.stderr.readline().rpartition(" ")[2].strip()
        samples = {}
        serves = ("shmtrace_collector", (("channel", channel.name), ("mode", "drop")))

        def ask() -> bool:  # it answers before it has taken up the channel
            with urllib.request.urlopen(address, timeout=20) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                samples.update(parse(answer.read().decode()))
            return samples[serves] == 1 if serves in samples else False

        commands.until(ask)
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(address.replace("/metrics", "/other"), timeout=20)
        refused.value.close()
        assert samples["shmtrace_collector_cpu_seconds_total", ()] > 0
        done = commands.run("collect", "--all", "--metrics", address.split("/")[2])
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "metrics cannot be served at" in done.stderr
        recording.end(collector, signal_number=signal.SIGTERM)


@pytest.mark.parametrize("text", ["", "x", "127.0.0.1", "0.0.0.0:1", "example.org:80", "99999", "[::]:1", ":x"])
def test_only_loopback_is_served(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no address|is not on loopback"):
        parse_address(text)


@pytest.mark.parametrize(("text", "address"), [("80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0))])
def test_an_address_is_a_port_or_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
