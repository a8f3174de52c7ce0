/* A process becomes another program by exec, at any moment, and attaches again: V1, V2 and P2 to P12 of
   shmtrace/native/lanes.py, `disown` of entry.py, and what the collector does for who has left: R1 to R5, W1 and W2,
   with `has_left` of shmtrace/process.py.  Pid and start time, and with them the words that the process stores, stay
   the same; its threads are gone.  What the old program held must be given back, and never what the new one holds.

   Process 1 runs thread 1 until it execs, then attaches and runs thread 2.  Process 2 runs thread 3.  NUMBERS writer
   numbers; a thread that finds none is the unknown writer, like all others that found none.  One lane.  With KILLS
   process 1 may be killed, at any step of either program.

   The collector judges a process, and acts on that later.  Between the two the process may have attached again. */

#ifndef NUMBERS
#define NUMBERS 1
#endif
#ifndef EVENTS
#define EVENTS 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#define THREADS 3
#define UNKNOWN NUMBERS
#define COLLECTOR 3            /* a process */
#define DISOWNER 4             /* ghosts of who has the lane */
#define PROCESS(thread) (thread == 3 -> 2 : 1)

/* -- shared memory; a struct is one word */
typedef word_t { byte process, number };               /* a lane's owner; process 0: nobody */
typedef entry_t { byte process; bool ended };          /* a writer's identity; process 0: free */
word_t owner;
entry_t identity[NUMBERS];
byte name[NUMBERS];                                    /* the rest of the entry */
byte position, progress;

/* -- what the kernel knows: process 1 */
bool execed, mapped = 1, dead;

/* -- ghosts */
byte author[THREADS * EVENTS], signed_by[THREADS * EVENTS];    /* of each record: its thread, its number */
byte holder;                                           /* of the lane: a thread, DISOWNER; 0: nobody, the collector */
byte has[NUMBERS];                                     /* of a number: a thread */
byte known[NUMBERS];                                   /* whom the reader takes a number for */
bool gone[THREADS + 1], disowned;

inline emit(me) {
  if
  :: atomic { owner.process == 0 -> owner.process = PROCESS(me); owner.number = mine; holder = me };   /* P2 take */
     d_step {                                                                   /* P11 commit */
       assert(holder == me && owner.process == PROCESS(me) && owner.number == mine);
       author[position] = me; signed_by[position] = mine; position++
     };
     atomic { assert(holder == me); owner.process = 0; owner.number = 0; holder = 0 }           /* P12 give back */
  :: atomic { owner.process != 0 -> skip }                                      /* missed: no lane */
  fi
}

inline live(me) {
  n = 0;
  do                                                                            /* V1 number: CAS */
  :: atomic { n < NUMBERS && identity[n].process == 0 ->
              identity[n].process = PROCESS(me); has[n] = me; mine = n; break }
  :: atomic { n < NUMBERS && identity[n].process != 0 -> n++ }
  :: atomic { n == NUMBERS -> mine = UNKNOWN; break }
  od;
  n = 0;
  if :: mine != UNKNOWN -> name[mine] = me :: else fi;                          /* V2 names */
  do :: event < EVENTS -> emit(me); event++ :: event == EVENTS -> break od;
  atomic {                                                                      /* thread_ended */
    if :: mine != UNKNOWN -> identity[mine].ended = 1 :: else fi;
    gone[me] = 1
  }
}

inline disown() {
  if
  :: owner.process == 1 ->
     seen = owner.number;
     if
     :: atomic { owner.process == 1 && owner.number == seen ->                  /* R2 take over: CAS */
                 owner.number = UNKNOWN; holder = DISOWNER };
        atomic { assert(holder == DISOWNER); owner.process = 0; owner.number = 0; holder = 0 }  /* R5 give back */
     :: atomic { !(owner.process == 1 && owner.number == seen) -> skip }
     fi;
     seen = 0
  :: owner.process != 1
  fi;
  n = 0;
  do
#ifdef ENDED_BY_STORE
  :: n < NUMBERS && identity[n].process == 1 -> d_step { identity[n].process = 1; identity[n].ended = 1; n++ }
#else
  :: atomic { n < NUMBERS && identity[n].process == 1 -> identity[n].ended = 1; n++ }           /* CAS */
#endif
  :: n < NUMBERS && identity[n].process != 1 -> n++
  :: n == NUMBERS -> break
  od;
  n = 0;
  disowned = 1
}

proctype Old() {                                       /* the program before */
  byte n, mine, event;
  { live(1) } unless { execed || dead }
}

proctype New() {                                       /* the program after */
  byte n, mine, event;
end_not_yet:
#ifdef DISOWN_LATE
  mapped && execed;
#else
  disowned;
#endif
  { live(2) } unless { dead }
}

