"""`python -m zbus` is the program `zbus`."""

from zbus.cli.main import main

if __name__ == "__main__":
    main()
