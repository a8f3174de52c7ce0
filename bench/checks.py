"""The checks of `bench.audit`, in code of numba: whole packets of words of 64 bits, and tables of what was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numba

from shmtrace import wire

from .numbered import HEAD_WORDS, SIZES, WORD, digest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Words: TypeAlias = npt.NDArray[np.int64]

PACKET_WORDS, RECORD_WORDS = wire.PACKET_BYTES // WORD, wire.RECORD_BYTES // WORD
PACKET_BEGIN, PACKET_END = wire.PACKET.timestamp_begin // WORD, wire.PACKET.timestamp_end // WORD
PACKET_CONTENT, PACKET_SIZE = wire.PACKET.content_size // WORD, wire.PACKET.packet_size // WORD  # in bits
PACKET_NUMBER, PACKET_TOLD = wire.PACKET.packet_seq_num // WORD, wire.PACKET.events_discarded // WORD
PACKET_PLACE = wire.PACKET.cpu_id // WORD  # and the lane in its upper half
WRITER_PID, WRITER_NUMBER = wire.WRITER_BODY.pid // WORD, wire.WRITER_BODY.number // WORD
PACKET_MAGIC, METADATA_MAGIC = wire.PACKET_MAGIC, wire.METADATA_MAGIC
ID_BLOB, ID_WRITER, ID_CLOCK = wire.ID_BLOB, wire.ID_WRITER, wire.ID_CLOCK
LOW32, LOW16 = 0xFFFF_FFFF, 0xFFFF

FAULTS = (
    "", "more is to come", "a description", "no header where one should be", "another stream's uuid",
    "a lane or cpu that is none", "the packet's number does not follow", "the lane was another cpu's",
    "the count of refused events went down", "time runs backwards", "the records do not fill their packet",
    "a record that should not be there", "a writer that was not announced", "the event's size is wrong",
    "a producer that is none", "the event's words are wrong", "the event came twice, or after a later one",
    "the event is another thread's",
)  # fmt: skip
(
    GOOD, MORE, DESCRIPTION, NO_HEADER, FOREIGN, NO_PLACE, NOT_NEXT, OTHER_CPU, TOLD_LESS, BACKWARDS, NOT_FILLED,
    UNKNOWN, UNANNOUNCED, WRONG_SIZE, NO_PRODUCER, WRONG_WORDS, NOT_AFTER, OTHER_THREAD,
) = range(len(FAULTS))  # fmt: skip

# columns of the tables
LANE_NEXT, LANE_TOLD, LANE_STAMP, LANE_CPU = range(4)
SOURCE_COUNT, SOURCE_DIGEST, SOURCE_BYTES, SOURCE_THREAD = range(4)
TOTAL_PACKETS, TOTAL_OTHERS = range(2)

njit: Any = numba.njit
digested = njit(inline="always")(digest)


class Seen(NamedTuple):
    """What came so far."""

    uuid: Words  # as the first three words of a packet have it
    lanes: Words  # a row for each lane: next packet, refused events told, last stamp, cpu
    cpus: Words  # events of each
    sources: Words  # a row for each producer: events, sum of digests, bytes, pid and tid
    last: Words  # the last number of each lane and producer
    threads: Words  # of each lane and writer number: pid and tid, as announced
    totals: Words  # packets; records of the collector


@njit
def check_header(words: Words, at: int, seen: Seen) -> int:
    """Of a whole packet; a fault."""
    cpu, lane = words[at + PACKET_PLACE] & LOW32, words[at + PACKET_PLACE] >> 32
    if words[at] >> 32 != seen.uuid[0] or words[at + 1] != seen.uuid[1] or words[at + 2] != seen.uuid[2]:
        return FOREIGN
    if not (0 <= lane < len(seen.lanes) and 0 <= cpu < len(seen.cpus)):
        return NO_PLACE
    mine = seen.lanes[lane]
    if words[at + PACKET_NUMBER] != mine[LANE_NEXT]:
        return NOT_NEXT
    if mine[LANE_NEXT] != 0 and cpu != mine[LANE_CPU]:
        return OTHER_CPU
    if words[at + PACKET_TOLD] < mine[LANE_TOLD]:
        return TOLD_LESS
    if words[at + PACKET_BEGIN] < mine[LANE_STAMP] or words[at + PACKET_END] < words[at + PACKET_BEGIN]:
        return BACKWARDS
    mine[LANE_NEXT] += 1
    mine[LANE_TOLD], mine[LANE_STAMP], mine[LANE_CPU] = words[at + PACKET_TOLD], words[at + PACKET_END], cpu
    return GOOD


@njit
def check_records(words: Words, at: int, end: int, seen: Seen) -> int:
    """Of a whole packet whose header is good; a fault."""
    sources, last, threads, events = seen.sources, seen.last, seen.threads, 0
    cpu, lane = words[at + PACKET_PLACE] & LOW32, words[at + PACKET_PLACE] >> 32
    content = at * WORD + (words[at + PACKET_CONTENT] >> 3)
    stamp = words[at + PACKET_BEGIN]
    record = at + PACKET_WORDS
    filled = record * WORD
    while record < end:
        if record + RECORD_WORDS > end:
            return NOT_FILLED
        head = words[record + 1]
        kind, writer, size = head & LOW16, (head >> 32) & LOW16, (head >> 48) & LOW16
        if words[record] < stamp:
            return BACKWARDS
        stamp = words[record]
        body = record + RECORD_WORDS
        filled = body * WORD + size
        record = body + (size + WORD - 1) // WORD
        if record > end:
            return NOT_FILLED
        if kind == ID_BLOB:
            if writer >= threads.shape[1] or threads[lane, writer] == 0:
                return UNANNOUNCED
            if size < HEAD_WORDS * WORD:
                return WRONG_SIZE
            source, number = words[body], words[body + 1]
            if size != (HEAD_WORDS + number % SIZES) * WORD:
                return WRONG_SIZE
            if not 0 <= source < len(sources):
                return NO_PRODUCER
            for word in range(body + HEAD_WORDS, record):
                if words[word] != number:
                    return WRONG_WORDS
            if number <= last[lane, source]:
                return NOT_AFTER
            last[lane, source] = number
            if sources[source, SOURCE_COUNT] == 0:
                sources[source, SOURCE_THREAD] = threads[lane, writer]
            elif sources[source, SOURCE_THREAD] != threads[lane, writer]:
                return OTHER_THREAD
            sources[source, SOURCE_COUNT] += 1
            sources[source, SOURCE_DIGEST] += digested(number)
            sources[source, SOURCE_BYTES] += size
            events += 1
        elif kind == ID_WRITER:
            number = words[body + WRITER_NUMBER] & LOW16
            if number >= threads.shape[1]:
                return UNKNOWN
            threads[lane, number] = words[body + WRITER_PID]
            seen.totals[TOTAL_OTHERS] += 1
        elif kind == ID_CLOCK:
            seen.totals[TOTAL_OTHERS] += 1
        else:
            return UNKNOWN
    seen.cpus[cpu] += events
    return GOOD if filled == content and stamp <= words[at + PACKET_END] else NOT_FILLED


@njit(nogil=True, cache=True)
def take(words: Words, count: int, seen: Seen) -> tuple[int, int]:
    """Check whole packets; how many of the first `count` words were taken, and why no more."""
    at = 0
    while at < count:
        magic = words[at] & LOW32
        if magic == METADATA_MAGIC:
            return at, DESCRIPTION
        if magic != PACKET_MAGIC:
            return at, NO_HEADER
        if count - at < PACKET_WORDS or count - at < words[at + PACKET_SIZE] >> 6:
            return at, MORE
        end = at + (words[at + PACKET_SIZE] >> 6)
        fault = check_header(words, at, seen)
        if fault == GOOD:
            fault = check_records(words, at, end, seen)
        if fault != GOOD:
            return at, fault
        seen.totals[TOTAL_PACKETS] += 1
        at = end
    return at, MORE
