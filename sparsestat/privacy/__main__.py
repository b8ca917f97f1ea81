"""Aggregate files of reports from the command line: ``python -m sparsestat.privacy``."""

import argparse
import sys

from sparsestat.privacy import MomentAggregator, ReportError, aggregate_shards


def main(arguments=None):
    """Run a command.

    Parameters
    ----------
    arguments : list of str or None, default=None
        What follows the name of the program; None takes the command line.

    Returns
    -------
    status : int
        0, or 2 if the files were refused; nothing is written then.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ReportError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sparsestat.privacy", description="Sums of randomised reports."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    aggregate = commands.add_parser(
        "aggregate", help="sum files of reports, and of states, into one state"
    )
    aggregate.add_argument("shards", nargs="+", metavar="SHARD", help="npz file of reports")
    aggregate.add_argument("-o", "--output", required=True, help="npz file for the state")
    aggregate.add_argument(
        "--allow-simulated", action="store_true", help="take reports of a simulation"
    )
    aggregate.add_argument(
        "--deduplicate", action="store_true", help="refuse a nonce that comes twice"
    )
    aggregate.add_argument("--n-jobs", type=int, default=None, help="threads that decode a file")
    aggregate.set_defaults(run=_aggregate)
    show = commands.add_parser("show", help="say what a state holds")
    show.add_argument("state", metavar="STATE", help="npz file of a state")
    show.set_defaults(run=lambda options: _show(MomentAggregator.load(options.state)))
    return parser


def _aggregate(options):
    state = aggregate_shards(
        options.shards,
        allow_simulated=options.allow_simulated,
        deduplicate=options.deduplicate,
        n_jobs=options.n_jobs,
    )
    state.save(options.output)
    _show(state)


def _show(state):
    config, privacy = state.config, state.config.privacy
    print(f"{state.n_reports_:,} reports, round {state.round}")
    print(f"kind={config.kind} mechanism={config.mechanism} campaign={config.campaign_id!r}")
    print(
        f"epsilon={privacy.epsilon:g} delta={privacy.delta:g} per {privacy.unit}, "
        f"adjacency: {privacy.adjacency}"
    )
    print(f"fingerprint {config.fingerprint().hex()}")
    if state.n_reports_:
        moments = state.moments()
        print(f"standard deviation of the noise: cross moments {moments.sd_b:.3g}")


if __name__ == "__main__":
    sys.exit(main())
