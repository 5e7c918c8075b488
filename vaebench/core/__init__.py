"""The contracts that plug-ins share, their checks, and names, files, errors and devices below them."""
