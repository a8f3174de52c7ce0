"""What is left of events when their process is killed: `python -m bench.reliability`.  A file a peer.

The same job is done for each peer in turn, as a process of its own that is watched from outside: workers emit numbered
events, and some of them are killed, or end by `os._exit`.  How many events a worker emitted is known from memory that
it shares with the judge, not from the peer; how many are left is what the peer's files hold when the job is over.

* `events`: an event's text, and the memory in which workers count.
* `peer`: what a peer's module offers.  `shmtrace_record`, `logging_queue`, `loguru_enqueue`, `opentelemetry_batch` and
  `viztracer_instant` are the peers.
* `job`: the job; `scenarios`: its variants.
* `judge`: runs a job, ends it if it hangs, counts what is left.
* `report`: the table and the chart.
"""
