"""Metrics, one file per protocol."""
