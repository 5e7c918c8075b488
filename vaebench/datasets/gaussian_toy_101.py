"""HVAE's Gaussian problem in 101 dimensions: 10,000 observations around each z, as averages and log-variances."""

from vaebench.datasets._toy import toy

plugin = toy(101, fingerprint="fb6729a9c2df4f0d66414038db543e824048c4c01f1fbeddeec2e9edf6301274")
