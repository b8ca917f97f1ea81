"""Generators (``make_*``) and loaders (``load_*``) of data sets."""

__all__: list[str] = []
