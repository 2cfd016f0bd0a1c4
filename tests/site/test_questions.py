"""The questions on the pages: shut at first, and open without a network and without a script."""

import pytest

from tests.site.test_pages import LEADS, html_pages


@pytest.mark.browser
def test_questions_open_without_script_and_network(site, chromium):
    context = chromium.new_context(java_script_enabled=False, offline=True)
    context.set_default_timeout(600_000)  # a busy machine is no fault of the page
    page, asked = context.new_page(), {}
    for path in html_pages(site):
        page.goto(path.as_uri())
        boxes = page.locator("details", has=page.locator("summary", has_text="Question:"))
        asked[path.stem] = boxes.count()
        for box in boxes.all():
            answer = box.locator(".sd-card-body")
            assert not answer.is_visible(), path.stem
            assert box.locator("summary a").count() == 0, f"{path.stem}: a link in a button"
            box.locator("summary").click()
            assert answer.is_visible() and len(answer.inner_text()) > 20, path.stem
    context.close()
    assert all(2 <= asked[name] <= 3 for name in LEADS), asked
    assert sum(asked.values()) > 30
