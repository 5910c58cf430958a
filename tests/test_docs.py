"""The pages that are written from the code are those of this code; what others show is so."""

import doctest
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_classes() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "classes.py"))["page"]
    assert (ROOT / "docs" / "classes.md").read_text() == page(), "run `make docs`"


def test_cudnn_in_convert() -> None:
    page = (ROOT / "docs" / "convert.md").read_text()
    section = page.partition("## Recurrent layers of cuDNN")[2].partition("\n## ")[0]
    examples = doctest.DocTestParser().get_doctest(section, {}, "convert.md", "convert.md", 0)
    results = doctest.DocTestRunner().run(examples)
    assert results.attempted > 8
    assert results.failed == 0
