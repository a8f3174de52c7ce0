/* Writer numbers: V1, V2 and P11 of shmtrace/native/lanes.py, `thread_ended` of entry.py, and W1 and W2 of collect.py
   with `_free_writers` of shmtrace/collector/loop.py, with SIGKILL between any two steps.  A number may not be given to
   another while something unsent names it, nor be taken from somebody who lives.

   One number, THREADS threads that each want it, one lane.  A thread that finds no number records under "unknown",
   which is nobody's business here.  With RESERVE a thread may end while another still holds its reservation: the record
   is committed, under the number of the one that ended, after its end. */

#ifndef THREADS
#define THREADS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif
#define COLLECTOR (THREADS + 1)
#define NOBODY 0

/* the writer's entry */
byte identity;                                         /* 0: free, else whose it is; and, in the same word: */
bool ended;                                            /* its thread has ended */
byte name;                                             /* the rest of the entry */
/* the lane: its owner, and the records as ghosts: who wrote them */
byte owner, position, progress;
byte author[THREADS];
/* ghosts */
byte known;                                            /* whom the reader takes the number for */
bool gone[THREADS], dead[THREADS], done[THREADS], struck;

#define END atomic { ended = 1; gone[me - 1] = 1 }

proctype Thread(byte me) {
  {
  if
  :: atomic { identity == 0 -> identity = me }         /* V1 number: CAS */
  :: atomic { identity != 0 -> goto over }
  fi;
#ifdef ENDED_APART
  ended = 0;
#endif
  name = me;                                           /* V2 names: the entry */
  if
  :: atomic { owner == 0 -> owner = me }               /* P2 take */
  :: atomic { owner != 0 -> goto leave }
  fi;
#ifdef RESERVE
  if
  :: END;                                        /* thread_ended, while the reservation is held */
     d_step { author[position] = me; position++ };     /* P11 commit, by another thread */
     owner = 0;                                        /* P12 give back */
     goto over
  :: skip
  fi;
#endif
  d_step { author[position] = me; position++ };        /* P11 commit */
  owner = 0;                                           /* P12 give back */
leave:
  END;                                           /* thread_ended */
over:
  done[me - 1] = 1
  } unless { dead[me - 1] }                            /* between V1 and V2, too: the number is freed like any other */
}

#define IS_GONE(w) (ended || dead[w - 1])
#define HOLDS (owner != 0 && owner != COLLECTOR && owner == identity)

proctype Collector() {
  byte marked, seen;
  bool announced, doomed, marking;
start:
  {
  do
  :: progress < position ->                            /* C1 to C7 of one record; a copy changes nothing here */
     d_step {
       if :: !announced -> known = name; announced = 1 :: else fi;
       assert(known == author[progress]);              /* the reader takes it for another's */
       progress++
     }
  :: !marking && identity != 0 ->
     seen = identity;                                  /* W1 doom: who has the number */
     if
#ifdef HELD_AT_FREE
     :: IS_GONE(seen) -> doomed = 1                    /* W1 doom: is he gone? */
#else
     :: IS_GONE(seen) ->                               /* W1 doom: is he gone? */
        if :: !HOLDS -> doomed = 1 :: HOLDS fi         /* W1 doom: and holds no lane */
#endif
     :: !IS_GONE(seen)
     fi;
     if
     :: doomed -> atomic { marked = position; marking = 1 }            /* W1 doom: where the lane is */
     :: !doomed
     fi;
     seen = 0
#ifdef FREE_EARLY
  :: marking ->
#else
  :: marking && progress >= marked ->                  /* W2 free: what was there has been sent */
#endif
     if
#ifdef HELD_AT_FREE
     :: HOLDS
     :: !HOLDS ->
#else
     :: skip ->
#endif
        announced = 0;                                 /* W2 free: the next one is announced anew */
        d_step {                                       /* W2 free */
          assert(gone[identity - 1]);                  /* nobody who lives */
#ifndef ENDED_APART
          ended = 0;
#endif
          identity = 0
        }
     fi;
     d_step { doomed = 0; marking = 0; marked = 0 }
  :: owner == COLLECTOR || (owner > 0 && dead[owner - 1]) ->
     owner = COLLECTOR;                                /* R2 take over */
     owner = 0                                         /* R5 give back */
  :: done[0] && done[THREADS - 1] && done[THREADS / 2] && owner == 0 && progress == position && !marking &&
     (identity == 0 || !IS_GONE(identity)) -> break
  od
  } unless { struck -> d_step { struck = 0; marked = 0; seen = 0; announced = 0; doomed = 0; marking = 0 }; goto start }
}

proctype Killer() {
  byte kills = KILLS, restarts = RESTARTS;
end_idle:
  do
  :: d_step { kills > 0 && !done[0] -> kills--; dead[0] = 1; gone[0] = 1; done[0] = 1 }
  :: d_step { kills > 0 && !done[1] -> kills--; dead[1] = 1; gone[1] = 1; done[1] = 1 }
  :: d_step { restarts > 0 && !struck -> restarts--; struck = 1 }
  od
}

init {
  atomic {
    run Thread(1); run Thread(2);
#if THREADS == 3
    run Thread(3);
#endif
    run Collector(); run Killer()
  }
}
