"""One channel's collector: waits for a reader, and while there is one moves pages to the FIFO.

The jitted half does what touches lanes and pages; here is what decides when.  A thread a channel, which sleeps either
on the semaphore `full` or in poll on its FIFO, at most a flush interval; when nothing has happened for a while it
sleeps longer, and is woken by a look (watch.py) when there is something to do.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import math
import os
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

from .. import layout
from ..errors import CollectorRunning
from ..layout import CONTROL
from ..native.loader import libc
from ..native.tables import PUMP_CLASSES, PUMP_FULL, PUMP_IDLE
from ..process import is_owner_dead, start_ticks
from ..stats import segment_stats
from .fifo import FifoLost, WriteEnd, open_for_reader
from .living import has_left, is_dead
from .state import State
from .watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..segment import Segment

LOOK_S = 0.02  # so long does nobody look at a full pipe, or, where nobody would tell, whether the reader left
WAKE_S = 1.0  # however long the flush interval is: a post that died with a producer is not missed for longer
PROBE_S, PROBE_LATER_S = 0.02, 0.1  # how often is looked for a reader
QUIET_S = 0.5  # when nothing has been sent for so long, others look whether there is something to do
UPKEEP_S, UPKEEP_LATER_S = (
    1.0,
    10.0,
)  # so often does a thread with nothing to do look after lanes and writers of the dead
PATIENCE_S = 10.0  # "later" is after so long
NAP_S = 0.005  # after work: producers need not wake a collector that wakes by itself, and it disturbs them less often
FASTEST_BYTES_S = 4 << 30  # so fast do producers not fill pages
CLOCK_EVERY_S = CENSUS_EVERY_S = 1.0
MOST_POSTS = 10_000  # of `full` between two looks: more than there are pages to post for
STALLED_S = 1.0  # a reader that takes nothing for so long is not waited for when the collector must end
SETTLE_S = 0.1  # so long are busy lanes waited for at the end
CLOCK_MONOTONIC = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


libc.sem_clockwait.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Timespec))
libc.sem_trywait.argtypes = (ctypes.c_void_p,)


class ReaderLeft(Exception):
    """The last reader has closed the FIFO."""


class Collector:
    """The collector of one channel.  `run` returns when `stop` was called or the channel was removed."""

    def __init__(self, segment: Segment, say: Callable[[str], None]) -> None:
        """Take the segment's lock, which one collector holds; raises CollectorRunning."""
        self._segment = segment
        self._say = say
        self._stopping = threading.Event()
        self._woken = threading.Event()  # while nobody reads: by `stop`, or by what `_probe` found
        self._found: WriteEnd | FifoLost | OSError | None = None
        try:
            fcntl.flock(segment.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = segment.u32(CONTROL.collector_pid)
            raise CollectorRunning(f"the channel {segment.name!r} has a collector already: pid {pid}") from None
        pid, start = os.getpid(), start_ticks() or 0
        me = (
            (start & layout.OWNER_START_MASK) << layout.OWNER_START_SHIFT
            | (pid & layout.OWNER_PID_MASK) << layout.OWNER_PID_SHIFT
            | layout.UNKNOWN_WRITER
        )
        me -= (me >> 63) << 64  # as int64
        self._state = State(segment, me)
        self._flush_s = min(max(segment.u32(CONTROL.flush_ms), 1), 60_000) / 1000
        self._lanes = segment.geometry.lanes
        self._end: WriteEnd | None = None
        self._metadata = b""  # what is to be written before the next packet
        self._tokens_missing = 0
        self._unsettled = 0  # lanes that were not yet taken since recording went off
        self._doomed = False
        self._next_census = 0.0
        self._next_left = 0
        self._fruitless = False  # a page was full, and nothing came of it
        self._left_looks: dict[int, float] = {}  # owners of lanes, and when to ask again whether they left by exec
        self._blind = segment.is_foreign  # then nothing is reclaimed
        if self._blind:
            say(f"channel {segment.name!r} is of another pid or time namespace: what dead processes hold stays held")
        self._packets_before = 0
        pool = segment.geometry.pages * segment.geometry.page_size
        self._nap_s = min(NAP_S, pool / FASTEST_BYTES_S)
        self._longest_s = LOOK_S  # so long does it sleep at most while a reader is there
        self._next_flush = self._next_clock = self._last_work = 0.0
        segment.set_u32(CONTROL.asleep, 0)  # a predecessor may have been killed in its sleep
        segment.set_u64(CONTROL.collector_start, start)
        segment.set_u32(CONTROL.collector_pid, pid)

    @property
    def name(self) -> str:
        return self._segment.name

    def stop(self) -> None:
        """End: send what is committed, say goodbye.  From any thread."""
        self._stopping.set()
        self._woken.set()
        libc.sem_post(self._state.full)

    @cached_property
    def _maps_tell(self) -> bool:
        """What a process maps can be read here: our own segment is mapped, so it must be found."""
        return not self._blind and not has_left(os.getpid(), *self._segment.identity)

    @property
    def _ending(self) -> bool:
        return self._stopping.is_set() or self._segment.u32(CONTROL.removed) != 0

    def run(self) -> None:
        segment = self._segment
        try:
            self._state.sweep()
            resumed = segment.u32(CONTROL.recording) != 0  # a predecessor was killed
            if not resumed:  # or killed while it emptied the lanes
                self._switch_off(SETTLE_S)
                self._leave()
            while resumed or not self._ending:  # the reader of a predecessor gets the rest in any case
                try:
                    self._end = open_for_reader(segment.fifo) if resumed else self._wait_for_reader()
                    if self._end is not None:
                        self._serve(self._end, resumed=resumed)
                    elif resumed:  # its reader is gone, too
                        self._switch_off(SETTLE_S)
                        self._leave()
                    resumed = False
                except FifoLost as error:
                    if not self._ending:
                        self._say(f"{error}: channel {self.name!r} is not collected any more; remove it")
                    break
        finally:
            self._switch_off(SETTLE_S)
            self._leave()
            segment.set_u32(CONTROL.collector_pid, 0)
            segment.set_u32(CONTROL.goodbyes, segment.u32(CONTROL.goodbyes) + 1)
            if self._end is not None:
                self._end.close()  # after the goodbye: a reader that finds the end of the FIFO finds it, too
            if segment.u32(CONTROL.removed):
                segment.release_pages()

    def close(self) -> None:
        """Give the memory back, once `run` has returned."""
        self._state.close()

    # -- while nobody reads

    def _wait_for_reader(self) -> WriteEnd | None:
        """The FIFO's end once somebody reads; None if it is time to end."""
        began, told = time.monotonic(), False
        while not self._ending:
            is_late = time.monotonic() - began > PATIENCE_S
            interval_s = PROBE_LATER_S if is_late else PROBE_S
            self._woken.clear()
            if not self._probe():
                watch().every(interval_s, self._probe)
                self._woken.wait(PROBE_LATER_S if self._unsettled else self._upkeep_s(is_late=is_late))
                watch().take_back(interval_s, self._probe)
            found, self._found = self._found, None
            if isinstance(found, WriteEnd):
                return found
            if isinstance(found, FifoLost):
                raise found
            if found is not None:  # no descriptor left, for one: it may pass
                if not told:
                    told = True
                    self._say(f"the FIFO of channel {self.name!r} cannot be served: {found.strerror}; trying again")
                self._stopping.wait(PROBE_LATER_S)
            self._reclaim()
            self._free_writers()
            if self._unsettled:  # a stopped producer holds a lane since the last reader left
                self._unsettled = self._state.settle()
                self._empty()
        return None

    def _probe(self) -> bool:
        """A look: whether there is a reader, or something else to wake up for.  What was found is in `_found`."""
        try:
            self._found = open_for_reader(self._segment.fifo)
        except (FifoLost, OSError) as error:
            self._found = error
        self._look_for_the_name()
        if self._found is None and not self._ending:
            return False
        self._woken.set()
        return True

    # -- while somebody reads

    def _serve(self, end: WriteEnd, *, resumed: bool) -> None:
        """Send until the reader leaves or it is time to end.  `resumed`: to a reader that a predecessor had."""
        segment, state = self._segment, self._state
        segment.set_u32(CONTROL.period, segment.u32(CONTROL.period) + 1)
        self._describe()
        self._longest_s = WAKE_S if end.wake_at_departure(state.full) else LOOK_S
        segment.set_u32(CONTROL.reader, 1)
        state.enable(resumed=resumed)
        self._next_flush = self._next_clock = self._last_work = time.monotonic()
        is_behind = False  # the pipe was full
        try:
            while not self._ending:
                if not self._housekeep(end) and not is_behind and self._may_wait():
                    self._nap()
                    continue
                is_behind = self._push(end)
                if is_behind:
                    end.watch(room=True)
                    left = min(max(self._next_flush - time.monotonic(), 0.001), LOOK_S)
                    if end.is_abandoned(math.ceil(left * 1000)):
                        raise ReaderLeft  # noqa: TRY301
                elif state.wrote_packets != self._packets_before:
                    self._packets_before = state.wrote_packets
                    self._fruitless = False
                    self._last_work = time.monotonic()
                    self._nap()
                else:
                    self._sleep()
                    end.watch(room=False)
                    if end.is_abandoned():
                        raise ReaderLeft  # noqa: TRY301
            self._finish(end)
        except ReaderLeft:
            self._depart(end)

    def _push(self, end: WriteEnd) -> bool:  # noqa: C901
        """Write what there is; True if the pipe is full.  Raises ReaderLeft."""
        while True:
            if self._metadata:
                try:
                    wrote = os.write(end.file, self._metadata)
                except BlockingIOError:
                    return True
                except BrokenPipeError:
                    raise ReaderLeft from None
                self._metadata = self._metadata[wrote:]
                self._state.remember_metadata(wrote)
                continue
            status = self._state.pump(end.file)
            if status == PUMP_IDLE:
                return False
            if status == PUMP_FULL:
                return True
            if status == PUMP_CLASSES:
                self._describe()
            elif status == -errno.EPIPE:
                raise ReaderLeft
            elif status < 0:
                raise OSError(-status, f"the FIFO {self._segment.fifo} cannot be written: {os.strerror(-status)}")
            elif time.monotonic() >= self._next_flush:  # there is always more: look after the other things meanwhile
                self._housekeep(end)

    def _may_wait(self) -> bool:
        """There are full pages, and so many waiting ones that producers do not need these before the next flush.

        So a burst that fits into half of the pages is not disturbed by the collector.  Where few pages allow short naps
        only, looking again and again would cost more than to send.
        """
        pages = self._segment.geometry.pages
        return (
            self._nap_s == NAP_S and 2 * self._tokens() >= pages and self._state.has_full_page() and not self._metadata
        )

    def _nap(self) -> None:
        time.sleep(max(min(self._nap_s, self._next_flush - time.monotonic()), 0))

    def _housekeep(self, end: WriteEnd) -> bool:
        """What is due at each flush interval; whether it was."""
        now = time.monotonic()
        if now < self._next_flush:
            return False
        end.watch(room=False)
        if end.is_abandoned():
            raise ReaderLeft
        self._next_flush = now + self._flush_s
        if now >= self._next_clock:
            self._next_clock = now + CLOCK_EVERY_S
            self._state.want_clock()
        self._look_for_the_name()
        self._reclaim()
        self._free_writers()
        self._mend()
        if self._tokens() * 4 < self._segment.geometry.pages:
            self._state.seal()
        self._state.begin_flush()
        return True

    def _sleep(self) -> None:
        """Sleep until a page is full, or until there are other things to look after.

        `asleep` is stored before the last look; P9a does it the other way round, so that one of the two sees the other.
        """
        self._segment.set_u32(CONTROL.asleep, 1)
        try:
            if self._state.has_full_page():
                if self._fruitless:  # twice running: it can be neither sent nor mended for now
                    time.sleep(LOOK_S)
                self._fruitless = True
            elif not self._ending:
                self._fruitless = False
                now = time.monotonic()
                if now - self._last_work > max(QUIET_S, 2 * self._flush_s) and self._longest_s != LOOK_S:
                    self._sleep_while_quiet(now)
                else:
                    self._wait_for_a_post(min(self._next_flush, now + self._longest_s))
        finally:
            self._segment.set_u32(CONTROL.asleep, 0)
        for _ in range(MOST_POSTS):
            if libc.sem_trywait(self._state.full) != 0:
                break
        else:  # somebody has written nonsense into it, and waiting on it would not make us sleep
            time.sleep(NAP_S)

    def _sleep_while_quiet(self, now: float) -> None:
        """Sleep longer: until a look finds something at what would have been a flush, or it is time for the upkeep."""
        watch().every(self._flush_s, self._has_work)
        self._wait_for_a_post(now + self._upkeep_s(is_late=now - self._last_work > PATIENCE_S))
        watch().take_back(self._flush_s, self._has_work)
        self._next_flush = 0.0  # now

    def _upkeep_s(self, *, is_late: bool) -> float:
        """So long may a thread with nothing to do sleep."""
        return UPKEEP_LATER_S if is_late and not self._doomed else UPKEEP_S

    def _has_work(self) -> bool:
        """A look: something is to be sent or to be looked after."""
        self._look_for_the_name()
        if self._state.is_idle() and not self._ending:
            return False
        libc.sem_post(self._state.full)
        return True

    def _wait_for_a_post(self, wake: float) -> None:
        """Sleep on `full` until then."""
        until = _Timespec(int(wake), int(wake % 1 * 1e9))
        libc.sem_clockwait(self._state.full, CLOCK_MONOTONIC, until)

    def _look_for_the_name(self) -> None:
        """A segment that was unlinked by somebody else than `remove_channel` is removed, too."""
        if os.fstat(self._segment.file).st_nlink == 0 and not self._segment.u32(CONTROL.removed):
            self._segment.set_u32(CONTROL.removed, 1)

    def _reclaim(self) -> None:
        """Give back the lanes of processes that are dead; looked at are those whose owner did not change."""
        lane = -1 if self._blind else self._state.suspect(0)
        while lane >= 0:
            owner = self._segment.u64(self._segment.lane_at(lane) + layout.LANE.owner)
            if is_owner_dead(owner) or self._has_left(owner):
                self._state.reclaim(lane, owner - (owner >> 63 << 64))
            lane = self._state.suspect(lane + 1)

    def _has_left(self, owner: int) -> bool:
        """The owner has become another program by exec.  Looked at once a second, as it is not cheap."""
        now = time.monotonic()
        if now < self._left_looks.get(owner, 0):
            return False
        if len(self._left_looks) > self._lanes:
            self._left_looks.clear()
        self._left_looks[owner] = now + CENSUS_EVERY_S
        pid = owner >> layout.OWNER_PID_SHIFT & layout.OWNER_PID_MASK
        if owner & layout.UNKNOWN_WRITER == layout.UNKNOWN_WRITER:
            return False  # the word may by now be that of the new program, which gives back itself what was the old's
        return self._maps_tell and pid != 0 and has_left(pid, *self._segment.identity)

    def _mend(self) -> None:
        """M1: tokens that died with their holders."""
        missing = self._state.tokens_missing()
        for _ in range(min(missing, self._tokens_missing)):
            libc.sem_post(self._state.waiting)
        self._tokens_missing = max(missing, 0)
        self._state.take_tokens(self._tokens() - self._segment.geometry.pages)

    def _free_writers(self) -> None:
        """Give numbers of writers that are gone to others, once nothing that is not sent can name them."""
        now = time.monotonic()
        if now < self._next_census:
            return
        if self._doomed and self._state.free_doomed() < 0:
            return
        self._next_census = now + CENSUS_EVERY_S
        segment = self._segment
        # First who is in the table, then who is dead: what a process writes into it after it was judged is not touched.
        writers = self._state.census()
        alive: dict[int, bool] = {}
        for process in {identity & ~layout.IDENTITY_ENDED for _, identity in writers}:
            pid = process & (1 << layout.IDENTITY_PID_BITS) - 1
            alive[process] = self._blind or not is_dead(pid, process >> layout.IDENTITY_PID_BITS)
            if alive[process] and process == self._next_left:
                alive[process] = not (self._maps_tell and has_left(pid, *segment.identity))
        self._doomed = False
        for number, identity in writers:
            if identity & layout.IDENTITY_ENDED or not alive[identity & ~layout.IDENTITY_ENDED]:
                self._doomed |= self._state.doom(number)
        self._state.mark()
        # one process a census is asked whether it has become another program
        later = sorted(process for process, lives in alive.items() if lives)
        self._next_left = next((process for process in later if process > self._next_left), later[0] if later else 0)

    def _tokens(self) -> int:
        count = ctypes.c_int()
        libc.sem_getvalue(self._state.waiting, ctypes.byref(count))
        return count.value

    def _describe(self) -> None:
        """The metadata, complete, are the next thing that the reader gets."""
        self._metadata = self._state.describe()

    # -- the end of a period

    def _finish(self, end: WriteEnd) -> None:
        """It is time to end: what is committed is sent, as long as the reader takes it."""
        self._switch_off(SETTLE_S)
        patience = None if self._segment.u32(CONTROL.removed) == 2 else STALLED_S
        taken, since = -1, time.monotonic()
        rounds = 0
        while rounds < 3:  # a count may need a packet of its own, and that one ahead of it
            self._state.begin_flush()
            if not self._push(end):
                rounds += not self._state.flushing
                continue
            end.watch(room=True)
            if end.is_abandoned(20):
                raise ReaderLeft
            now = self._state.wrote_bytes - end.unread()
            if now != taken:
                taken, since = now, time.monotonic()
            elif (self._stopping.is_set() or patience is not None) and time.monotonic() - since > STALLED_S:
                self._say(f"the reader of channel {self.name!r} takes nothing any more: the rest is lost")
                break

    def _switch_off(self, patience: float) -> None:
        """D1, D2: recording off; wait a little for lanes that are just being written."""
        until = time.monotonic() + patience
        while (unsettled := self._state.settle()) and time.monotonic() < until:
            self._reclaim()
            time.sleep(0.001)
        self._unsettled = unsettled

    def _depart(self, end: WriteEnd) -> None:
        """The last reader left: count what it did not read, empty the lanes."""
        self._switch_off(0)
        self._state.depart(end.unread())
        self._leave()
        self._end = None
        end.close()  # and with it the pipe is empty

    def _leave(self) -> None:
        self._empty()
        self._metadata = b""
        self._segment.set_u32(CONTROL.reader, 0)

    def _empty(self) -> None:
        """D3: what is in the lanes is lost; all pages go back to the pool."""
        self._state.discard()
        self._state.seal()
        self._state.discard()

    def report(self) -> str:
        """What was done, in one line."""
        stats = segment_stats(self._segment)
        missed, lost = sum(stats["missed"].values()), sum(stats["lost"].values())
        return f"{self.name}: {stats['delivered']:,} events delivered, {missed:,} missed, {lost:,} lost"