proctype Attach() {
  byte n, seen;
end_not_yet:
  execed;
  { mapped = 1;
#ifndef NO_DISOWN
    disown()
#else
    disowned = 1
#endif
  } unless { dead }
}

proctype Other() {                                     /* process 2 */
  byte n, mine, event;
  live(3)
}

#define LIVES 1
#define LEFT 2                 /* it does not map the segment */
#define DEAD 3
#define IS_AWAY (dead || !mapped)
#define IS_GONE(n) (identity[n].ended || (identity[n].process == 1 && IS_AWAY))
#define MORE_TO_FREE ((identity[0].process != 0 && IS_GONE(0)) || \
                      (identity[NUMBERS - 1].process != 0 && IS_GONE(NUMBERS - 1)))

inline judge() {                                       /* R1 and W1: once for what is looked at */
  judged = (dead -> DEAD : (mapped -> LIVES : LEFT))
}

proctype Collector() {
  byte n, judged, marked;
  word_t seen;
  byte listed[NUMBERS];
  bool doomed[NUMBERS], announced[NUMBERS], marking;
end_idle:
  do
  :: progress < position ->                                                     /* C1 to C7 of one record */
     d_step {
       n = signed_by[progress];
       if
       :: n == UNKNOWN
       :: else ->
          if :: !announced[n] -> known[n] = name[n]; announced[n] = 1 :: else fi;
          assert(known[n] == author[progress])         /* the reader takes it for another's */
       fi;
       progress++; n = 0
     }
  :: atomic { owner.process == 1 && IS_AWAY -> seen.process = 1; seen.number = owner.number };
     judge();                                                                   /* judged, as R1 says */
     if
#ifdef UNKNOWN_TOO
     :: judged != LIVES ->
#else
     :: judged == DEAD || (judged == LEFT && seen.number != UNKNOWN) ->         /* its word may be the new program's */
#endif
        if
        :: atomic { owner.process == seen.process && owner.number == seen.number ->             /* R2 take over: CAS */
                    owner.process = COLLECTOR; owner.number = UNKNOWN; holder = 0 };
           atomic { owner.process = 0; owner.number = 0 }                       /* R5 give back */
        :: atomic { owner.process != seen.process || owner.number != seen.number -> skip }
        fi
     :: else
     fi;
     atomic { seen.process = 0; seen.number = 0; judged = 0 }
  :: !marking && MORE_TO_FREE ->
#ifdef JUDGED_FIRST
     judge();
     do
     :: n < NUMBERS -> listed[n] = identity[n].process;
#else
     do                                                                         /* W1 doom: who has which number */
     :: n < NUMBERS -> listed[n] = identity[n].process; n++
     :: n == NUMBERS -> n = 0; break
     od;
     judge();                                                                   /* W1 doom: then, who has left */
     do
     :: n < NUMBERS ->
#endif
        if
        :: listed[n] != 0 && (identity[n].ended || (listed[n] == 1 && judged != LIVES)) ->
           if                                                                   /* W1 doom: and holds no lane */
           :: owner.process == 0 || owner.process == COLLECTOR || owner.number != n -> doomed[n] = 1
           :: else
           fi
        :: else
        fi;
        listed[n] = 0; n++
     :: n == NUMBERS -> n = 0; break
     od;
     atomic { marked = position; marking = 1; judged = 0 }                      /* W1 doom: where the lane is */
  :: marking && progress >= marked ->
     do
     :: n < NUMBERS && doomed[n] ->
        announced[n] = 0; doomed[n] = 0;
        d_step {                                                                /* W2 free */
          assert(gone[has[n]]);                        /* nobody who lives */
          identity[n].process = 0; identity[n].ended = 0; has[n] = 0
        };
        n++
     :: n < NUMBERS && !doomed[n] -> n++
     :: n == NUMBERS -> n = 0; break
     od;
     atomic { marking = 0; marked = 0 }
  :: timeout && disowned ->                            /* at rest: no lane and no number is held by who is gone */
     assert(owner.process == 0 && progress == position);
     do
     :: n < NUMBERS -> assert(identity[n].process == 0 || !gone[has[n]]); n++
     :: n == NUMBERS -> n = 0; break
     od;
     break
  od
}

proctype Kernel() {
  byte kills = KILLS;
  atomic { execed = 1; mapped = 0; gone[1] = 1 };
end_idle:
  do
  :: kills > 0 -> atomic { kills--; dead = 1; gone[1] = 1; gone[2] = 1; disowned = 1 }
  :: break
  od
}

init { atomic { run Old(); run New(); run Attach(); run Other(); run Collector(); run Kernel() } }
