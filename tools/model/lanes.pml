/* Lanes and pages: the steps of shmtrace/native/lanes.py (P, of producers) and collect.py (C, E, R, Q, M, D, of the
   collector), each one transition, named as there.  SIGKILL strikes between any two of them: `unless` at the end of each
   process.  A load of words that nobody else can change at that moment is one transition with the step before it: a kill
   between the two leaves the same memory as a kill before both.

   One cpu, LANES lanes, PAGES pages of ROOM records, WRITERS producers that emit EVENTS records each, one collector.
   Sequences of pages are modulo 8, numbers of packets modulo 8: both wrap within a run.  What a recycled page, its
   descriptor and a used `first` held is poisoned, so that any use of a stale one is found.

   What is checked: an assertion for each word that is written by who does not hold it; the reader's at each packet; and
   at rest those at the end of the collector.  That no producer waits is the never claim at the end of the file. */

#ifndef LANES
#define LANES 2
#endif
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef EVENTS
#define EVENTS 1
#endif
#ifndef PAGES
#define PAGES 3
#endif
#ifndef ROOM
#define ROOM 2
#endif
#ifndef KILLS
#define KILLS 1                /* of producers, at most one each */
#endif
#ifndef RESTARTS
#define RESTARTS 1             /* kills of the collector */
#endif
#ifndef DEPARTURES
#define DEPARTURES 0           /* of the reader */
#endif
#ifndef COUNTS
#define COUNTS 0               /* packets that carry no records, only the count of missed ones */
#endif
#ifndef BATCH
#define BATCH 3                /* packets of a batch */
#endif
#define NONE PAGES
#define MASK 7
#define AFTER(n) (((n) + 1) & MASK)
#define AGE(a, b) (((a) - (b)) & MASK)
#define COLLECTOR (WRITERS + 1)

/* -- shared memory; a struct is one word */
typedef position_t { byte seq, page, size };
typedef packet_t { byte packet, page, size };          /* progress and note */
typedef totals_t { byte packet, delivered, lost };     /* three words */
typedef lane_t {
  byte owner;                                          /* 0 free, 1.. a producer, COLLECTOR */
  byte first;                                          /* the lane's own descriptor: successor of "no page" */
  position_t position;
  packet_t progress, note;
#ifdef TOTALS
  totals_t totals[2];                                  /* slot packet & 1 is valid */
#endif
};
typedef page_t {
  byte lane, seq;                                      /* owner: one word; lane 0: the page waits */
  byte next, length;
  byte record[ROOM];
};
lane_t lane[LANES];
page_t page[PAGES];
byte waiting = PAGES;                                  /* the semaphore */
bool recording = 1;

/* -- ghosts: what nobody in the protocol can see */
chan committed[LANES] = [WRITERS * EVENTS] of { byte };    /* and not yet with the reader, nor counted lost */
byte expected[LANES];                                  /* the packet that the reader waits for */
byte count[LANES];                                     /* committed in all */
byte pending;                                          /* committed, and event() did not return */
bool dead[WRITERS], done[WRITERS], struck, settled;
#if DEPARTURES
byte departures = DEPARTURES;
#endif
#if COUNTS
byte counts = COUNTS;                                 /* one lane only */
#endif

inline recycled(number) {
  page[number].lane = 0; page[number].seq = 0; page[number].next = NONE; page[number].length = 0;
  record = 0;
  do :: record < ROOM -> page[number].record[record] = 0; record++ :: else -> break od;
  record = 0
}

/* -- a producer */

#define ME (me - 1)
#define HERE lane[l].position

inline commit() {                      /* P11 */
  assert(lane[l].owner == me && HERE.size < ROOM && !settled);
  HERE.size++; pending++; count[l]++;
  committed[l]!(ME * EVENTS + event + 1)
}

inline successor() {
  if
  :: HERE.page == NONE -> lane[l].first = new                                   /* P8 successor, of no page */
  :: else -> page[HERE.page].length = HERE.size; page[HERE.page].next = new     /* P7 length, P8 successor */
  fi
}

