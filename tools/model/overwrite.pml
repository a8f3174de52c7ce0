/* The mode overwrite: steps P2, P4, O1, O2, P9 to P12 of shmtrace/native/lanes.py, R2 to R5 by whoever rescues, and
   `copy_lane` of shmtrace/native/snapshot.py, with SIGKILL of producers and rescuers between any two of them.  A
   snapshot must hold, of each lane, the records from the first that is not overwritten to the last that was committed
   when it began: in order, without a hole, none torn.

   LANES lanes with rings of RING pages of ROOM words, WRITERS producers that emit EVENTS records each, and one more
   that emits a last one when all is at rest.  A record has one word, or with BIG one or two; a snapshot copies word by
   word.  Sequences are modulo 8 and begin so that they wrap.

   Memory is not sequentially consistent where it matters: the position of P9 lies in a store buffer, from which it gets
   out at any later moment, at the latest at the next store of a position; other stores pass it.  The fence behind P9
   waits for it. */

#ifndef LANES
#define LANES 1
#endif
#ifndef RING
#define RING 2
#endif
#ifndef ROOM
#define ROOM 2
#endif
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef EVENTS
#define EVENTS 3
#endif
#ifndef KILLS
#define KILLS 1                /* of producers, at most one each */
#endif
#ifndef RESTARTS
#define RESTARTS 1             /* kills of the rescuer */
#endif
#define PAGES (LANES * RING)
#define NONE PAGES
#define MASK 7
#define BEFORE_WRAP 6
#define AFTER(n) (((n) + 1) & MASK)
#define AGE(a, b) (((a) - (b)) & MASK)
#define RESCUER (WRITERS + 2)
#define LATE (WRITERS + 1)     /* the producer of the last record */
#define MOST (WRITERS * EVENTS + 1)
#define LARGE 16               /* first word of a record of two words: its number + LARGE; the second: + 2 * LARGE */

/* -- shared memory; a struct is one word */
typedef position_t { byte seq, page, size };
typedef lane_t {
  byte owner;                                          /* 0 free, 1.. a producer, RESCUER */
  position_t position;
  byte overwritten[2];                                 /* slot position.seq & 1 is valid */
  bool stored; position_t buffer;                      /* a store buffer, of who has the lane */
};
typedef page_t {
  byte lane, seq;                                      /* owner: one word; lane 0: never used */
  byte length;
  byte at[ROOM];
};
lane_t lane[LANES];
page_t page[PAGES];

/* -- ghosts */
typedef history_t { byte count, lost, record[MOST] };  /* committed, and of these overwritten */
history_t history[LANES];
byte pending;                                          /* committed, and event() did not return */
bool dead[LATE], done[LATE], rest;

#define HERE lane[l].position
#define NEXT(p) (l * RING + ((p) - l * RING + 1) % RING)

inline drain(which) {                                  /* the buffered position gets out; the oldest page is gone */
  lane[which].position.seq = lane[which].buffer.seq; lane[which].position.page = lane[which].buffer.page;
  lane[which].position.size = 0;
  lane[which].stored = 0; lane[which].buffer.seq = 0; lane[which].buffer.page = 0;
  history[which].lost = lane[which].buffer.size; lane[which].buffer.size = 0
}

inline count_records() {                               /* n: records of page `new`, if that is the lane's oldest */
  n = 0; i = 0;
  do
  :: i < page[new].length && page[new].lane == l + 1 && page[new].seq == AGE(AFTER(HERE.seq), RING) ->
     i = i + 1 + (page[new].at[i] >= LARGE); n++
  :: else -> break
  od;
  i = 0
}

