/* Time in a lane: steps P1a to P12 of shmtrace/native/lanes.py, C1 and C4 to C7 of collect.py, with SIGKILL between any
   two of them.  One lane with one page, which is enough: time stamps know nothing of pages.  Two producers take turns
   in the lane; the clock is read without ordering, so that it may say a moment less than another cpu saw already, and
   ahead of the lane, so that it may be old by the time that the lane is taken.

   Time must never run backwards in what the lane holds (the reader), and the collector must not take a sound record for
   damage: it refuses one that is older than the last one that it sent (`walk`).  Nor must a producer take a sound last
   stamp for damage, which it does when that lies more than a limit ahead of the clock.  And what the totals say was
   delivered is what was delivered. */

#ifndef EVENTS
#define EVENTS 2               /* of each of the two producers */
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif
#define RECORDS (2 * EVENTS)
#define TICKS (RECORDS + 1)
#define COLLECTOR 3
#define SKEW 1                 /* by how much the clock of a cpu may lie behind another's */

byte owner, position, last_stamp;
byte stamp[RECORDS];                                   /* of the records in the page */
byte packet, sent;                                     /* progress: one word */
byte note_packet = 255, note_size;                     /* note: one word */
byte sent_stamp;                                       /* where it was before it went into the totals */
byte totals_stamp[2], totals_delivered[2];             /* slot packet & 1 is valid */
/* ghosts */
byte clock = 1;
byte expected, newest, got;                            /* the reader's: next packet, last stamp, records */
bool dead[2], done[2], struck;

inline read_clock() {
  atomic { if :: now = clock :: clock > SKEW -> now = clock - SKEW :: clock < TICKS -> clock++; now = clock fi }
}

proctype Producer(byte me) {
  byte event, now;
  {
  do
  :: event < EVENTS ->
     read_clock();                                                     /* P1a clock */
     if
     :: atomic { owner == 0 -> owner = me }                            /* P2 take */
     :: atomic { owner != 0 -> goto over }
     fi;
#ifndef NO_CLAMP
     if
     :: now < last_stamp ->                                            /* P10 record: not below the last stamp */
#ifndef CLOCK_ONCE
        read_clock();                                                  /* P10 record: the clock once more */
#endif
        assert(last_stamp <= now + SKEW);                              /* else it is not believed */
        now = (now < last_stamp -> last_stamp : now)
     :: else
     fi;
#endif
#ifndef STAMP_AFTER_COMMIT
     last_stamp = now;                                                 /* P10 record: last stamp */
#endif
     stamp[position] = now;                                            /* P10 record: header */
     d_step { assert(owner == me); position++ };                       /* P11 commit */
#ifdef STAMP_AFTER_COMMIT
     last_stamp = now;
#endif
     owner = 0;                                                        /* P12 give back */
over:
     atomic { event++; now = 0 }
  :: event == EVENTS -> break
  od;
  done[me - 1] = 1
  } unless { dead[me - 1] -> d_step { event = 0; now = 0 } }
}

inline look_at(number) {                               /* the walk over a record of the packet */
  assert(stamp[number] >= last);                       /* else the collector takes it for damage */
  last = stamp[number]
}

inline deliver() {
  i = sent;
  do
  :: i < upto ->
     if
     :: packet == expected -> assert(stamp[i] >= newest); newest = stamp[i]; got++
     :: else
     fi;
     i++
  :: else -> break
  od;
  if :: packet == expected -> expected++ :: else -> assert(packet + 1 == expected) fi;
  i = 0
}

proctype Collector() {
  byte upto, last, i;
start:
  {
  do
  :: position > sent ->
     d_step {
       upto = position;                                                /* C1 look */
       if :: note_packet == packet -> upto = note_size :: else fi;     /* C3a resume */
#ifdef SENT_STAMP_ALONE
       last = sent_stamp;
#else
       last = totals_stamp[packet & 1];
#endif
       i = sent;
       do :: i < upto -> look_at(i); i++ :: else -> break od;
       i = 0
     };
     d_step { note_packet = packet; note_size = upto };                /* C5 note */
     d_step { deliver() };                                             /* C6 send */
     totals_delivered[(packet + 1) & 1] = totals_delivered[packet & 1] + upto - sent;       /* C4 totals */
#ifdef SENT_STAMP_ALONE
     sent_stamp = last;
#else
     totals_stamp[(packet + 1) & 1] = last;                            /* C4 totals: stamp */
#endif
     d_step { packet++; sent = upto; upto = 0; last = 0 }              /* C7 progress */
  :: owner == COLLECTOR || (owner > 0 && dead[owner - 1]) ->
     owner = COLLECTOR;                                                /* R2 take over */
     owner = 0                                                         /* R5 give back */
  :: owner == 0 && position == sent && done[0] && done[1] -> break
  od;
  assert(got == position && totals_delivered[packet & 1] == position)
  } unless { struck -> d_step { struck = 0; upto = 0; last = 0; i = 0 }; goto start }
}

proctype Killer() {
  byte kills = KILLS, restarts = RESTARTS;
end_idle:
  do
  :: d_step { kills > 0 && !done[0] -> kills--; dead[0] = 1; done[0] = 1 }
  :: d_step { kills > 0 && !done[1] -> kills--; dead[1] = 1; done[1] = 1 }
  :: d_step { restarts > 0 && !struck -> restarts--; struck = 1 }
  od
}

init { atomic { run Producer(1); run Producer(2); run Collector(); run Killer() } }
