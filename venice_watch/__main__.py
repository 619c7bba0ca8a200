"""`python -m venice_watch` is the command `venice-watch`."""

from venice_watch.cli import main

main()
