"""`python -m densevision` and `torchrun -m densevision`."""

from .apps.cli import main

if __name__ == "__main__":
    main()