proctype Producer(byte me) {
  byte event, l, i, n, new, seq, to, size, need;
  me <= WRITERS || rest;
  {
  do
  :: event < EVENTS ->
#ifdef BIG
     if :: need = 1 :: me <= WRITERS -> need = 2 fi;
#else
     need = 1;
#endif
     if                                                                         /* P2 take: CAS */
     :: atomic { lane[0].owner == 0 -> lane[0].owner = me }
     :: atomic { lane[0].owner != 0 -> l = 1 };
#if LANES == 2
        if
        :: atomic { lane[1].owner == 0 -> lane[1].owner = me }
        :: atomic { lane[1].owner != 0 -> goto over }                           /* missed: no lane */
        fi
#else
        goto over
#endif
     fi;
     d_step { seq = HERE.seq; to = HERE.page; size = HERE.size };               /* P4 read */
     if
     :: to == NONE || size + need > ROOM ->
        d_step { new = (to == NONE -> l * RING : NEXT(to)); count_records() };
#ifdef ONE_SLOT
        lane[l].overwritten[0] = lane[l].overwritten[0] + n;
#else
        lane[l].overwritten[AFTER(seq) & 1] = lane[l].overwritten[seq & 1] + n; /* O1 count */
#endif
#ifndef LENGTH_AFTER
        if
        :: to != NONE ->
           page[to].length = size;                                              /* O2 length */
           d_step { page[to].lane = l + 1; page[to].seq = seq }                 /* O2 length: owner */
        :: else
        fi;
#endif
        d_step {                                                                /* P9 switch */
          assert(lane[l].owner == me && !lane[l].stored);
          lane[l].buffer.seq = AFTER(seq); lane[l].buffer.page = new; lane[l].buffer.size = history[l].lost + n;
          lane[l].stored = 1
        };
#ifdef LENGTH_AFTER
        if
        :: to != NONE -> page[to].length = size; d_step { page[to].lane = l + 1; page[to].seq = seq }
        :: else
        fi;
#endif
        d_step { seq = AFTER(seq); to = new; size = 0; n = 0; new = 0 };
#ifndef NO_FENCE
        !lane[l].stored;                                                        /* P9 switch: then a fence */
#endif
     :: else
     fi;
     page[to].at[size] = (me - 1) * EVENTS + event + 1 + (need == 2 -> LARGE : 0);     /* P10 record */
     if
     :: need == 2 -> page[to].at[size + 1] = (me - 1) * EVENTS + event + 1 + 2 * LARGE /* P10 record: its second word */
     :: else
     fi;
     d_step {                                                                   /* P11 commit, release */
       if :: lane[l].stored -> drain(l) :: else fi;
       assert(lane[l].owner == me && HERE.seq == seq && HERE.page == to && HERE.size == size && size + need <= ROOM);
       HERE.size = size + need;
       history[l].record[history[l].count] = (me - 1) * EVENTS + event + 1; history[l].count++; pending++
     };
     d_step { assert(lane[l].owner == me); lane[l].owner = 0; pending-- };      /* P12 give back */
over:
     atomic { event = (me == LATE -> EVENTS : event + 1); l = 0; seq = 0; to = 0; size = 0; need = 0 }
  :: event == EVENTS -> break
  od;
  atomic { done[me - 1] = 1; event = 0 }
  } unless { dead[me - 1] -> d_step { event = 0; l = 0; i = 0; n = 0; new = 0; seq = 0; to = 0; size = 0; need = 0 } }
}

/* The hardware: a buffered store reaches memory at some time, whether or not who stored it lives. */
proctype Buffers() {
end_idle:
  do
  :: d_step { lane[0].stored -> drain(0) }
#if LANES == 2
  :: d_step { lane[1].stored -> drain(1) }
#endif
  od
}

/* -- a rescuer, one at a time: it holds the segment's lock.  The dead's stores have got out: they were judged dead. */

#define IS_DEAD(l) (lane[l].owner == RESCUER || \
                    (lane[l].owner > 0 && lane[l].owner < RESCUER && dead[lane[l].owner - 1]))
#define IS_ORPHAN(p) (page[p].lane == l + 1 && page[p].seq == AFTER(HERE.seq))

#define RESCUE(which) \
     d_step { IS_DEAD(which) && !lane[which].stored -> l = which; lane[l].owner = RESCUER }

proctype Rescuer() {
  byte l, restarts = RESTARTS;
end_idle:
  do
  :: RESCUE(0);                                        /* R2 take over: CAS */
give_back:
     assert(!IS_ORPHAN(l * RING) && !IS_ORPHAN(l * RING + RING - 1));           /* R3 orphan: there is none */
     if
     :: d_step { lane[l].owner = 0; l = 0 }                                     /* R5 give back */
     :: d_step { restarts > 0 -> restarts--; l = 0 }   /* killed: the next one finds a dead rescuer's word */
     fi
#if LANES == 2
  :: RESCUE(1); goto give_back                         /* R2 take over: CAS */
#endif
  od
}

/* -- a snapshot: `copy_lane` */

#define PAGE_OF(age) (l * RING + (seen.page - l * RING + RING - (age)) % RING)
#ifdef KEEP_RING
#define IS_THERE(age) (there[age] && AGE(newest, AGE(seen.seq, age)) <= RING)
#elif defined(LOOK_ONCE)
#define IS_THERE(age) there[age]
#else
#define IS_THERE(age) (there[age] && AGE(newest, AGE(seen.seq, age)) < RING)
#endif

inline look_again() {                                  /* step 3; `lost` and `committed`: as they really are then */
  d_step { newest = HERE.seq; lost = history[l].lost; looked = 1 }
}

