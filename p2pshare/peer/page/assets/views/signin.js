/** Shown without a session: how to open the page again, and the password if the peer has one. */

import { openCommand, session } from "../lib/api.js";
import { errorText, t } from "../lib/texts.js";
import { html, useEffect, useState } from "../lib/ui.js";
import { Button, Command, Field } from "../parts/index.js";

const ASK_AGAIN_MS = 5000; // another tab may sign in meanwhile

export default function SignIn({ problem, onDone }) {
  const [password, setPassword] = useState("");
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const [methods, setMethods] = useState(problem?.methods ?? "");
  useEffect(() => {
    const look = () => session.read().then(onDone, (found) => found.problem?.methods && setMethods(found.problem.methods));
    if (!problem) look();
    const timer = setInterval(look, ASK_AGAIN_MS);
    return () => clearInterval(timer);
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await session.begin({ password });
      onDone();
    } catch (found) {
      setError(found.status === 401 ? t("signin.wrong") : errorText(found));
    } finally {
      setBusy(false);
    }
  };
  const hasPassword = methods.split(" ").includes("password");
  return html`<main class="signin" id="main" tabindex="-1"><div class="card padded">
    <img src=${new URL("../icon.svg", import.meta.url)} width="40" height="40" alt="" />
    <h1 tabindex="-1">${t("signin.title")}</h1>
    ${hasPassword && html`<form onSubmit=${submit}>
      <${Field} label=${t("signin.password")} type="password" autocomplete="current-password" value=${password} onInput=${setPassword} error=${error} required />
      <${Button} kind="primary" type="submit" busy=${isBusy}>${t("signin.submit")}<//></form>`}
    <p>${t(hasPassword ? "signin.or_open" : "signin.open_again")}</p><${Command} text=${openCommand()} />
    <p class="hint">${t("signin.why")}</p>
  </div></main>`;
}
