"""What a peer's module offers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

START_METHOD: Final = "spawn"  # of all workers: the one that each of the peers supports without a caveat


@dataclass
class Recovered:
    """What is in a peer's files."""

    texts: Iterable[str]
    undecodable: list[str] = field(default_factory=list)  # parts of the files that cannot be read; grows with `texts`
    told: int = 0  # events that the peer itself says are lost, by number
    second_reader: int | None = None  # events that another program counts in the same files


class Peer(Protocol):
    """A module of this package."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """For people."""

    @property
    def PACKAGES(self) -> tuple[str, ...]:  # noqa: N802
        """What must be installed, by its name for pip."""

    @property
    def WARNING(self) -> str | None:  # noqa: N802
        """What the peer says on stderr when it drops events; a regular expression."""

    def command(self, directory: Path, module: str, arguments: list[str]) -> list[str]:
        """How a module is run under this peer."""

    def recording(self, directory: Path) -> AbstractContextManager[Any]:
        """Around the job, in its main process; gives what each worker is handed."""

    def emitter(self, handed: Any, directory: Path) -> Callable[[str], object]:  # noqa: ANN401 - each peer's own
        """In a worker: sets the peer up, gives what emits an event."""

    def finish(self) -> None:
        """In a worker that ends in order: what the peer's documentation says should be called at the end."""

    def recover(self, directory: Path) -> Recovered:
        """After the job."""


def plain_command(module: str, arguments: list[str]) -> list[str]:
    """Run a module under nothing but Python."""
    return [sys.executable, "-m", module, *arguments]
