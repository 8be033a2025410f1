// Pictures that are larger than the server takes become smaller; all others are sent as they are.

const QUALITY = 0.92;
const TRIES = 6;

/** `file`, or a JPEG of at most so many pixels and bytes. What the browser cannot read is left to the server. */
export async function fitted(file, { pixels = Infinity, bytes = Infinity }) {
  if (pixels === Infinity && file.size <= bytes) return file;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return file;
  let share = Math.min(1, Math.sqrt(pixels / (bitmap.width * bitmap.height)));
  let made = share < 1 ? await jpeg(bitmap, share) : file;
  for (let tries = 0; made.size > bytes && tries < TRIES; tries++) {
    if (made !== file) share *= Math.min(0.95, Math.sqrt(bytes / made.size)); // as a JPEG it may do at its own size
    made = await jpeg(bitmap, share);
  }
  bitmap.close();
  return made;
}

async function jpeg(bitmap, share) {
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.floor(side * share)));
  const canvas = new OffscreenCanvas(width, height);
  const paper = canvas.getContext("2d");
  paper.fillStyle = "#fff"; // JPEG has no transparency
  paper.fillRect(0, 0, width, height);
  paper.imageSmoothingQuality = "high";
  paper.drawImage(bitmap, 0, 0, width, height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
}
