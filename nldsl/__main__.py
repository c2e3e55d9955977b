"""`python -m nldsl` is the command `nldsl`."""

from nldsl.cli import main

main()
