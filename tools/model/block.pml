/* The mode block: steps P5, P6, P9, P11, B1 and B2 of shmtrace/native/lanes.py with `may_wait` and `try_harder` of
   entry.py, and C7 to C9, R3, R4, Q1 and M1 of the collector, with SIGKILL between any two of them.  The question is
   whether somebody can wait beside a page that waits, and whether a token of the semaphore can be lost for good.

   WRITERS producers, each in a lane of its own (lanes.pml has what they do to each other there), emit EVENTS records
   each, and one more emits one when all is at rest.  A record fills a page; the collector may send any page that holds
   one, as it seals what is idle.  A wait may end at any time: the flush interval.  An event may be given up at any
   time: its limit.  With NO_TIMEOUT neither ever passes, so that the semaphore alone must do; with NO_SUCCESSOR it
   cannot, as a collector that is killed has none.

   M1 runs MENDS times at any time, counting page by page, and whenever nothing else can happen: there it may not find
   more tokens missing than processes were killed. */

#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef EVENTS
#define EVENTS 2
#endif
#ifndef PAGES
#define PAGES 1
#endif
#ifndef KILLS
#define KILLS 1                /* of producers, at most one each */
#endif
#ifndef RESTARTS
#define RESTARTS 1             /* kills of the collector */
#endif
#ifndef MENDS
#define MENDS 1
#endif
#define LATE (WRITERS + 1)     /* the producer of the last record */
#define LINKED 8               /* + a producer: his lane's current page */
#define FULL 16                /* to be sent */
#define SENT 17                /* between C7 and C8 */

/* -- shared memory */
byte page[PAGES];                                      /* 0 waiting, a producer: taken, not linked; or as above */
byte waiting = PAGES;                                  /* the semaphore */
bool impatient, collecting = 1;                        /* collecting: the collector lives */

/* -- ghosts */
byte killed;                                           /* and no token was mended for it */
bool dead[LATE], done[LATE], struck, rest, accepted;

proctype Producer(byte me) {
  byte event, i, mine;
end_late:
  me <= WRITERS || rest;
  {
  do
  :: event < EVENTS ->
again:
#ifdef IMPATIENT_FIRST
     if :: impatient -> goto over :: !impatient fi;
#endif
     if
     :: atomic { waiting > 0 -> waiting-- }                                     /* P5 token */
     :: waiting == 0 -> goto wait
     fi;
     do                                                                         /* P6 page: CAS, two rounds */
     :: atomic { i < 2 * PAGES && page[i % PAGES] == 0 -> mine = i % PAGES; page[mine] = me; i = 0; break }
     :: atomic { i < 2 * PAGES && page[i % PAGES] != 0 -> i++ }
     :: atomic { i == 2 * PAGES -> i = 0; goto wait }                           /* the token is not given back */
     od;
     atomic { assert(page[mine] == me); page[mine] = LINKED + me };             /* P9 switch */
#ifndef NEVER_CLEARED
     if :: impatient -> impatient = 0 :: !impatient fi;
#endif
     d_step { assert(page[mine] == LINKED + me); page[mine] = FULL; accepted = (me == LATE) };  /* P11 commit */
     goto over;
wait:
     if :: !collecting -> goto over :: collecting fi;                           /* may_wait: there is no collector */
     if :: impatient -> goto over :: !impatient fi;                             /* may_wait: one has waited in vain */
#ifndef NO_TIMEOUT
     if
     :: impatient = 1; goto over                                                /* may_wait: the limit has passed */
     :: skip
     fi;
#endif
     if
     :: atomic { waiting > 0 -> waiting-- };                                    /* B1 wait */
#ifndef NO_POST_BACK
        waiting++                                                               /* B2 post back */
#endif
#ifndef NO_TIMEOUT
     :: skip                                                                    /* B1 wait: the slice has passed */
#endif
     fi;
     goto again;
over:
     atomic { event = (me == LATE -> EVENTS : event + 1); mine = 0 }
  :: event == EVENTS -> break
  od;
  atomic { done[me - 1] = 1; event = 0 }
  } unless { dead[me - 1] -> d_step { event = 0; i = 0; mine = 0 } }
}

