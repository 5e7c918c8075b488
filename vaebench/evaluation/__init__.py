"""What runs a metric on a model: blocks, executor, journal, provenance, rows."""
