"""The pages for users are true: their Python examples give what they say."""

import doctest
from pathlib import Path

import pytest

from t7compat import registry

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("page", "least"), [("README.md", 16), ("docs/custom_classes.md", 9)])
def test_examples(page: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))  # what a page registers goes again
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(ROOT / page), module_relative=False)
    assert results.attempted >= least
    assert results.failed == 0
