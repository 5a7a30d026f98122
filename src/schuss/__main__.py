"""``python -m schuss``: the command line."""

from .cli import main

raise SystemExit(main())
