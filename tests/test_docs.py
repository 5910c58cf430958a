"""The pages that are written from the code are those of this code; what others show is so."""

import doctest
import os
import re
import runpy
import shlex
from pathlib import Path

import pytest
from command import t7convert

pytestmark = pytest.mark.usefixtures("kept_interpreter")

ROOT = Path(__file__).parent.parent


def test_classes() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "classes.py"))
    assert (ROOT / "docs" / "classes.md").read_text() == written["page"](), "run `make docs`"
    assert (ROOT / "converters" / "classes.json").read_text() == written["listing"](), "run `make docs`"


def test_cudnn_in_convert() -> None:
    page = (ROOT / "docs" / "convert.md").read_text()
    section = page.partition("## Recurrent layers of cuDNN")[2].partition("\n## ")[0]
    examples = doctest.DocTestParser().get_doctest(section, {}, "convert.md", "convert.md", 0)
    results = doctest.DocTestRunner().run(examples)
    assert results.attempted > 8
    assert results.failed == 0


def test_transcripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gives what docs/convert.md says, one after the other in one folder."""
    os.symlink(ROOT / "fixtures", tmp_path / "fixtures")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "convert.md").read_text()
    transcripts = re.findall(r"^    \$ t7convert (.*)\n((?:    (?!\$).+\n)*)", page, re.MULTILINE)
    assert len(transcripts) >= 8
    for arguments, shown in transcripts:
        result = t7convert(*shlex.split(arguments))
        want, got = (
            re.sub(r"^ *(.*?) *$", r"\1", text, flags=re.MULTILINE) for text in (shown, result.output)
        )
        assert doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS), f"{arguments}\n{got}"
