#!/usr/bin/env python3
"""The page of a run in a real Chromium: chosen from, asked, and looked at in light, dark, and 400 pixels wide.

    check_page.py CRIADERO RUN OUT [--chromium /usr/bin/chromium]

Needs playwright and Chromium. Writes pictures of what it saw to OUT."""

import argparse
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


class Visit:
    """A browser's tab, which complains of nothing."""

    def __init__(self, browser, address, scheme, width):
        self.context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 1000})
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.complaints = []
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        # What is stopped is aborted.
        failed = lambda request: self.complaints.append(request.url) if "ABORTED" not in request.failure else None
        self.page.on("requestfailed", failed)
        self.page.goto(address)
        self.page.locator("#explore .layers rect").first.wait_for()

    def __enter__(self):
        return self.page

    def __exit__(self, kind, *_):
        self.context.close()
        assert kind or not self.complaints, self.complaints


def choose(page):
    """By mouse and by keyboard, and what it changes."""
    points = page.locator(".chart .point:not(.parent)")
    heading = page.locator(".chosen h3").first
    before = heading.inner_text()
    others = [place for place in range(points.count()) if "chosen" not in points.nth(place).get_attribute("class")]
    points.nth(others[0]).click(force=True)
    after = heading.inner_text()
    assert before != after, before
    page.locator(".chart .parent").focus()
    page.keyboard.press("Enter")
    assert heading.inner_text() == "the parent"
    points.nth(0).focus()
    page.keyboard.press(" ")
    assert heading.inner_text().startswith("network ")
    label = points.nth(0).get_attribute("aria-label")
    page.get_by_label("score").select_option(index=1)
    assert points.nth(0).get_attribute("aria-label") != label
    page.get_by_label("score").select_option(index=0)


def copy(page):
    button = page.get_by_role("button", name="copy the export to GGUF")
    button.click()
    page.get_by_role("button", name="copied").wait_for()
    assert button.get_attribute("title", timeout=5000).startswith("criadero export ")


def ask(page):
    """Two networks write; one that is stopped stops."""
    page.get_by_label("prompt").fill("Once upon a time")
    page.get_by_label("tokens at most").fill("24")
    write = page.get_by_role("button", name="write", exact=True)
    for chat in (False, True):
        page.get_by_label("as a chat").set_checked(chat)
        write.click()
        page.get_by_role("button", name="stop", exact=True).wait_for()
        write.wait_for(timeout=120_000)
        rates = page.locator(".rate").all_text_contents()
        assert len(rates) == 2 and all("tokens" in rate for rate in rates), rates
        assert all(page.locator("output").all_text_contents()), "both have written"
    page.get_by_label("tokens at most").fill("400")
    write.click()
    page.get_by_role("button", name="stop", exact=True).click()
    write.wait_for(timeout=5000)
    assert "stopped" in page.locator(".rate").all_text_contents()


def visits(browser, address, out, name, served):
    for scheme, width in [("light", 1100), ("dark", 1100), ("light", 400)]:
        with Visit(browser, address, scheme, width) as page:
            choose(page)
            if scheme == "light" and width > 400:
                copy(page)
            if served:
                assert page.locator(".ask textarea").count() == 1
                if scheme == "light" and width > 400:
                    ask(page)
            else:
                assert page.locator(".ask").count() == 0
            box = page.locator("#explore").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width, box
            page.locator("#explore").screenshot(path=out / f"{name}-{scheme}-{width}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("criadero", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    subprocess.run([args.criadero, "plot", args.run, "--out", args.out], check=True, stdout=subprocess.DEVNULL)
    with subprocess.Popen([args.criadero, "serve", args.run, "--addr", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True) as server:
        try:
            address = next(line for line in server.stderr if "a page for browsers" in line).split(": ")[1].strip()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
                visits(browser, (args.out / "report.html").resolve().as_uri(), args.out, "report", served=False)
                visits(browser, address, args.out, "served", served=True)
                print(f"Chromium {browser.version}: the page can be chosen from, copied from and asked")
                browser.close()
        finally:
            server.terminate()
            server.communicate()


if __name__ == "__main__":
    sys.exit(main())
