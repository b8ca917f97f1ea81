"""Map-reduce over files of reports: each becomes a state, and states add up."""

import operator
import os
from pathlib import Path

from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._errors import ReportError
from sparsestat.privacy._reports import ReportBatch, archive_content
from sparsestat.utils._moments import is_dask_collection


def aggregate_shard(path, *, allow_simulated=False, deduplicate=False, n_jobs=None):
    """Sum the reports of one file.

    Parameters
    ----------
    path : str or path-like
        A file that :meth:`ReportBatch.save` or :meth:`MomentAggregator.save` wrote.
    allow_simulated : bool, default=False
        Whether simulated reports are taken.
    deduplicate : bool, default=False
        Whether a nonce that comes twice is refused; a state must then hold its nonces.
    n_jobs : int or None, default=None
        Threads that decode.

    Returns
    -------
    state : MomentAggregator

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ReportError
        If the file is damaged or its reports are refused; the message names the file.

    See Also
    --------
    aggregate_shards : Many files.

    Examples
    --------
    >>> import functools, operator, os, tempfile
    >>> from sparsestat.privacy import LDPConfig, MomentAggregator, SimulationRandomizer
    >>> from sparsestat.privacy import aggregate_shard
    >>> clients = SimulationRandomizer(LDPConfig("label", n_features=1), random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shards = [os.path.join(folder, name) for name in ("monday.npz", "tuesday.npz")]
    ...     for shard in shards:
    ...         clients.randomize_batch(None, [0.5, 1.0, -0.2]).save(shard)
    ...     states = map(functools.partial(aggregate_shard, allow_simulated=True), shards)
    ...     functools.reduce(operator.add, states).n_reports_
    6
    """
    options = {"allow_simulated": allow_simulated, "deduplicate": deduplicate, "n_jobs": n_jobs}
    try:
        if archive_content(path) == "state":
            loaded = MomentAggregator.load(path)
            empty = MomentAggregator(loaded.config, round=loaded.round, **options)
            return empty.merge(loaded)
        batch = ReportBatch.load(path)
        return MomentAggregator(batch.config, round=batch.round, **options).add_batch(batch)
    except ReportError as error:
        if os.fspath(path) in str(error):
            raise
        raise type(error)(f"path: {os.fspath(path)!r}: {error}") from error


def aggregate_shards(paths, *, allow_simulated=False, deduplicate=False, n_jobs=None):
    """Sum the reports of many files, one file in memory at a time.

    Parameters
    ----------
    paths : sequence of path-like, or dask.bag.Bag of them
        Files of reports or of states, of one campaign and round. A Dask bag is summed by a
        map-reduce on its cluster, from which a single state comes back.
    allow_simulated : bool, default=False
        Whether simulated reports are taken.
    deduplicate : bool, default=False
        Whether a nonce that comes twice, in any of the files, is refused.
    n_jobs : int or None, default=None
        Threads that decode a file.

    Returns
    -------
    state : MomentAggregator
        The same, bit for bit, whatever the order and the grouping of the files.

    Raises
    ------
    ValueError
        If there are no paths, or one is there twice.
    FileNotFoundError
        If there is no such file.
    ReportError
        If a file is damaged or its reports are refused; the message names the file.

    Examples
    --------
    On a cluster, with `folder` on storage that all workers see::

        import dask.bag
        bag = dask.bag.from_sequence(sorted(folder.glob("*.npz")), partition_size=10)
        state = aggregate_shards(bag)

    and on one machine

    >>> import os, tempfile
    >>> from sparsestat.privacy import LDPConfig, SimulationRandomizer, aggregate_shards
    >>> clients = SimulationRandomizer(LDPConfig("label", n_features=1), random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shard = os.path.join(folder, "monday.npz")
    ...     clients.randomize_batch(None, [0.5, 1.0, -0.2]).save(shard)
    ...     aggregate_shards([shard], allow_simulated=True).n_reports_
    3
    """
    options = {"allow_simulated": allow_simulated, "deduplicate": deduplicate, "n_jobs": n_jobs}
    if is_dask_collection(paths):
        return paths.map(aggregate_shard, **options).fold(operator.add).compute()
    if isinstance(paths, str | Path):
        raise TypeError(f"paths must be a sequence of paths, got the single path {paths!r}.")
    total, places = None, set()
    for path in paths:
        if os.path.realpath(path) in places:
            raise ValueError(f"paths must name each file once, got {os.fspath(path)!r} twice.")
        places.add(os.path.realpath(path))
        state = aggregate_shard(path, **options)
        try:
            total = state if total is None else total.merge(state)
        except ReportError as error:
            raise type(error)(f"path: {os.fspath(path)!r}: {error}") from error
    if total is None:
        raise ValueError("paths must hold at least one file, got none.")
    return total