proctype Producer(byte me) {
  byte event, l, i, new, old, size;
  {
  do
  :: event < EVENTS ->
#if DEPARTURES
     if :: recording :: !recording -> goto over fi;                           /* P1 look */
#endif
#ifdef WAIT_FOR_LANE
     atomic { lane[0].owner == 0 -> lane[0].owner = me };
#else
     if                                                                         /* P2 take: CAS */
     :: atomic { lane[0].owner == 0 -> lane[0].owner = me }
     :: atomic { lane[0].owner != 0 -> l = 1 };
#if LANES == 2
        if
        :: atomic { lane[1].owner == 0 -> lane[1].owner = me }
        :: atomic { lane[1].owner != 0 -> goto over }                         /* missed: no lane */
        fi
#else
        goto over
#endif
     fi;
#endif
#if DEPARTURES && !defined(LOOK_ONCE)
     if :: recording :: !recording -> goto give_back fi;                        /* P3 look again */
#endif
     if                                                                         /* P4 read */
     :: HERE.page == NONE || HERE.size == ROOM ->
#ifdef SEMAPHORE
        if :: atomic { waiting > 0 -> waiting-- } :: waiting == 0 -> goto give_back fi;         /* P5 token */
#endif
        do                                                                      /* P6 page: CAS, two rounds */
        :: atomic { i < 2 * PAGES && page[i % PAGES].lane == 0 ->
                    page[i % PAGES].lane = l + 1; page[i % PAGES].seq = AFTER(HERE.seq);
                    new = i % PAGES; i = 0; break }
        :: atomic { i < 2 * PAGES && page[i % PAGES].lane != 0 -> i++ }
        :: atomic { i == 2 * PAGES -> goto give_back }                          /* missed: the token is not given back */
        od;
        assert(lane[l].owner == me);
#ifdef POSITION_FIRST
        d_step { old = HERE.page; size = HERE.size; HERE.seq = AFTER(HERE.seq); HERE.page = new; HERE.size = 0 };
        if :: old == NONE -> lane[l].first = new :: else -> page[old].length = size; page[old].next = new fi;
#else
        successor();
        d_step {                                                                /* P9 switch */
          assert(lane[l].owner == me);
          HERE.seq = AFTER(HERE.seq); HERE.page = new; HERE.size = 0
        };
#endif
        d_step { new = 0; old = 0; size = 0 }
     :: else
     fi;
#ifdef OWNER_FIRST
     lane[l].owner = 0;
#endif
#ifdef COMMIT_FIRST
     d_step { commit() };
     page[HERE.page].record[HERE.size - 1] = ME * EVENTS + event + 1;
#else
     d_step {                                                                   /* P10 record */
       assert(lane[l].owner == me && page[HERE.page].lane == l + 1 && page[HERE.page].seq == HERE.seq);
       page[HERE.page].record[HERE.size] = ME * EVENTS + event + 1
     };
     d_step { commit() };                                                       /* P11 commit */
#endif
#ifdef OWNER_FIRST
     pending--;
#else
     d_step { assert(lane[l].owner == me); lane[l].owner = 0; pending-- };       /* P12 give back: accepted */
#endif
     goto over;
give_back:
     atomic { assert(lane[l].owner == me); lane[l].owner = 0 };                 /* P12 give back: refused */
over:
     atomic { event++; l = 0; i = 0; new = 0 }
  :: event == EVENTS -> break
  od;
  atomic { done[ME] = 1; event = 0 }
  } unless { dead[ME] -> d_step { event = 0; l = 0; i = 0; new = 0; old = 0; size = 0 } }
}

/* -- the collector */

#define PROGRESS lane[l].progress
#define NOTE lane[l].note
#ifdef SEMAPHORE
#define POST waiting++
#else
#define POST skip
#endif

/* A packet of the batch: its number, what of which page, and the progress after it. */
typedef send_t { byte packet, page, begin, end, next; bool whole, bare };

/* The packet leaves: the reader takes the expected one and drops a copy. */
inline deliver() {
  if
  :: !send[wrote].bare && send[wrote].begin == send[wrote].end                 /* a page of which nothing is left */
  :: else ->
     assert(send[wrote].bare || page[send[wrote].page].lane == l + 1);
     if
     :: send[wrote].packet == expected[l] ->
        take();
        expected[l] = AFTER(expected[l])
     :: else -> assert(AGE(expected[l], send[wrote].packet) <= BATCH)
     fi
  fi;
  wrote++
}

