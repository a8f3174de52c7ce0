"""A handler of a signal, or a collection of garbage, in the midst of an attachment, a definition, a compilation."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from shmtrace.section import DEFINE, Section, is_inside

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

# a handler uses all that there is; what it gets of it is in `results`
HEAD = """
import functools, gc, os, signal, sys
import shmtrace
from shmtrace import attachment, classes
from shmtrace.native import compiler

results = []

def handle(*_):
    channel = shmtrace.attach()
    step, load = channel.tracepoint("inner", a="u8"), channel.span("inner load")
    results.append((step(1), channel.event(b"inner"), channel.log("inner log")))
    with load, channel.context(inner=1):
        pass
    for _ in channel.iter([1], "inner loop"):
        pass
    kept.append((channel, step))

kept = []
signal.signal(signal.SIGUSR1, handle)

def interrupted(function, act=lambda: signal.raise_signal(signal.SIGUSR1)):
    @functools.wraps(function)
    def call(*arguments, **keywords):
        if not done:
            done.append(True)
            act()
        return function(*arguments, **keywords)
    done = []
    return call
"""


def run(program: str, name: str, tmp_path: Path, **environment: str) -> tuple[str, list[str]]:
    """What it prints, and the lines that it says."""
    path = tmp_path / "program.py"
    path.write_text(HEAD + textwrap.dedent(program))
    variables: dict[str, Any] = {"SHMTRACE": name, "SHMTRACE_STRICT": "0", **environment}
    done = commands.run(str(path), name, command=[sys.executable], **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()


def names(name: str, directory: Path) -> list[str]:
    shmtrace.open_channel(name).snapshot(directory)
    shmtrace.remove_channel(name)
    return [record.name for record in shmtrace.read(directory)]


def test_a_section_is_entered_once_by_a_thread() -> None:
    with Section(DEFINE):
        assert is_inside()
        with pytest.raises(shmtrace.ChannelError, match="make it earlier"), Section(DEFINE):
            pass
        assert is_inside()
    assert not is_inside()
    section = Section(DEFINE)
    section.__enter__()
    del section  # an exception has come ahead of the block
    assert not is_inside()


def test_a_handler_in_the_midst_of_a_definition_waits_for_nobody(tmp_path: Path, channel_name: str) -> None:
    shmtrace.create_channel(channel_name, mode="overwrite")
    program = """
        channel = shmtrace.attach()
        classes._append = interrupted(classes._append)
        outer = channel.tracepoint("outer", a="u8")
        assert outer(1)
        print(results, kept[0][1](2), kept[0][0].tracepoint("later")())
    """
    printed, said = run(program, channel_name, tmp_path)
    assert printed == "[(False, False, False)] True True\n"
    assert said == []
    assert names(channel_name, tmp_path / "trace") == ["outer", "inner", "later"]


def test_a_handler_that_has_a_channel_defines_nothing_there_in_the_midst_of_a_definition(
    tmp_path: Path, channel_name: str
) -> None:
    shmtrace.create_channel(channel_name, mode="overwrite")
    program = """
        channel = shmtrace.attach()
        shmtrace.attach = lambda: channel
        classes._append = interrupted(classes._append)
        outer = channel.tracepoint("outer", a="u8")
        print(results, outer(1), channel.enable("*"))
    """
    printed, said = run(program, channel_name, tmp_path)
    assert printed == "[(False, True, True)] True 1\n"
    assert len(said) == 4  # each of the inner tracepoint and spans
    assert all("make it earlier" in line for line in said)
    assert names(channel_name, tmp_path / "trace") == ["blob", "inner log", "outer"]


def test_a_handler_in_the_midst_of_an_attachment_waits_for_nobody(tmp_path: Path, channel_name: str) -> None:
    shmtrace.create_channel(channel_name, mode="overwrite")
    program = """
        attachment.segment_context = interrupted(attachment.segment_context)
        channel = shmtrace.attach()
        print(results, channel.event(b"outer"), kept[0][1](2))
    """
    printed, said = run(program, channel_name, tmp_path)
    assert (printed, said) == ("[(False, False, False)] True True\n", [])
    assert names(channel_name, tmp_path / "trace") == ["blob", "inner"]


def test_a_collection_in_the_midst_of_an_attachment_and_of_a_definition_waits_for_nobody(
    tmp_path: Path, channel_name: str
) -> None:
    """The bridge of collections has a channel that is still to be attached, and a span that is still to be defined."""
    program = """
        import shmtrace.instrument.gc
        gc.disable()
        bridge = shmtrace.instrument.gc.install()
        channel = shmtrace.attach()
        request = channel.tracepoint("request")
        with shmtrace.create_channel(os.environ["SHMTRACE"], mode="overwrite"):
            pass
        attachment.segment_context = interrupted(attachment.segment_context, gc.collect)
        classes._append = interrupted(classes._append, gc.collect)
        shmtrace.attachment._attachments.clear()  # that of the maker
        print(request())
        gc.collect()
    """
    printed, said = run(program, channel_name, tmp_path)
    assert (printed, said) == ("True\n", [])
    assert names(channel_name, tmp_path / "trace") == ["request", "gc", "gc"]


def test_threads_that_use_a_channel_which_follows_another_one_at_once_lose_nothing(
    tmp_path: Path, channel_name: str
) -> None:
    program = """
        import threading, time
        from shmtrace.instrument.redirect import redirected
        del os.environ["SHMTRACE"]
        channel = shmtrace.attach()
        first, second = channel.tracepoint("first"), channel.tracepoint("second")
        thread = threading.Thread(target=lambda: results.append(second()))
        def begin():
            thread.start()
            time.sleep(0.3)
        classes._append = interrupted(classes._append, begin)
        with shmtrace.create_channel(sys.argv[1], mode="overwrite") as made, redirected(made, None):
            print(first())
            thread.join()
        print(results)
    """
    assert run(program, channel_name, tmp_path) == ("True\n[True]\n", [])
    assert sorted(names(channel_name, tmp_path / "trace")) == ["first", "second"]


def test_a_handler_in_the_midst_of_the_making_of_a_channel_is_refused(tmp_path: Path, channel_name: str) -> None:
    program = """
        from shmtrace import creation
        def make(*_):
            try:
                shmtrace.create_channel("another")
            except shmtrace.ChannelError as error:
                results.append(str(error))
        signal.signal(signal.SIGUSR1, make)
        creation._allocate = interrupted(creation._allocate)
        with shmtrace.create_channel(os.environ["SHMTRACE"]) as channel:
            print(len(results), "make it earlier" in results[0], channel.stats()["missed"]["no_lane"])
    """
    assert run(program, channel_name, tmp_path) == ("1 True 0\n", [])
    shmtrace.remove_channel(channel_name)


@pytest.mark.heavy  # it compiles
@pytest.mark.timeout(300)
@pytest.mark.parametrize("attached", [False, True])
def test_a_handler_in_the_midst_of_a_compilation_waits_for_nobody(
    tmp_path: Path, channel_name: str, *, attached: bool
) -> None:
    shmtrace.create_channel(channel_name, mode="overwrite")
    program = """
        channel = shmtrace.attach() if os.environ["ATTACHED"] else None
        compiler.compile_object = interrupted(compiler.compile_object)
        channel = channel or shmtrace.attach()
        outer = channel.tracepoint("outer", a="u8")
        print(results, outer(1), kept[0][1](2), kept[0][0].log("later"))
    """
    printed, said = run(
        program, channel_name, tmp_path, SHMTRACE_CACHE=str(tmp_path / "cache"), ATTACHED="1" if attached else ""
    )
    assert (printed, said) == ("[(False, False, False)] True True True\n", [])
    assert names(channel_name, tmp_path / "trace") == ["outer", "inner", "later"]
