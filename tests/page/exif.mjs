// Makes of an upright JPEG what a camera held sideways would have written of the same scene.

/** Orientation 6 in big-endian TIFF: one entry, tag 0x0112, a SHORT, and no further directory. */
const TIFF = "4d4d002a00000008" + "0001" + "0112000300000001" + "00060000" + "00000000";

/** The picture turned anticlockwise, with the note to turn it back. */
export async function sideways(page, jpeg) {
  const turned = Buffer.from(await page.evaluate(turn, jpeg.toString("base64")), "base64");
  const body = Buffer.concat([Buffer.from("Exif\0\0", "latin1"), Buffer.from(TIFF, "hex")]);
  const head = Buffer.from([0xff, 0xe1, 0, body.length + 2]);
  return Buffer.concat([turned.subarray(0, 2), head, body, turned.subarray(2)]);
}

/** Runs in the browser, which has what it takes to read and write a JPEG. */
async function turn(base64) {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${base64}`;
  await image.decode();
  const { naturalWidth: width, naturalHeight: height } = image;
  const canvas = new OffscreenCanvas(height, width);
  const context = canvas.getContext("2d");
  context.translate(0, width);
  context.rotate(-Math.PI / 2);
  context.drawImage(image, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
