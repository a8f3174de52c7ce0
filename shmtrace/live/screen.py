"""`shmtrace top` in a terminal."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.containers import Container
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from ..errors import ShmtraceError
from ..segment import channel_names, open_segment
from .look import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from textual.app import ComposeResult
    from textual.widget import Widget

__all__ = ["Top"]

SAMPLES = 10  # looks at the records in an interval
LEAST_NAME = 12  # columns of a name, however narrow the terminal
PADDING = 2  # columns beside what is in a cell
CHANNEL_COLUMNS = ("channel", "delivered/s", "missed/s", "lost/s", "fill %", "lag ms", "state")
KEYS = """\
 q            end
 s            sort the marked table by its next column
 r            turn its order round
 /            only its rows with a text; Escape: all
 p            pause, and go on
 Tab, arrows  to another table, another row
 Enter        another channel

Delivered, missed and lost are counted.
Rates by event and process are estimates: what was
delivered is split as the newest records in the pages.
Lag is the age of the oldest record that was not sent.

any key: back"""


class _Help(ModalScreen[None]):
    """What the keys do."""

    CSS = """
    _Help { align: center middle; }
    _Help Static { width: auto; max-width: 100%; height: auto; padding: 0 1; border: round $primary; }
    """

    def compose(self) -> ComposeResult:
        yield Static(KEYS, markup=False)

    def on_key(self) -> None:
        self.dismiss()


class _Rows:
    """A table: its columns, how its rows are made of what was found, and its order."""

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        self.id = name
        self.columns = columns
        self.by = 1  # column
        self.is_turned = False
        self.needle = ""  # only rows with this text show
        self.rows: list[tuple[Any, ...]] = []

    def shown(self) -> Iterator[tuple[Any, ...]]:
        """Those with a text in them, in order: numbers from the greatest on, text from A on."""
        rows = [row for row in self.rows if self.needle in " ".join(map(str, row)).lower()]
        is_number = any(isinstance(row[self.by], (int, float)) for row in rows)
        rows.sort(
            key=lambda row: (row[self.by] is not None, row[self.by] or 0) if is_number else str(row[self.by]).lower(),
            reverse=is_number != self.is_turned,
        )
        return iter(rows)


class Top(App[None]):
    """All channels, and of one of them the events and the processes."""

    TITLE = "shmtrace top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #channels { height: auto; max-height: 40%; }
    #detail { layout: grid; grid-size: 2; grid-gutter: 0 1; height: 1fr; }
    .-narrow #detail { grid-size: 1; }
    #detail DataTable { height: 1fr; }
    #state { height: auto; padding: 0 1; color: $text-muted; }
    #needle { display: none; height: 1; border: none; padding: 0 1; }
    #needle.open { display: block; }
    DataTable { scrollbar-size: 1 1; }
    DataTable:focus > .datatable--header { color: $text-accent; }
    """
    BINDINGS: ClassVar = [
        Binding("q", "quit", "End"),
        Binding("s", "sort", "Sort"),
        Binding("r", "turn", "Turn round"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "all", "All", show=False),
        Binding("p", "pause", "Pause"),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]

    def __init__(self, name: str | None, interval: float) -> None:
        super().__init__()
        self.HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]
        self._name, self._interval = name, interval
        self._chosen = name
        self._watches: dict[str, Watch] = {}
        self._found: dict[str, dict[str, Any]] = {}
        self._is_paused = False
        self._tables = {
            made.id: made
            for made in (
                _Rows("channels", CHANNEL_COLUMNS),
                _Rows("events", ("event", "about/s", "kind")),
                _Rows("processes", ("process", "about/s", "pid")),
            )
        }  # fmt: skip
        self._filtered = self._tables["channels"]  # the one that the text is for

    def compose(self) -> ComposeResult:
        yield Static(id="state", markup=False)
        yield self._table("channels")
        with Container(id="detail"):
            yield self._table("events")
            yield self._table("processes")
        yield Input(placeholder="show only rows with this text", id="needle")
        yield Footer()

    @staticmethod
    def _table(name: str) -> DataTable[Text]:
        return DataTable(id=name, cursor_type="row", zebra_stripes=True)

    def on_mount(self) -> None:
        self._refresh()
        self.call_after_refresh(self._show)  # now it is known how wide the tables are
        self.query_one("#channels", DataTable).focus()
        self.set_interval(self._interval, self._refresh)
        self.set_interval(self._interval / SAMPLES, self._sample)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def on_unmount(self) -> None:
        for watch in self._watches.values():
            watch.segment.unmap()
        self._watches.clear()

    # looking

    def _sample(self) -> None:
        for watch in self._watches.values():
            watch.sample()

    def _refresh(self) -> None:
        if self._is_paused:
            return
        self._look_for_channels()
        self._found = {name: watch.report() for name, watch in self._watches.items()}
        if self._chosen not in self._found:
            busy = [name for name, found in self._found.items() if found["recording"]]
            self._chosen = next(iter([*busy, *self._found]), self._name)
        self._show()

    def _look_for_channels(self) -> None:
        names = channel_names() if self._name is None else [self._name]
        for name, watch in list(self._watches.items()):
            if name not in names or self._is_another(name, watch):
                del self._watches[name]
                watch.segment.unmap()
        for name in names:
            if name not in self._watches:
                with suppress(ShmtraceError):
                    self._watches[name] = Watch(open_segment(name))

    @staticmethod
    def _is_another(name: str, watch: Watch) -> bool:
        """The channel was removed, and perhaps made anew."""
        try:
            now = open_segment(name)
        except ShmtraceError:
            return True
        identity = now.identity
        now.unmap()
        return identity != watch.segment.identity

    # showing

    def _show(self) -> None:
        self._tables["channels"].rows = [_channel_row(found) for found in self._found.values()]
        estimates = self._found.get(self._chosen or "", {}).get("estimates", {"events": [], "processes": []})
        self._tables["events"].rows = [(row["name"], row["rate"], row["kind"]) for row in estimates["events"]]
        self._tables["processes"].rows = [
            (row["process"] or "not known", row["rate"], row["pid"]) for row in estimates["processes"]
        ]
        for made in self._tables.values():
            self._fill(made)
        self.query_one("#state", Static).update(self._state())

    def _state(self) -> str:
        if not self._found:
            return "no channel" if self._name is None else f"{self._name}: removed"
        found = self._found[self._chosen or ""]
        missed = ", ".join(f"{reason} {count:,}" for reason, count in found["missed"].items() if count) or "0"
        lost = ", ".join(f"{reason} {count:,}" for reason, count in found["lost"].items() if count) or "0"
        marks = [f"{made.id} with {made.needle!r}" for made in self._tables.values() if made.needle]
        if self._is_paused:
            marks.append("PAUSED")
        parts = [
            str(found["name"]), str(found["mode"]), f"delivered {found['delivered']:,}", f"missed {missed}",
            f"lost {lost}", f"pages {found['pages_in_use']:,}/{found['pages']:,}", f"writers {found['writers']:,}",
            f"collector {found['collector'] or '-'}", *marks,
        ]  # fmt: skip
        return _wrapped(parts, self.size.width - PADDING)

    def _fill(self, made: _Rows) -> None:
        table = self.query_one(f"#{made.id}", DataTable)
        at, top = table.cursor_row, table.scroll_y
        table.clear(columns=True)
        heads = [
            column + ((" ↑" if made.is_turned else " ↓") if number == made.by else "")
            for number, column in enumerate(made.columns)
        ]
        rows = list(made.shown())
        cells = [[_cell(value) for value in row] for row in rows]
        room = _room_for_name(heads, cells, table.size.width - table.styles.scrollbar_size_vertical)
        for head in heads:
            table.add_column(head)
        for (name, *others), row in zip(cells, rows, strict=True):
            is_chosen = made.id == "channels" and row[0] == self._chosen
            table.add_row(Text(_shortened(name.plain, room), style="bold" if is_chosen else ""), *others)
        if rows:
            table.move_cursor(row=min(at, len(rows) - 1), scroll=False)
            table.scroll_y = top

    # keys

    def _focused(self) -> _Rows:
        focused: Widget | None = self.focused
        return self._tables.get((focused.id if focused else None) or "", self._tables["channels"])

    def action_sort(self) -> None:
        """Sort by the next column."""
        made = self._focused()
        made.by, made.is_turned = (made.by + 1) % len(made.columns), False
        self._show()

    def action_turn(self) -> None:
        """The other way round."""
        made = self._focused()
        made.is_turned = not made.is_turned
        self._show()

    def action_filter(self) -> None:
        """Ask for a text."""
        self._filtered = self._focused()
        needle = self.query_one("#needle", Input)
        needle.value = self._filtered.needle
        needle.add_class("open")
        needle.focus()

    def action_all(self) -> None:
        """Show all rows."""
        for made in self._tables.values():
            made.needle = ""
        self._close(self.query_one("#needle", Input))

    def action_pause(self) -> None:
        """Stop, or go on."""
        self._is_paused = not self._is_paused
        self._show()

    def action_help(self) -> None:
        """Tell the keys."""
        self.push_screen(_Help())

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.has_class("open"):
            self._filtered.needle = event.value.lower()
            self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._close(event.input)

    def _close(self, needle: Input) -> None:
        needle.remove_class("open")
        self.query_one(f"#{self._filtered.id}", DataTable).focus()
        self._show()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        if event.data_table.id == "channels":
            rows = list(self._tables["channels"].shown())
            if event.cursor_row < len(rows):
                self._chosen = rows[event.cursor_row][0]
                self._show()


