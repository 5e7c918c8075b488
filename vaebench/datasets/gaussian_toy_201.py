"""HVAE's Gaussian problem in 201 dimensions: 10,000 observations around each z, as averages and log-variances."""

from vaebench.datasets._toy import toy

plugin = toy(201, fingerprint="70489e7fff6d85d7cc299251e0089269653b39b89a8c14edfcd52966c30492ec")