#define IS_LEFT(p) ((page[p] > 0 && page[p] <= LATE && dead[page[p] - 1]) || \
                    (page[p] > LINKED && page[p] <= LINKED + LATE && dead[page[p] - LINKED - 1]))
#define IS_ORPHAN(p) (page[p] < LINKED)
#define FREE(p) (page[p] == 0)
#define FREE_PAGES (FREE(0) + (PAGES > 1 && FREE(PAGES - 1)))           /* 1 or 2 pages */
#define MISSING (FREE_PAGES - waiting)
#define ALL_DONE (done[0] && done[WRITERS - 1])

inline send(number) {
  page[number] = SENT;                                                          /* C6, C7 */
  page[number] = 0;                                                             /* C8 recycle */
  waiting++                                                                     /* C9 post */
}

inline clear(number) {                                 /* of a dead producer, whose lane was taken over (R2) */
  if
  :: IS_ORPHAN(number) -> page[number] = 0; waiting++                           /* R3 orphan, R4 orphan: post */
  :: !IS_ORPHAN(number) -> page[number] = FULL
  fi
}

proctype Collector() {
  byte i, found, missing, mends = MENDS;
  bool looked;
start:
  {
  do                                                                            /* Q1 sweep */
  :: d_step { page[0] == SENT -> page[0] = 0 }; waiting++
#if PAGES == 2
  :: d_step { page[1] == SENT -> page[1] = 0 }; waiting++
#endif
  :: page[0] != SENT && page[PAGES - 1] != SENT -> break
  od;
  collecting = 1;
  do
  :: page[0] == FULL -> send(0)
  :: IS_LEFT(0) -> clear(0)
#if PAGES == 2
  :: page[1] == FULL -> send(1)
  :: IS_LEFT(1) -> clear(1)
#endif
#ifndef NO_MEND
  :: mends > 0 && !rest -> mends--;                                             /* M1 mend: twice running */
look:
     found = 0; i = 0;
     do :: i < PAGES -> found = found + FREE(i); i++ :: i == PAGES -> break od;
     found = (found > waiting -> found - waiting : 0);
     missing = (!looked || found < missing -> found : missing);
     if
     :: atomic { !looked -> looked = 1; goto look }
     :: looked && missing > 0 -> waiting++
     :: looked && missing == 0
     fi;
     atomic { looked = 0; missing = 0; found = 0; i = 0 }
  :: atomic { timeout && FREE_PAGES > waiting ->                                /* M1 mend: at rest */
              assert(MISSING <= killed); waiting++; killed-- }
#endif
  :: atomic { timeout && !rest && ALL_DONE && FREE_PAGES <= waiting -> assert(FREE_PAGES == PAGES); rest = 1 }
  :: rest && done[LATE - 1] && FREE_PAGES == PAGES && waiting >= PAGES ->
     assert(accepted && !impatient);                   /* who comes then is not turned away, and the flag is cleared */
     break
  od
#ifdef NO_SUCCESSOR
  } unless { struck }
#else
  } unless { struck -> d_step { struck = 0; i = 0; found = 0; missing = 0; looked = 0 }; goto start }
#endif
}

proctype Killer() {
  byte kills = KILLS, restarts = RESTARTS;
  do
  :: d_step { kills > 0 && !done[0] -> kills--; dead[0] = 1; done[0] = 1; killed++ }
#if WRITERS == 2
  :: d_step { kills > 0 && !done[1] -> kills--; dead[1] = 1; done[1] = 1; killed++ }
#endif
  :: d_step { restarts > 0 && !struck && !rest -> restarts--; struck = 1; collecting = 0; killed++ }
  :: break
  od
}

init {
  atomic {
    run Producer(1);
#if WRITERS == 2
    run Producer(2);
#endif
    run Producer(LATE); run Collector(); run Killer()
  }
}
