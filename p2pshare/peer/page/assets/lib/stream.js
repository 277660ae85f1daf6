/**
 * One stream of server-sent events, read with `fetch`: unlike an EventSource it hands over events of every kind, and tells a stream that was
 * refused from one that broke.
 */

const SILENCE_MS = 40000; // the peer sends `alive` every 15 s
const EVENT_MAX = 4 * 1024 * 1024; // characters of one event

/**
 * Open the stream, and call `onEvent(kind, data)` for each event. Ends with `onEnd(status)` exactly once: the HTTP status if the stream was refused,
 * or 0 if it broke, ended or was silent for too long. Returns a function that closes the stream without a call.
 */
export function openStream(path, onEvent, onEnd) {
  const abort = new AbortController();
  let isOpen = true;
  let silence = 0;
  const end = (status) => {
    if (!isOpen) return;
    close();
    onEnd(status);
  };
  const close = () => {
    isOpen = false;
    clearTimeout(silence);
    abort.abort();
  };
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => end(0), SILENCE_MS);
  };
  heard();
  read(path, abort.signal, (kind, data) => {
    heard();
    if (isOpen) onEvent(kind, data);
  }).then(end, () => end(0));
  return close;
}

async function read(path, signal, onEvent) {
  const reply = await fetch(path, { signal, cache: "no-store", headers: { Accept: "text/event-stream" } });
  if (!reply.ok) {
    await reply.body?.cancel();
    return reply.status;
  }
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return 0;
    const texts = (rest + value).split("\n\n");
    rest = texts.pop();
    if (rest.length > EVENT_MAX) return 0;
    for (const text of texts) handOver(text, onEvent);
  }
}

function handOver(text, onEvent) {
  let kind = "message";
  const data = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  if (data.length > 0) onEvent(kind, JSON.parse(data.join("\n")));
}
