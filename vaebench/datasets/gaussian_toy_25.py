"""HVAE's Gaussian problem in 25 dimensions: 10,000 observations around each z, as averages and log-variances."""

from vaebench.datasets._toy import toy

plugin = toy(25, fingerprint="813c7851b51fe25027044f714a831b745de715b5f93b3e4e9a0b9bdbce4e9d1b")
