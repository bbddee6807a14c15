"""``python -m steno.cli``: the command without its script."""

from steno.cli.main import main

if __name__ == "__main__":
    main()
