"""Feeds the reader with what nobody would send, for as long as asked: `tools/fuzz --seconds N`.

With atheris (`pip install atheris`) the inputs follow the coverage; without it they are hypothesis' own.  What was
found stays in a directory, as the corpus of the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[1]))

LIMIT_S = 10  # for one input
LIMIT_MB = 2048


def load(*, instrumented: bool) -> ModuleType:
    """What is to be fuzzed and how it is checked; atheris looks at the code as it is imported."""
    if instrumented:
        atheris = importlib.import_module("atheris")
        with atheris.instrument_imports(include=["shmtrace.reader", "shmtrace.export"]):
            return importlib.import_module("hostile.streams")
    return importlib.import_module("hostile.streams")


def check(streams: ModuleType, data: bytes) -> None:
    """One input: the first byte says what the others are."""
    from reader.build import Trace, parse
    from shmtrace import reader
    from shmtrace.reader import InvalidDescription, NotATrace
    from shmtrace.reader.description import describe

    kind, rest = data[:1], data[1:]
    if kind == b"d":
        with contextlib.suppress(InvalidDescription):
            describe(rest.decode(errors="replace"))
        return
    if kind == b"r":  # the body of a record of some class
        trace = Trace(streams.rich_trace().text)
        trace.lane().at(5).add(int.from_bytes(rest[:1], "little") % 20, rest[1:]).packet()
        stream = trace.stream
    else:
        stream = rest if kind == b"s" else streams.rich_trace().metadata + rest
        streams.check_cover(stream, parse(stream))
        streams.parse_in_pieces(stream, range(0, len(stream), 97))
    with contextlib.suppress(NotATrace):
        streams.check_records(reader.read(io.BytesIO(stream), warn=lambda _: None))


def seeds(streams: ModuleType) -> dict[str, bytes]:
    """Where to begin."""
    from hostile.packets import broken_packets

    whole = streams.rich_trace()
    return {
        "description": b"d" + whole.text.encode(),
        "stream": b"s" + whole.stream,
        "packets": b"p" + b"".join(whole.parts[1:]),
        "texts": b"r\x11" + streams.TEXTS,
        "numbers": b"r\x10" + streams.NUMBERS,
        "log": b"r\x05" + streams.LOG,
        **{f"broken-{name}": b"p" + data for name, data in broken_packets().items()},
    }


def fuzz_by_coverage(seconds: int, corpus: Path) -> None:
    """Ends the process; what failed lies in the corpus as crash-* or timeout-*."""
    streams = load(instrumented=True)
    for name, data in seeds(streams).items():
        (corpus / name).write_bytes(data)
    atheris = importlib.import_module("atheris")
    limits = [f"-max_total_time={seconds}", f"-timeout={LIMIT_S}", f"-rss_limit_mb={LIMIT_MB}", "-max_len=20000"]
    atheris.Setup(
        [sys.argv[0], *limits, f"-artifact_prefix={corpus}/", "-print_final_stats=1", str(corpus)],
        lambda data: check(streams, data),
    )
    atheris.Fuzz()


def fuzz_by_chance(seconds: int, corpus: Path) -> int:
    """Without atheris; the number of inputs that were tried."""
    from hypothesis import given, settings
    from hypothesis import strategies as st
    from hypothesis.database import DirectoryBasedExampleDatabase

    streams = load(instrumented=False)
    start = list(seeds(streams).values())
    tried = 0

    @settings(max_examples=500, deadline=LIMIT_S * 1000, database=DirectoryBasedExampleDatabase(corpus))
    @given(st.data())
    def try_some(data: st.DataObject) -> None:
        nonlocal tried
        tried += 1
        if data.draw(st.booleans()):
            check(streams, b"s" + streams.joined(data.draw(streams.hostile_parts())))
            return
        raw = bytearray(data.draw(st.sampled_from(start)))
        for _ in range(data.draw(st.integers(0, 8))):
            at = data.draw(st.integers(1, len(raw)))
            raw[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        check(streams, bytes(raw))

    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try_some()
    return tried


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the reader of streams and descriptions.")
    parser.add_argument("--seconds", type=int, default=60, help="how long (60)")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"), help="where inputs are kept (.fuzz)")
    parser.add_argument("--by-chance", action="store_true", help="do not use atheris though it is there")
    options = parser.parse_args()
    options.corpus.mkdir(exist_ok=True)
    if not options.by_chance and importlib.util.find_spec("atheris"):
        print("fuzz: by coverage, with atheris", flush=True)
        fuzz_by_coverage(options.seconds, options.corpus)
    else:
        print("fuzz: by chance, with hypothesis; `pip install atheris` lets it follow the coverage", flush=True)
        print(f"fuzz: {fuzz_by_chance(options.seconds, options.corpus):,} inputs, no error")


if __name__ == "__main__":
    main()
