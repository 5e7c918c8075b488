"""Datasets, one file each: a module that ends in `plugin = Source(...)`; names beginning with `_` are helpers."""
