"""The training loop, its state and schedules; the objectives."""
