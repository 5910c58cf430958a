"""The pages that are written from the code are those of this code."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_classes() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "classes.py"))["page"]
    assert (ROOT / "docs" / "classes.md").read_text() == page(), "run `make docs`"
