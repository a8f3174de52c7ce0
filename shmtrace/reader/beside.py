"""Another thread, which calls a function while this one goes on."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Beside"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Beside(Generic[Argument, Result]):
    """Calls of a function by one other thread, in order.  Costs less a call than an executor and its futures."""

    def __init__(self, function: Callable[[Argument], Result]) -> None:
        self._function = function
        self._given: SimpleQueue[tuple[Argument] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Result] | BaseException] = SimpleQueue()
        self._results: deque[tuple[Result] | BaseException] = deque()
        self._open = 0  # calls that may not have ended
        self._end: Callable[[], object] | None = None

    def __len__(self) -> int:
        """Calls whose results have not been taken."""
        return self._open + len(self._results)

    def call(self, argument: Argument) -> None:
        """Lets the other thread call the function."""
        if self._end is None:
            thread = threading.Thread(target=self._work, name="shmtrace-reader", daemon=True)
            thread.start()
            # Also when the program ends ahead of that: later, nobody who is waited for gets the GIL any more.
            self._end = weakref.finalize(self, _end, self._given, thread)
        self._open += 1
        self._given.put((argument,))

    def wait(self) -> None:
        """Until no call is going on."""
        while self._open:
            self._results.append(self._done.get())
            self._open -= 1

    def take(self) -> Result:
        """The first result that has not been taken.  Raises what the function raised."""
        if not self._results:
            self._results.append(self._done.get())
            self._open -= 1
        result = self._results.popleft()
        if isinstance(result, BaseException):
            raise result
        return result[0]

    def close(self) -> None:
        """Ends the thread, which finishes its calls first."""
        if self._end is not None:
            self._end()  # once

    def _work(self) -> None:
        while (argument := self._given.get()) is not None:
            try:
                self._done.put((self._function(*argument),))
            except BaseException as error:  # noqa: BLE001  # whoever takes the result gets it
                self._done.put(error)
            argument = None  # is in use as long as it has a name


def _end(given: SimpleQueue[Any], thread: threading.Thread) -> None:
    given.put(None)
    thread.join()
