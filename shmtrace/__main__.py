"""`python -m shmtrace`: the command line."""

from shmtrace.cli import main

main()
