"""`shmtrace collect`: the collector, in the foreground."""

from __future__ import annotations

import os

import click


def _cpus(_context: click.Context, _option: click.Parameter, value: str | None) -> set[int] | None:
    """Numbers of cpus, as taskset has them: 0,2-3."""
    if value is None:
        return None
    try:
        parts = [part.partition("-") for part in value.split(",")]
        cpus = {cpu for first, dash, last in parts for cpu in range(int(first), int(last if dash else first) + 1)}
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of cpus: write it as 0,2-3") from None
    if not cpus & os.sched_getaffinity(0):
        allowed = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        raise click.BadParameter(f"of {value!r} this process may use none; it may use {allowed}")
    return cpus


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    from shmtrace.collector.endpoint import parse_address

    try:
        return parse_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "all_channels", is_flag=True, help="Every channel of this user, those to come included.")
@click.option("--cpus", callback=_cpus, metavar="CPUS", help="Run on these cpus only, as in 0,2-3.")
@click.option("--nice", type=click.IntRange(-20, 19), help="Priority: 19 gives way to everybody; below 0 needs root.")
@click.option(
    "--metrics", callback=_address, metavar="[HOST:]PORT", help="Serve /metrics for Prometheus there, on loopback."
)
@click.option("--session", type=int, metavar="PID", hidden=True)  # end, and remove the channel, when PID is gone
def command(
    names: tuple[str, ...], *, all_channels: bool, cpus: set[int] | None, nice: int | None,
    metrics: tuple[str, int] | None, session: int | None,
) -> int:  # fmt: skip
    """Serve the FIFOs of the channels NAME... until SIGTERM."""
    if bool(names) == all_channels:
        raise click.UsageError("name the channels, or give --all")
    from shmtrace import collector

    if cpus is not None:
        os.sched_setaffinity(0, cpus)
    if nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        except PermissionError:
            raise click.UsageError(f"--nice {nice}: a higher priority needs root, or CAP_SYS_NICE") from None
    return collector.main(names, all_channels=all_channels, session=session, metrics=metrics)
