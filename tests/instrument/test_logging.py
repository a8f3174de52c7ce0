"""The handler of `logging`, with the real `logging`."""

from __future__ import annotations

import logging
import pathlib
import sys
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from instrument.recorded import see
from shmtrace.instrument.logging import Handler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from instrument.recorded import Recorded


@pytest.fixture
def logger(recorded: Recorded) -> Iterator[logging.Logger]:
    made = logging.Logger("shop.basket")  # noqa: LOG001  (of no tree, so that pytest's own handlers do not get it)
    handler = Handler(channel=recorded.channel)
    made.addHandler(handler)
    yield made
    handler.close()


class Unshowable:
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_a_message_is_a_log_named_like_its_logger(logger: logging.Logger, recorded: Recorded) -> None:
    logger.warning("%d items for %s", 3, "anna")
    (seen,) = recorded.seen()
    assert (seen.kind, seen.name) == ("log", logger.name)
    assert seen.own["level"] in {30, "warning"}
    line = seen.fields.pop("line")
    assert isinstance(line, int)
    assert line_of(__file__, line) == '    logger.warning("%d items for %s", 3, "anna")'
    assert seen.fields == {
        "message": "3 items for anna",
        "arguments": [3, "anna"],
        "file": __file__,
        "function": "test_a_message_is_a_log_named_like_its_logger",
    }


def line_of(file: str, line: int) -> str:
    return pathlib.Path(file).read_text().splitlines()[line - 1]


def test_extra_fields_are_fields(logger: logging.Logger, recorded: Recorded) -> None:
    logger.info("hello", extra={"user": "anna", "tries": [1, 2]})
    (seen,) = recorded.seen()
    assert seen.fields["user"] == "anna"
    assert seen.fields["tries"] == [1, 2]
    assert "arguments" not in seen.fields


def test_an_exception_is_there_with_type_text_and_traceback(logger: logging.Logger, recorded: Recorded) -> None:
    try:
        dict[str, int]()["missing"]
    except KeyError:
        logger.exception("lookup")
    (seen,) = recorded.seen()
    assert seen.fields["exception"] == "KeyError"
    assert seen.fields["exception_text"] == "'missing'"
    assert 'dict[str, int]()["missing"]' in str(seen.fields["traceback"])
    assert seen.own["level"] in {40, "error"}


def test_a_message_that_does_not_fit_its_arguments_is_recorded_as_it_stands(
    logger: logging.Logger, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.info("%d items", "three")
    (seen,) = recorded.seen()
    assert seen.fields["message"] == "%d items"
    assert str(seen.fields["error"]).startswith("TypeError: ")
    assert seen.fields["arguments"] == ["three"]
    assert capsys.readouterr().err == ""


def test_what_cannot_be_shown_neither_raises_nor_gets_lost(logger: logging.Logger, recorded: Recorded) -> None:
    logger.info("a thing: %s", Unshowable())
    try:
        raise ValueError(Unshowable())  # noqa: TRY301
    except ValueError:
        logger.info("an error", exc_info=True)
    thing, error = recorded.seen()
    assert thing.fields["message"] == "a thing: %s"
    assert thing.fields["arguments"] == ["<Unshowable>"]
    assert (error.fields["exception"], error.fields["exception_text"]) == ("ValueError", "")


def test_a_level_of_the_users_own_is_kept(logger: logging.Logger, recorded: Recorded) -> None:
    logger.log(25, "between")
    (seen,) = recorded.seen()
    assert seen.own["level"] in {25, "info"}


def test_nothing_is_formatted_while_nobody_reads(capsys: pytest.CaptureFixture[str]) -> None:
    handler = Handler()
    handler.handle(logging.makeLogRecord({"msg": "%s", "args": (Unshowable(),)}))
    assert capsys.readouterr().err == ""


def test_a_log_inside_a_span_names_it(logger: logging.Logger, recorded: Recorded) -> None:
    with recorded.channel.span("load"):
        logger.info("inside")
    begin, log, _ = recorded.seen()
    assert log.own["span"] == begin.own["span"] != 0


PROGRAM = """
import logging, logging.config, multiprocessing, sys

CONFIG = {
    "version": 1,
    "handlers": {"trace": {"class": "shmtrace.instrument.logging.Handler", "level": "INFO"}},
    "root": {"handlers": ["trace"], "level": "DEBUG"},
}

def work(number):
    logging.getLogger("worker").info("item %d", number)

if __name__ == "__main__":
    logging.config.dictConfig(CONFIG)
    logging.debug("not this")
    logging.info("begun")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, range(4), chunksize=1)
        pool.close()
        pool.join()
"""


def test_dict_config_makes_it_by_its_name_and_workers_log_too(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    result = commands.run("run", "-o", tmp_path / "trace", program)
    assert result.returncode == 0, result.stderr
    seen = [see(record) for record in shmtrace.read(tmp_path / "trace")]
    assert [log.fields["message"] for log in seen if log.name == "root"] == ["begun"]
    assert sorted(str(log.fields["message"]) for log in seen if log.name == "worker") == [f"item {n}" for n in range(4)]


def test_who_does_not_import_it_does_not_pay_for_it() -> None:
    code = "import shmtrace, sys; shmtrace.attach(); print([m for m in sys.modules if 'shmtrace.instrument' in m])"
    result = commands.run("-c", code, command=[sys.executable])
    assert result.stdout == "[]\n"
