// Turns an upright JPEG into one that a camera held sideways would have written.

/** Orientation 6 in big-endian TIFF: one entry, tag 0x0112, a SHORT, and no further directory. */
const TIFF = "4d4d002a00000008" + "0001" + "0112000300000001" + "00060000" + "00000000";

/** The same picture, to be shown a quarter turn clockwise. */
export function sideways(jpeg) {
  const body = Buffer.concat([Buffer.from("Exif\0\0", "latin1"), Buffer.from(TIFF, "hex")]);
  const head = Buffer.from([0xff, 0xe1, 0, body.length + 2]);
  return Buffer.concat([jpeg.subarray(0, 2), head, body, jpeg.subarray(2)]);
}
