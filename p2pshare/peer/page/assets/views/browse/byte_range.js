/** Reads a part of a file of a person, with the errors of the peer. */

import { noReply, problemError } from "../../lib/api.js";

/** Return the bytes from `start` to before `end` as a Uint8Array; fewer if the file ends before. */
export async function readRange(address, start, end, signal) {
  let reply;
  try {
    reply = await fetch(address, { headers: { Range: `bytes=${start}-${end - 1}` }, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw noReply();
  }
  if (reply.status === 416) return new Uint8Array(0); // the file ends before
  if (!reply.ok) throw problemError(reply.status, await reply.json().catch(() => null));
  return firstBytes(reply, end - start, signal);
}

/** A reply without ranges is longer than what was asked for: only its beginning is read. */
async function firstBytes(reply, most, signal) {
  const reader = reply.body.getReader();
  const pieces = [];
  let size = 0;
  try {
    while (size < most) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      size += value.length;
    }
  } catch (error) {
    if (signal?.aborted) throw error;
    throw noReply();
  } finally {
    reader.cancel().catch(() => {});
  }
  const all = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all.subarray(0, most);
}
