"""Signing in and out in a real browser: by a link, and by the password over TLS."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.page.page_case import STATE, PageTestCase
from tests.registry.certificates import write_certificate

PASSWORD = "correct horse battery"
CLOSED = "document.querySelector('main.signin h1')?.textContent"
SIGN_OUT = (
    "[...document.querySelectorAll('main button')].find(each => each.textContent === 'Sign out')"
)
COOKIE = """const done = arguments[0];
  cookieStore.getAll().then((all) => done(all.length + document.cookie.length));"""


class SignInTests(PageTestCase):
    """The ways in and out."""

    def test_link(self) -> None:
        """A link works in one browser and once, leaves no trace in the address, and signing out ends it everywhere."""
        alice, browser = self.world["alice"], self.browser
        url = alice.page_url("/settings")
        browser.open(url)
        browser.wait(STATE, "live")
        browser.wait("location.hash", "#/settings")
        self.assertEqual(browser.run_async(COOKIE), 0)
        self.addCleanup(browser.close_tabs)
        browser.new_tab()
        browser.open(url.partition("#")[0])
        browser.wait(STATE, "live")
        browser.use_tab(0)
        browser.forget_all()
        browser.open(url)
        browser.wait(CLOSED, "This page is closed")
        self.check_accessibility()
        browser.keep("sign-in")
        self.open(alice, "/settings")
        browser.wait_until(SIGN_OUT)
        browser.run(f"{SIGN_OUT}.click()")
        browser.wait(CLOSED, "This page is closed")
        browser.run("void (location.href = a[0])", alice.page_url("/settings"))
        browser.wait_until(SIGN_OUT)
        browser.run(f"{SIGN_OUT}.click()")
        browser.wait(CLOSED, "This page is closed")
        browser.new_tab()
        browser.open(alice.page_url("/people"))
        browser.wait_until(STATE)
        self.assertEqual(browser.run(STATE), "live", "whatever the closed tab says")
        browser.close_tabs()

    def test_password(self) -> None:
        """From another machine, the password opens the page over TLS; a wrong one does not."""
        world = self.own_world()
        certificate = write_certificate(world.folder / "key.pem")
        password = world.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        page = f"ssl:0:privateKey={certificate}:certKey={certificate}:interface=127.0.0.1"
        dora = world.add("dora", {}, "--page", page, "--page-password-file", str(password))
        url, browser = urlsplit(dora.page_url()), self.browser
        browser.trust_any_certificate(True)
        self.addCleanup(browser.trust_any_certificate, False)
        browser.open(f"https://127.0.0.1:{url.port}/")
        browser.wait_until("document.querySelector('.signin input[type=password]')")
        self.check_accessibility()
        browser.type(".signin input", "wrong\n")
        browser.wait_until(
            "document.querySelector('.signin form').textContent.includes('not right')"
        )
        browser.run("document.querySelector('.signin input').select()")
        browser.type(".signin input", f"{PASSWORD}\n")
        browser.wait(STATE, "live")
        self.assertEqual(browser.run("isSecureContext"), True)
