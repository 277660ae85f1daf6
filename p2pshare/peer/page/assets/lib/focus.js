/**
 * Keeps the focus when the element that has it goes: a button that its own action removes, a row that moves to another list.
 *
 * Browsers give the focus to the body then, where a screen reader starts again from the top and keys do nothing. Here the nearest part of the view
 * that is left gets it: a list or a section itself, or the first control of anything smaller. A view that puts the focus elsewhere does so in a
 * layout effect, which is earlier. Elements that only lose the focus are let go.
 */

const CONTROLS = "button:not(:disabled), a[href], input:not(:disabled), select, textarea, [tabindex]";

let chain = []; // the element that had the focus last, and all that it is in, up to `main`

/** Keep the focus within `main` from now on; returns a function that ends it. */
export function keepFocus(main) {
  main.addEventListener("focusin", ({ target }) => {
    chain = [];
    for (let at = target; at && at !== main; at = at.parentElement) chain.push(at);
  });
  main.addEventListener("focusout", ({ target }) => setTimeout(() => {
    if (target === chain[0] && target.isConnected && document.activeElement === document.body) chain = [];
  }));
  const changes = new MutationObserver(restoreFocus);
  changes.observe(main, { childList: true, subtree: true });
  return () => changes.disconnect();
}

/** Give the focus to what is left, if the element that had it has gone; for a dialog whose opener has gone meanwhile. */
export function restoreFocus() {
  if (chain.length === 0 || chain[0].isConnected || document.activeElement !== document.body) return;
  const rest = chain.find((each) => each.isConnected) ?? document.getElementById("main");
  chain = [];
  const target = placeIn(rest);
  if (!target.matches(CONTROLS)) target.tabIndex = -1;
  target.focus({ preventScroll: true });
}

function placeIn(rest) {
  if (rest.matches("main, .page")) return rest.querySelector("h1") ?? rest;
  return rest.matches("ul, ol, section") ? rest : (rest.querySelector(CONTROLS) ?? rest);
}