inline take() {
  i = send[wrote].begin;
  do
  :: i < send[wrote].end ->
     assert(len(committed[l]) > 0);
     committed[l]?record;
     assert(record == page[send[wrote].page].record[i]);
     i++
  :: else -> break
  od;
  i = 0; record = 0
}

/* The walk over a lane's chain, with progress in registers.  All that it reads is the collector's own or sealed. */
inline gather() {
  at.packet = PROGRESS.packet; at.page = PROGRESS.page; at.size = PROGRESS.size;
#if COUNTS
#ifndef COUNT_WITHOUT_NOTE
  if
  :: NOTE.packet == at.packet && NOTE.page == NONE -> bare = 1                  /* C3a resume: it carries no records */
  :: else
  fi;
#endif
  if :: put_count && !begun -> bare = 1 :: else fi;    /* what was missed before this reader's first packet */
#endif
  do
  :: at.page == NONE || n == BATCH || bare -> break
  :: else ->
     if
     :: at.page == seen.page -> end = seen.size; next = NONE; sealed = 0
     :: else ->                                                                 /* C3 chain */
        end = page[at.page].length; next = page[at.page].next; sealed = 1;
        assert(page[at.page].lane == l + 1);
        assert(next == NONE || (page[next].lane == l + 1 && page[next].seq == AFTER(page[at.page].seq)))
     fi;
     assert(end >= at.size && end <= ROOM);
     if :: !sealed && (!flush || end == at.size) -> break :: else fi;
     whole = sealed;
#ifndef NO_NOTE
     if                                                                         /* C3a resume */
     :: NOTE.packet == at.packet && NOTE.page == at.page && NOTE.size > at.size ->
        assert(NOTE.size <= end);
        whole = sealed && NOTE.size == end; end = NOTE.size
     :: else
     fi;
#endif
     send[n].packet = at.packet; send[n].page = at.page; send[n].begin = at.size; send[n].end = end;
     send[n].whole = whole; send[n].next = (whole -> next : at.page);
     if :: end > at.size -> at.packet = AFTER(at.packet) :: else fi;
     if
     :: whole -> at.page = next; at.size = 0
     :: else ->
        noted.packet = send[n].packet; noted.page = at.page; noted.size = end; note_due = 1; at.size = end
     fi;
     n++;
#ifndef GO_ON_AFTER_NOTE
     if :: !whole -> break :: else fi
#endif
  od;
#if COUNTS
  if
  :: bare || (put_count && flush && n == 0) ->          /* all is sent, so that no reader can have this number */
     send[0].packet = at.packet; send[0].bare = 1; n = 1; counts = counts - (counts > 0 && put_count);
     noted.packet = at.packet; noted.page = NONE; note_due = 1
  :: else
  fi;
  begun = begun || n > 0; bare = 0;
#endif
  at.packet = 0; at.page = 0; at.size = 0; end = 0; next = 0; sealed = 0; whole = 0
}

/* C7: what the packet leaves behind, in one word. */
inline advance() {
  assert(PROGRESS.packet == send[did].packet);
  if :: send[did].bare || send[did].end > send[did].begin -> PROGRESS.packet = AFTER(PROGRESS.packet) :: else fi;
  if
  :: send[did].bare
  :: else ->
     PROGRESS.page = send[did].next;
     PROGRESS.size = (send[did].whole -> 0 : send[did].end)
  fi;
  if                                                   /* a note of a packet that is behind us means nothing */
  :: AGE(PROGRESS.packet, NOTE.packet) == 1 -> NOTE.packet = MASK; NOTE.page = 0; NOTE.size = 0
  :: else
  fi
}

#define OLD lane[l].totals[send[did].packet & 1]
#ifdef TOTALS_IN_PLACE
#define NEW OLD
#else
#define NEW lane[l].totals[AFTER(send[did].packet) & 1]
#endif

inline recycle() {
  if
  :: send[did].whole -> d_step { recycled(send[did].page) };                    /* C8 recycle */
     POST                                                                       /* C9 post */
  :: else
  fi
}

