"""vaebench: a benchmark suite for variational auto-encoders."""

__version__ = "0.1.0"
