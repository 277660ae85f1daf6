/**
 * The width and height that the first bytes of a picture tell, so that a picture with too many pixels is never given to the browser.
 *
 * Sources: PNG (RFC 2083, IHDR), GIF89a, JPEG (ITU T.81, start of frame), WebP (RFC 9649), BMP, AVIF (ISO 14496-12, `ispe`).
 */

export const HEADER_BYTES = [65536, 1048576]; // read at first, and if that does not tell the size: some JPEGs have much metadata
export const PIXELS_MAX = 120e6; // shown whole; decoded that takes 480 MB

/** Return `{width, height}` in pixels before rotation, or null if the bytes are no known picture. */
export function pictureSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const read of [png, gif, webp, bmp, jpeg, avif]) {
    try {
      const found = read(bytes, view);
      if (found && found[0] > 0 && found[1] > 0) return { width: found[0], height: found[1] };
    } catch (error) {
      if (!(error instanceof RangeError)) throw error; // the bytes end too early
    }
  }
  return null;
}

const text = (bytes, start, length) => String.fromCharCode(...bytes.subarray(start, start + length));

function png(bytes, view) {
  return text(bytes, 0, 8) === "\x89PNG\r\n\x1a\n" && text(bytes, 12, 4) === "IHDR" ? [view.getUint32(16), view.getUint32(20)] : null;
}

function gif(bytes, view) {
  return /^GIF8[79]a$/.test(text(bytes, 0, 6)) ? [view.getUint16(6, true), view.getUint16(8, true)] : null;
}

function bmp(bytes, view) {
  return text(bytes, 0, 2) === "BM" && view.getUint32(14, true) >= 40 ? [view.getInt32(18, true), Math.abs(view.getInt32(22, true))] : null;
}

function webp(bytes, view) {
  if (text(bytes, 0, 4) !== "RIFF" || text(bytes, 8, 4) !== "WEBP") return null;
  const at24 = (at) => view.getUint16(at, true) + view.getUint8(at + 2) * 65536;
  const kind = text(bytes, 12, 4);
  if (kind === "VP8X") return [at24(24) + 1, at24(27) + 1];
  if (kind === "VP8 ") return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
  if (kind !== "VP8L") return null;
  const bits = view.getUint32(21, true);
  return [(bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1];
}

function jpeg(bytes, view) {
  if (view.getUint16(0) !== 0xffd8) return null;
  let at = 2;
  for (;;) {
    while (view.getUint8(at) !== 0xff) at += 1;
    while (view.getUint8(at) === 0xff) at += 1;
    const marker = view.getUint8(at);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return [view.getUint16(at + 6), view.getUint16(at + 4)];
    at += marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8) ? 1 : 1 + view.getUint16(at + 1);
  }
}

function avif(bytes, view) {
  if (text(bytes, 4, 4) !== "ftyp") return null;
  let widest = null;
  for (let at = 8; at + 16 < bytes.length; at += 1) {
    if (view.getUint32(at) !== 0x69737065) continue; // "ispe"
    const found = [view.getUint32(at + 8), view.getUint32(at + 12)];
    if (!widest || found[0] * found[1] > widest[0] * widest[1]) widest = found;
  }
  return widest;
}
