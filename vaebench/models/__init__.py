"""Cards, weights and their loading; adapters, networks and other projects' formats."""
