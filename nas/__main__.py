"""`python -m nas`."""

from nas.hidden import guard

guard()  # before anything takes long

from nas.cli import main  # noqa: E402

main()
