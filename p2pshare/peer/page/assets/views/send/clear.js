/** Removes offers that are over from a list: one, or all. */

import { ask } from "../../lib/api.js";
import { errorText, t } from "../../lib/texts.js";
import { announce, toast } from "../../parts/index.js";

/** Perform "inbox_clear" or "offers_clear" for one offer, or for all; events take the rows away. */
export async function clear(action, id = undefined) {
  try {
    const { count } = await ask(action, { id });
    announce(t("inbox.cleared", { n: count }));
  } catch (error) {
    toast(errorText(error), { kind: "bad" });
  }
}
