"""docs/recipes/jupyter.md, with a real kernel."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from recipe import PAGES, cook, spans_of
from shmtrace.segment import channel_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from recipe import Recipe
    from shmtrace.reader import Record

pytestmark = pytest.mark.heavy
SETUP, SHORT, LONG = re.findall(
    r"^```ipython\n(.*?)^```$", (PAGES / "jupyter.md").read_text(), re.MULTILINE | re.DOTALL
)


class Kernel:
    """A kernel, and what a notebook does with it."""

    def __init__(self, manager: Any, client: Any, directory: Path) -> None:  # noqa: ANN401  (objects of others)
        self.manager = manager
        self._client = client
        self._directory = directory

    def run(self, cell: str) -> str:
        """Run a cell to its end; what kind of end it was."""
        self._client.execute(cell)
        return self.result()

    def result(self) -> str:
        """Wait for the end of the cell that runs."""
        content = self._client.get_shell_msg(timeout=60)["content"]
        return str(content.get("evalue", content["status"]))

    def begin(self, cell: str) -> None:
        """Run a cell until it says that it has begun.  If it fails, the next one runs all the same."""
        self._client.execute(cell, stop_on_error=False)
        while self._client.get_iopub_msg(timeout=60)["content"].get("text") != "begun\n":
            pass

    def records(self, name: str) -> list[Record]:
        """Those of a trace, which whoever records it may just be ending: the kernel may have been killed."""
        directory = self._directory / name
        commands.until((directory / "metadata").exists)
        return list(shmtrace.read(directory, follow=True))


@pytest.fixture
def kernel(tmp_path: Path, needs: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """One that has run the page's first cell."""
    needs("jupyter_client")
    needs("ipykernel")
    from jupyter_client.manager import start_new_kernel

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        kernel = Kernel(manager, client, tmp_path)
        assert kernel.run(SETUP) == "ok"
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_the_magic_records_a_cell(kernel: Kernel) -> None:
    assert kernel.run(SHORT) == "ok"
    spans = spans_of(kernel.records("trace"))
    assert [begin.fields["shard"] for begin, end in spans if end] == [0, 1, 2]
    assert {begin.process for begin, _ in spans} == {"ipykernel_launcher.py"}


def test_the_span_of_a_cell_that_is_interrupted_ends_and_is_marked(kernel: Kernel) -> None:
    kernel.begin(LONG)
    kernel.manager.interrupt_kernel()
    assert kernel.result() == "the traced code ended with KeyboardInterrupt"
    begin, end = kernel.records("long")
    assert (begin.kind, end.kind, end.fields) == ("begin", "end", {"exception": "KeyboardInterrupt"})
    assert kernel.run(SHORT) == "ok"
    assert len(kernel.records("trace")) == 6


def test_a_cell_whose_kernel_is_killed_stays_open_in_its_record(kernel: Kernel, tmp_path: Path) -> None:
    kernel.begin(LONG)
    (channel,) = (name for name in channel_names() if name.endswith(f"-{kernel.manager.provisioner.pid}"))
    os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
    commands.until(lambda: channel not in channel_names())
    (begin,) = kernel.records("long")
    assert begin.fields == {"shard": 7}
    shown = commands.run("tail", "long", cwd=tmp_path).stdout
    assert shown.splitlines()[-1].startswith("open: load shard=7  ipykernel_launcher.py")


def test_kernels_that_a_program_starts_are_in_its_trace(
    recipe: Callable[[str], Recipe], needs: Callable[[str], None]
) -> None:
    needs("jupyter_client")
    needs("ipykernel")
    course = cook(recipe("jupyter"))
    assert course.stdout == "0\n1\n"
    assert [begin.fields["number"] for begin, end in spans_of(course.records) if end] == [0, 1]
    assert len(course.by_pid) == 2