inline forget() {
  d_step {
    i = 0;
    do :: i < RING * ROOM -> copy[i] = 0; i++ :: else -> break od;
    i = 0;
    do :: i < RING -> there[i] = 0; length[i] = 0; i++ :: else -> break od;
    i = 0; age = 0; newest = 0; told = 0; kept = 0; pages = 0; lost = 0; committed = 0; word = 0; looked = 0;
    seen.seq = 0; seen.page = 0; seen.size = 0
  }
}

/* What is kept of the copies is the run of records from the first that is not lost to the last of the first look. */
inline judge() {
  d_step {
    kept = 0; pages = 0; age = RING;
    do
    :: age > 0 ->
       age--;
       if
       :: IS_THERE(age) ->
          pages++; i = 0;
          do
          :: i < length[age] ->
             word = copy[age * ROOM + i];
             assert(lost + kept < committed);
             if
             :: word > LARGE ->
                assert(i + 1 < length[age] && copy[age * ROOM + i + 1] == word + LARGE);
                word = word - LARGE; i++
             :: else
             fi;
             assert(word == history[l].record[lost + kept]);
             kept++; i++
          :: else -> break
          od
       :: else
       fi
    :: else -> break
    od;
    assert(pages == 0 || lost + kept == committed)
  }
}

proctype Snapshot() {
  byte l, i, age, newest, told, kept, pages, lost, committed, word, turn, total;
  bool there[RING], looked;
  byte length[RING], copy[RING * ROOM];
  position_t seen;
#if LANES == 2
  if :: l = 0 :: l = 1 fi;
#endif
take:
  atomic { seen.seq = HERE.seq; seen.page = HERE.page; seen.size = HERE.size; committed = history[l].count };
  if :: seen.page == NONE -> goto taken :: else fi;
  age = RING - 1;
  do
  :: age > 0 ->
     there[age] = (page[PAGE_OF(age)].lane == l + 1 && page[PAGE_OF(age)].seq == AGE(seen.seq, age));
     length[age] = (there[age] -> page[PAGE_OF(age)].length : 0);
     age--
  :: else -> break
  od;
  atomic { there[0] = 1; length[0] = seen.size; age = RING };
  do
  :: age > 0 ->
     age--; i = 0;
     do
     :: i < length[age] ->
#ifdef NO_LOAD_FENCE
        if :: !looked -> look_again() :: skip fi;      /* a load that is not held back by a fence */
#endif
        copy[age * ROOM + i] = page[PAGE_OF(age)].at[i]; i++
     :: else -> break
     od
  :: else -> break
  od;
  if :: !looked -> look_again() :: looked fi;          /* a fence, and the second look */
  told = lane[l].overwritten[newest & 1];
#ifdef ONE_SLOT
  told = lane[l].overwritten[0];
#endif
#if !defined(TELL_ONCE) && !defined(NO_LOAD_FENCE)     /* a third look, behind a fence; without one it tells nothing */
  if :: HERE.seq != newest -> forget(); goto take :: else fi;
#endif
  judge();
  if :: pages == 0 -> forget(); goto take :: else fi;  /* -1: try again */
  assert(told == lost);                                /* what is told and what is kept are of one moment */
taken:                                                 /* and once more when all is at rest, and after the last event */
  if
  :: turn > 0 -> assert(told == lost && told + kept == history[l].count)
  :: else
  fi;
  turn++;
  if
  :: turn == 1 -> done[0] && done[WRITERS - 1]
  :: turn == LANES + 1 ->
     d_step { rest = 1; total = history[0].count + (LANES > 1 -> history[LANES - 1].count : 0) };
     done[LATE - 1]
  :: turn == 2 * LANES + 1 -> goto over
  :: else
  fi;
  lane[0].owner == 0 && lane[LANES - 1].owner == 0 && !lane[0].stored && !lane[LANES - 1].stored;
  forget();
  l = (turn - 1) % LANES;
  goto take;
over:
  atomic {
    assert(history[0].count + (LANES > 1 -> history[LANES - 1].count : 0) == total + 1);         /* the lanes go on */
    assert(pending <= dead[0] + dead[WRITERS - 1])
  }
}

proctype Killer() {
  byte kills = KILLS;
end_idle:
  do
  :: d_step { kills > 0 && !done[0] -> kills--; dead[0] = 1; done[0] = 1 }
#if WRITERS == 2
  :: d_step { kills > 0 && !done[1] -> kills--; dead[1] = 1; done[1] = 1 }
#endif
  od
}

init {
  byte i;
  d_step {
    do
    :: i < LANES -> lane[i].position.page = NONE; lane[i].position.seq = BEFORE_WRAP; i++
    :: else -> break
    od;
    i = 0
  };
  atomic {
    run Producer(1);
#if WRITERS == 2
    run Producer(2);
#endif
    run Producer(LATE); run Buffers(); run Rescuer(); run Snapshot(); run Killer()
  }
}
