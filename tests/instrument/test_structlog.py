"""The processor of structlog, with the real structlog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shmtrace.instrument.structlog import Processor

if TYPE_CHECKING:
    from collections.abc import Callable

    from instrument.recorded import Recorded


@pytest.fixture
def logger(recorded: Recorded, package: Callable[[str], None]) -> Any:
    """A logger, and what its chain gave behind the processor is in its `passed`."""
    package("structlog")
    import structlog

    output = structlog.testing.CapturingLogger()
    return structlog.wrap_logger(output, processors=[Processor(recorded.channel), structlog.processors.JSONRenderer()])


def test_an_event_is_a_log_of_its_name_with_its_fields(logger: Any, recorded: Recorded) -> None:
    logger.bind(user="anna").warning("basket full", items=[1, 2])
    (seen,) = recorded.seen()
    assert (seen.kind, seen.name) == ("log", "basket full")
    assert seen.fields == {"user": "anna", "items": [1, 2]}
    assert seen.own["level"] in {30, "warning"}


def test_the_dictionary_is_passed_on_unchanged(logger: Any, recorded: Recorded) -> None:
    given = {"event": "x", "n": 1, "exc_info": (ValueError, ValueError("y"), None)}
    before = dict(given)
    assert Processor(recorded.channel)(None, "info", given) is given
    assert given == before


def test_an_exception_is_there_with_type_text_and_traceback(logger: Any, recorded: Recorded) -> None:
    try:
        raise ValueError("too many")  # noqa: TRY301
    except ValueError:
        logger.exception("failed")
    (seen,) = recorded.seen()
    assert (seen.fields["exception"], seen.fields["exception_text"]) == ("ValueError", "too many")
    assert 'raise ValueError("too many")' in str(seen.fields["traceback"])
    assert "exc_info" not in seen.fields
    assert seen.own["level"] in {40, "error"}


def test_behind_a_renderer_the_text_is_recorded(recorded: Recorded) -> None:
    assert Processor(recorded.channel)(None, "info", "rendered") == "rendered"
    (seen,) = recorded.seen()
    assert (seen.name, seen.fields) == ("structlog", {"message": "rendered"})


def test_values_that_cannot_be_shown_do_not_raise(recorded: Recorded) -> None:
    class Unshowable:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    Processor(recorded.channel)(None, "info", {"event": "x", "value": Unshowable()})
    (seen,) = recorded.seen()
    assert seen.fields == {"value": "<Unshowable>"}