def _channel_row(found: dict[str, Any]) -> tuple[Any, ...]:
    rates = found["rates"]
    state = "recording" if found["recording"] else "idle" if found["collector"] else "no collector"
    if found["mode"] == "overwrite":
        state = "overwrite"
    return (
        found["name"], rates["delivered"], rates["missed"], rates["lost"],
        100 * found["pages_in_use"] / found["pages"], found["lag_ms"], state,
    )  # fmt: skip


def _wrapped(parts: Sequence[str], width: int) -> str:
    """Beside each other, and below each other where there is no room; none is broken."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}   {part}"
        if cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return "\n".join(lines)


def _room_for_name(heads: Sequence[str], cells: Sequence[Sequence[Text]], width: int) -> int:
    """So many columns are left for a table's names, beside all that is in the others."""
    others = [max(len(head), *(row[at].cell_len for row in cells), 0) for at, head in enumerate(heads) if at]
    return max(LEAST_NAME, width - sum(others) - PADDING * len(heads))


def _shortened(name: str, room: int) -> str:
    """A name of no more columns; of one that is too long its beginning and its end."""
    if cell_len(name) <= room:
        return name
    end = (room - 1) // 2
    return f"{set_cell_size(name, room - 1 - end)}…{set_cell_size(name[::-1], end)[::-1]}"


def _cell(value: Any) -> Text:  # noqa: ANN401 - whatever a row has
    if value is None:
        return Text("-", justify="right")
    if isinstance(value, float):
        return Text(f"{value:,.1f}" if value < 100 else f"{value:,.0f}", justify="right")
    if isinstance(value, int):
        return Text(str(value), justify="right")
    return Text(value if value.isprintable() else ascii(value)[1:-1])