/* C1 to C9, or with `off` D3: the same without C6, counted as lost. */
inline batch() {
  atomic { seen.page = HERE.page; seen.size = HERE.size };                      /* C1 look */
  if
  :: PROGRESS.page == NONE && seen.page != NONE ->
     d_step { PROGRESS.page = lane[l].first; PROGRESS.size = 0; lane[l].first = NONE }          /* C2 first */
  :: else
  fi;
  d_step { gather() };                                                          /* C3 chain, C3a resume */
  if
  :: note_due ->
#if COUNTS && defined(COUNT_WITHOUT_NOTE)
     if :: !send[0].bare -> d_step { NOTE.packet = noted.packet; NOTE.page = noted.page; NOTE.size = noted.size } :: else fi;
#else
     d_step { NOTE.packet = noted.packet; NOTE.page = noted.page; NOTE.size = noted.size };     /* C5 note */
#endif
     d_step { noted.packet = 0; noted.page = 0; noted.size = 0; note_due = 0 }
  :: else
  fi;
  do
  :: off == 0 && wrote < n -> d_step { deliver() }                              /* C6 send: as much as there is room for */
  :: off != 0 && wrote < n -> d_step { deliver() }                              /* D3 discard */
  :: did < wrote ->
#ifdef TOTALS
     if
     :: send[did].bare || send[did].end > send[did].begin ->
        assert(OLD.packet == PROGRESS.packet);
        if                                                                      /* C4 totals, word by word */
        :: off == 0 -> NEW.delivered = OLD.delivered + send[did].end - send[did].begin; NEW.lost = OLD.lost
        :: else -> NEW.delivered = OLD.delivered; NEW.lost = OLD.lost + send[did].end - send[did].begin
        fi;
        NEW.packet = AFTER(send[did].packet)
     :: else
     fi;
#endif
#ifdef RECYCLE_FIRST
     recycle();
     d_step { advance() };
#else
     d_step { advance() };                                                      /* C7 progress */
     recycle();
#endif
     d_step { send[did].packet = 0; send[did].page = 0; send[did].begin = 0; send[did].end = 0; send[did].next = 0;
              send[did].whole = 0; send[did].bare = 0; did++ }
  :: did == n -> break
  od;
  atomic { n = 0; did = 0; wrote = 0; flush = 0; put_count = 0; seen.page = 0; seen.size = 0 }
}

/* D3: what the reader left in the pipe goes from delivered to lost, by the number of a packet that is never sent. */
inline depart() {
  n = PROGRESS.packet;
  lane[l].totals[AFTER(n) & 1].lost = lane[l].totals[n & 1].lost + lane[l].totals[n & 1].delivered;     /* C4 totals */
  lane[l].totals[AFTER(n) & 1].delivered = 0;
  lane[l].totals[AFTER(n) & 1].packet = AFTER(n);
  d_step { PROGRESS.packet = AFTER(n); expected[l] = AFTER(n); n = 0 }          /* C7 progress */
}

inline reclaim() {                     /* only of who was judged dead (R1): nobody else changes this lane */
  lane[l].owner = COLLECTOR;                                                    /* R2 take over: CAS */
  do
  :: i < PAGES ->
     if
     :: d_step { page[i].lane == l + 1 && page[i].seq == AFTER(HERE.seq) -> recycled(i) };      /* R3 orphan */
        POST                                                                    /* R4 orphan: post */
     :: !(page[i].lane == l + 1 && page[i].seq == AFTER(HERE.seq))
     fi;
     i++
  :: i == PAGES -> break
  od;
  atomic { lane[l].owner = 0; i = 0 }                                           /* R5 give back */
}

inline seal() {
  if
  :: atomic { lane[l].owner == 0 -> lane[l].owner = COLLECTOR };                /* E1 seal: CAS */
     if
     :: HERE.page != NONE && HERE.page == PROGRESS.page && HERE.size == PROGRESS.size ->
        page[HERE.page].length = HERE.size;                                     /* E2 seal: length */
        page[HERE.page].next = NONE;                                            /* E3 seal: successor */
        d_step { HERE.seq = AFTER(HERE.seq); HERE.page = NONE; HERE.size = 0 }  /* E4 seal: switch */
     :: else
     fi;
     lane[l].owner = 0                                                          /* E5 seal: give back */
  :: lane[l].owner != 0
  fi
}

