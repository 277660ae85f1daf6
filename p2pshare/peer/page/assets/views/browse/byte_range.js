/** Reads a part of a file of a person, with the errors of the peer. */

import { ApiError } from "../../lib/api.js";

/** Return the bytes from `start` to before `end` as a Uint8Array; fewer if the file ends before. */
export async function readRange(address, start, end, signal) {
  let reply;
  try {
    reply = await fetch(address, { headers: { Range: `bytes=${start}-${end - 1}` }, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError({ error: "NoReply", message: "The peer does not answer.", exitCode: 5 });
  }
  if (reply.status === 416) return new Uint8Array(0); // the file ends before
  if (!reply.ok) throw await problem(reply);
  return firstBytes(reply, end - start, signal);
}

async function problem(reply) {
  let found = {};
  try {
    found = await reply.json();
  } catch { /* no problem document: the status must do */ }
  return new ApiError({
    error: found.error ?? `Status${reply.status}`, message: found.detail ?? found.title ?? `HTTP ${reply.status}`, exitCode: found.exit_code, status: reply.status, problem: found,
  });
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
    throw new ApiError({ error: "NoReply", message: "The peer does not answer.", exitCode: 5 });
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
