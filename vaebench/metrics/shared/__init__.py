"""What several metrics share: passes, sample quality, pictures."""
