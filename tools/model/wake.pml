/* Falling asleep: step P9a of shmtrace/native/lanes.py, and its partner `has_full_page` in collect.py with `_sleep` in
   shmtrace/collector/loop.py.  The question is whether the collector can sleep for ever beside a full page, if there
   were no flush that wakes it.

   Memory is not sequentially consistent here: each process has a buffer of one store, which reaches the others at any
   later moment and which a full fence empties; loads do not wait for it.  That is what x86 allows, and the one reordering
   that matters on others.  PRODUCERS producers fill PAGES_EACH pages each, each in a lane of its own. */

#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef PAGES_EACH
#define PAGES_EACH 2
#endif
#ifndef KILLS
#define KILLS 0
#endif

byte position[PRODUCERS];              /* pages that were filled, as everybody sees it */
bool stored[PRODUCERS];                /* the producer's store buffer holds the next position */
bool asleep;                           /* as everybody sees it */
byte buffered = 2;                     /* the collector's store buffer: 0 or 1 for `asleep`, 2: nothing */
byte posts;                           /* the semaphore, which is a full fence itself */
bool dead[PRODUCERS], stopped[PRODUCERS], killed;      /* ghosts */

#ifdef NO_PRODUCER_FENCE
#define PRODUCER_FENCE skip
#else
#define PRODUCER_FENCE !stored[me]
#endif
#ifdef NO_COLLECTOR_FENCE
#define COLLECTOR_FENCE skip
#else
#define COLLECTOR_FENCE buffered == 2
#endif

active [PRODUCERS] proctype Producer() {
  byte me, pages;
  me = _pid;
  {
  do
  :: pages < PAGES_EACH ->
     !stored[me];                                      /* the buffer holds one store; the hardware waits, not we */
     stored[me] = 1;                                   /* P9 switch */
     PRODUCER_FENCE;                                   /* P9a wake: full fence */
     if                                                /* P9a wake: load asleep */
     :: asleep -> d_step { position[me] = position[me] + stored[me]; stored[me] = 0; posts++ }   /* P9a wake: sem_post */
     :: !asleep
     fi;
     pages++
  :: pages == PAGES_EACH -> break
  od;
  stopped[me] = 1
  } unless { dead[me] }                                /* what was stored gets out all the same */
}

/* The hardware: buffered stores reach memory at some time. */
proctype Buffers() {
  byte i;
end_idle:
  do
  :: d_step { stored[0] -> position[0]++; stored[0] = 0 }
#if PRODUCERS == 2
  :: d_step { stored[1] -> position[1]++; stored[1] = 0 }
#endif
  :: d_step { buffered < 2 -> asleep = buffered; buffered = 2 }
  od
}

#if PRODUCERS == 2
#define ALL (position[0] + position[1])
#define NOTHING_STORED (!stored[0] && !stored[1])
#else
#define ALL position[0]
#define NOTHING_STORED (!stored[0])
#endif

proctype Collector() {
  byte sent;
  do
  :: sent = ALL;                                       /* C1 to C9: a pass that sends what is full */
     buffered == 2; buffered = 1;                      /* asleep = 1 */
#ifdef LOOK_FIRST
     if :: sent == ALL -> goto wait :: sent != ALL -> goto woken fi;
#endif
     COLLECTOR_FENCE;                                  /* has_full_page: full fence */
     if
     :: sent == ALL                                    /* has_full_page: the last look */
wait:
        if
        :: atomic { posts > 0 -> posts--; asleep = (buffered == 2 -> asleep : buffered); buffered = 2 }   /* sem_clockwait */
        :: posts == 0 && (stopped[0] && stopped[PRODUCERS - 1]) && NOTHING_STORED && buffered == 2 ->
           assert(sent == ALL || killed);              /* asleep for ever, and nobody is there to wake it */
           break
        fi
     :: sent != ALL
     fi;
woken:
     buffered == 2; buffered = 0;                      /* asleep = 0 */
     do                                                /* sem_trywait, until there is no token */
     :: atomic { posts > 0 -> posts--; asleep = (buffered == 2 -> asleep : buffered); buffered = 2 }
     :: posts == 0 -> break
     od
  od
}

proctype Killer() {
  byte kills = KILLS;
end_idle:
  do
  :: d_step { kills > 0 && !stopped[0] -> kills--; stopped[0] = 1; dead[0] = 1; killed = 1 }
#if PRODUCERS == 2
  :: d_step { kills > 0 && !stopped[1] -> kills--; stopped[1] = 1; dead[1] = 1; killed = 1 }
#endif
  od
}

init { atomic { run Collector(); run Buffers(); run Killer() } }
