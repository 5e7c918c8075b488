"""HVAE's Gaussian problem in 51 dimensions: 10,000 observations around each z, as averages and log-variances."""

from vaebench.datasets._toy import toy

plugin = toy(51, fingerprint="cd561800a9251bf91021a75eacd5458b71b00ca4869021f70eb006f3b26a1fd2")
