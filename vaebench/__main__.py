"""`python -m vaebench` is `vaebench`."""

from .cli import main

main(prog_name="vaebench")