/* The lane's oldest page, and the sequence of the oldest or, without one, of the next. */
#define HEAD (PROGRESS.page != NONE -> PROGRESS.page : (HERE.page != NONE -> lane[l].first : NONE))
#define OLDEST (HEAD != NONE -> page[HEAD].seq : AFTER(HERE.seq))

inline sweep() {                       /* Q1: what a dead collector had sent and not given back */
  do
  :: i < PAGES && page[i].lane == 0 -> i++
  :: i < PAGES && page[i].lane != 0 ->
     d_step { l = page[i].lane - 1; seen.page = page[i].seq };                  /* Q1 sweep: the owner's word first */
     end = OLDEST;                                                              /* Q1 sweep: then the lane's words */
     if
#ifdef SWEEP_BY_LANE
     :: HERE.page != i && HEAD != i && !(HEAD != NONE && HEAD != HERE.page && page[HEAD].next == i) ->
#else
     :: AGE(end, seen.page) >= 1 && AGE(end, seen.page) <= MASK / 2 ->
#endif
        d_step { recycled(i) };                                                 /* Q1 sweep: store 0 */
        POST                                                                    /* Q1 sweep: post */
     :: else
     fi;
     d_step { i++; l = 0; end = 0; seen.page = 0 }
  :: i == PAGES -> break
  od;
  i = 0
}

#define IS_DEAD(l) (lane[l].owner == COLLECTOR || (lane[l].owner > 0 && dead[lane[l].owner - 1]))
#define UNFINISHED(l) (lane[l].owner != 0 || lane[l].progress.page != lane[l].position.page || \
                       lane[l].progress.size != lane[l].position.size)
#define FREE(p) (page[p].lane == 0)
#define FREE_PAGES (FREE(0) + FREE(1) + (PAGES > 2 && FREE(PAGES - 1)))   /* 2 or 3 pages */
#define ALL_DONE (done[0] && done[WRITERS - 1])
#define LAST (LANES - 1)

