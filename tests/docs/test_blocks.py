"""Every Python and console block of the documentation does what the page says. See `blocks` for how they are marked."""

from __future__ import annotations

import pytest

from tests.docs.blocks import RUN, Block, blocks_of, pages
from tests.docs.running import Reader

PAGES = pages()
SKIPPED = [block for page in PAGES for block in blocks_of(page) if block.language in RUN and block.why_not]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: "/".join(page.parts[-2:]))
def test_a_page_does_what_it_says(page, tmp_path):
    """A reader who follows the page from its first to its last block sees what is written there."""
    with Reader(tmp_path) as reader:
        for block in blocks_of(page):
            if ("file" in block.marks or block.language in RUN) and not block.why_not:
                reader.follow(block)


@pytest.mark.parametrize("block", SKIPPED, ids=str)
def test_a_block_that_is_not_run_says_why(block: Block):
    """Its Python compiles at least; the reason is shown in the summary of the run."""
    if block.language == "python":
        compile(block.text, str(block), "exec")
    pytest.skip(block.why_not)
