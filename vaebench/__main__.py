"""`python -m vaebench` is `vaebench`."""

from vaebench.cli.main import main

main(prog_name="vaebench")
