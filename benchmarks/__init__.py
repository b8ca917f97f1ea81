"""Side-by-side measurements of sparsestat and its peers: ``python -m benchmarks FAMILY``."""