proctype Collector() {
  byte l, n, wrote, did, end, next, i, record, off;
  bool sealed, whole, flush, put_count, bare, begun, note_due, again, final, moved;
  position_t seen;
  packet_t at, noted;
  send_t send[BATCH];
start:
  {
#ifndef NO_SWEEP
  if :: again -> sweep() :: !again fi;
#endif
  do
  :: !final && ALL_DONE -> final = 1
  :: !final ->
#if LANES == 2
     atomic { if :: l = 0 :: l = 1 fi };
#endif
     if
     :: goto send_lane                                                          /* full pages only */
     :: atomic { flush = 1; goto send_lane }
#if COUNTS
     :: atomic { off == 0 && counts > 0 -> put_count = 1; flush = 1; goto send_lane }
#endif
#ifdef RECLAIM_LIVING
     :: lane[l].owner != 0 -> reclaim()
#else
     :: IS_DEAD(l) -> reclaim()
#endif
#ifdef SEAL
     :: PROGRESS.page != NONE && PROGRESS.page == HERE.page && PROGRESS.size == HERE.size -> seal()
#endif
     fi;
     l = 0
#if DEPARTURES
  :: !final && recording && off == 0 && departures > 0 ->
     d_step { recording = 0; off = 1; departures-- }                            /* D1 disable */
  :: !final && off >= 1 && off <= LANES ->
     l = off - 1;
     if
     :: IS_DEAD(l) -> reclaim()
     :: atomic { lane[l].owner == 0 -> lane[l].owner = COLLECTOR };             /* D2 settle: CAS */
        d_step { lane[l].owner = 0; off++; settled = (off > LANES) }            /* D2 settle: give back */
     :: else
     fi;
     l = 0
#ifdef TOTALS
  :: !final && off == 1 && PROGRESS.packet == expected[l] && !moved -> depart(); moved = 1
#endif
  :: !final && !recording && (off == 0 || off > LANES) ->                       /* a reader has come */
     d_step { settled = 0; off = 0; moved = 0; recording = 1 }
#endif
  :: final && (UNFINISHED(0) || UNFINISHED(LAST)) ->
     d_step { l = (UNFINISHED(0) -> 0 : LAST); flush = (lane[l].owner == 0) };
     if
     :: !flush -> assert(IS_DEAD(l)); reclaim()
     :: flush ->
send_lane: batch()
     fi;
     l = 0
  :: final && !UNFINISHED(0) && !UNFINISHED(LAST) -> break
  od;
  skip;
  d_step {                                                                      /* at rest */
#if defined(SEMAPHORE) && !defined(NO_MEND)
    if :: waiting < FREE_PAGES -> waiting = FREE_PAGES :: else fi;              /* M1 mend */
#endif
    assert(waiting >= FREE_PAGES);
    i = 0;
    do
    :: i < LANES ->                    /* all committed is delivered or lost, and counted so; no lane is held */
       assert(len(committed[i]) == 0 && lane[i].owner == 0);
#ifdef TOTALS
       n = lane[i].progress.packet;
       assert(lane[i].totals[n & 1].packet == n);
       assert(lane[i].totals[n & 1].delivered + lane[i].totals[n & 1].lost == count[i]);
       assert(DEPARTURES > 0 || lane[i].totals[n & 1].lost == 0);
#endif
       i++
    :: else -> break
    od;
    assert(pending <= dead[0] + (WRITERS > 1 && dead[WRITERS - 1]));            /* accepted <= delivered + lost <= accepted + kills */
    i = 0; n = 0;
    do                                 /* each page waits or is the current page of exactly one lane */
    :: i < PAGES ->
       assert(FREE(i) || (lane[page[i].lane - 1].position.page == i && page[i].seq == lane[page[i].lane - 1].position.seq));
       n = n + !FREE(i);
       i++
    :: else -> break
    od;
    assert(n == (lane[0].position.page != NONE) + (LANES > 1 && lane[LAST].position.page != NONE));
    i = 0; n = 0
  }
  } unless { struck -> d_step {
      struck = 0; again = 1; begun = 1; settled = 0;
      l = 0; n = 0; wrote = 0; did = 0; end = 0; next = 0; record = 0; off = 0;
      sealed = 0; whole = 0; flush = 0; put_count = 0; note_due = 0; final = 0; moved = 0;
      seen.page = 0; seen.size = 0; at.packet = 0; at.page = 0; at.size = 0;
      noted.packet = 0; noted.page = 0; noted.size = 0;
      i = 0;
      do
      :: i < BATCH -> send[i].packet = 0; send[i].page = 0; send[i].begin = 0; send[i].end = 0; send[i].next = 0;
         send[i].whole = 0; send[i].bare = 0; i++
      :: else -> break
      od;
      i = 0 }; goto start }
}

/* -- SIGKILL */

proctype Killer() {
  byte kills = KILLS, restarts = RESTARTS;
end_idle:
  do
  :: d_step { kills > 0 && !done[0] -> kills--; dead[0] = 1; done[0] = 1 }
#if WRITERS == 2
  :: d_step { kills > 0 && !done[1] -> kills--; dead[1] = 1; done[1] = 1 }
#endif
  :: d_step { restarts > 0 && !struck -> restarts--; struck = 1 }
  od
}

#ifdef NEVER_WAITS
bool started;
#define WAITS(w) (started && !done[w] && !enabled(w + 1))
never {                                /* no producer ever waits: while it lives, its next step is possible */
  do
  :: !WAITS(0) && !WAITS(WRITERS - 1)
  :: else -> break
  od
}
#endif

init {
  byte i;
  d_step {
    do
    :: i < LANES ->
       lane[i].first = NONE; lane[i].position.page = NONE; lane[i].progress.page = NONE;
       lane[i].note.packet = MASK;
       i++
    :: else -> break
    od;
    i = 0;
    do :: i < PAGES -> page[i].next = NONE; i++ :: else -> break od;
    i = 0
  };
  atomic {
    run Producer(1);
#if WRITERS == 2
    run Producer(2);
#endif
    run Collector();
    run Killer();
#ifdef NEVER_WAITS
    started = 1
#endif
  }
}
