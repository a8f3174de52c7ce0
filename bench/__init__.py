"""Benchmarks: `python -m bench`.  A file a peer, all measured in one run in turn, so that ratios can be trusted.

* `peers`: what is compared, a file each; `c`: the programs in C that `native` builds; `lttng`: its daemon and sessions.
* `peer`: what a peer's module offers, and the loops in which events are timed.
* `worker`: one peer in a process of its own, and what it is told by `process`, the runner's side of it.
* `consumer`: the other end of a pipe or queue.
* `costs`, `scale`, `start`, `delivery`, `collecting`, `latency`, `others`: what is measured.
* `machine`: the facts; `report`: tables and chart, from the figures alone.
* `geometry`: page sizes and numbers of lanes compared; `recording`: ways from the FIFO into files; `channels`,
  `writers`, `slots`, `loaded`, `soak`: many at once, no idle cpu, and for long; `reliability`: what is left when
  processes are killed.  Programs of their own.
* `numbered`, `audit`, `checks`: events that can be told apart, and a consumer that checks every byte of them.
"""
