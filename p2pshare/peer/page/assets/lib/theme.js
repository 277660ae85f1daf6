/** The theme: that of the system, or light or dark by choice. */

const THEME = "p2pshare.theme"; // the choice in localStorage

/** Return "system", "light" or "dark". */
export const chosenTheme = () => ({ light: "light", dark: "dark" })[localStorage.getItem(THEME)] ?? "system";

/** Keep a choice and show it. */
export function chooseTheme(theme) {
  localStorage.setItem(THEME, theme);
  applyTheme();
}

/** Show the chosen theme. */
export function applyTheme() {
  const theme = chosenTheme();
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
