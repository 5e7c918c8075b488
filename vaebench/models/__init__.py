"""Cards, weights and their loading; adapters, networks and foreign formats."""
