"""`python -m nnunet_cascade`: run a command by its name, or list all."""

from nnunet_cascade.cli.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
