/** All parts, in one import: import { Button, Name, toast } from "../parts/index.js". */

export * from "./controls.js";
export * from "./dialogs.js";
export * from "./menus.js";
export { LeftOut, leftOutCount } from "./left_out.js";
export { Looks, openShortcuts } from "./looks.js";
export { Page } from "./page.js";
export { Icon } from "./icons.js";
