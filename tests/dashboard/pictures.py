"""Writes a screenshot as a PNG with a palette, of half the size that a browser writes.

The browser decodes the pixels and compresses the result.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TypedDict

from playwright.async_api import BrowserContext

INDEXED = """async (png) => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height).getContext('2d');
    canvas.drawImage(image, 0, 0);
    const pixels = new Uint32Array(canvas.getImageData(0, 0, image.width, image.height).data.buffer);
    const counts = new Map();
    for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) || 0) + 1);
    const far = (a, b) => [0, 8, 16].reduce((sum, bits) => sum + (((a >> bits) & 255) - ((b >> bits) & 255)) ** 2, 0);
    const frequent = [...counts].sort((a, b) => b[1] - a[1]).map(([colour]) => colour);
    let palette = [];
    // Frequent colours, without those that are almost one of them already.
    for (let apart = 4; apart === 4 || palette.length > 256; apart *= 2) {
        palette = [];
        for (const colour of frequent) if (palette.every((each) => far(each, colour) >= apart)) palette.push(colour);
    }
    const nearest = new Map(palette.map((colour, index) => [colour, index]));
    for (const colour of counts.keys()) {
        if (nearest.has(colour)) continue;
        let best = 0;
        palette.forEach((each, index) => { if (far(each, colour) < far(palette[best], colour)) best = index; });
        nearest.set(colour, best);
    }
    const lines = new Uint8Array((image.width + 1) * image.height);
    pixels.forEach((pixel, i) => { lines[i + Math.floor(i / image.width) + 1] = nearest.get(pixel); });
    const packed = new Response(new Blob([lines]).stream().pipeThrough(new CompressionStream('deflate')));
    let text = '';
    for (const byte of new Uint8Array(await packed.arrayBuffer())) text += String.fromCharCode(byte);
    return {
        width: image.width, height: image.height, lines: btoa(text),
        palette: palette.flatMap((colour) => [0, 8, 16].map((bits) => (colour >> bits) & 255)),
    };
}"""
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Indexed(TypedDict):
    width: int
    height: int
    lines: str
    palette: list[int]


async def with_palette(context: BrowserContext, png: bytes) -> bytes:
    """The same picture in its 256 most frequent colours."""
    page = await context.new_page()
    found: Indexed = await page.evaluate(INDEXED, base64.b64encode(png).decode())
    await page.close()
    lines = zlib.compress(zlib.decompress(base64.b64decode(found["lines"])), 9)
    header = struct.pack(">IIBBBBB", found["width"], found["height"], 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", bytes(found["palette"])), (b"IDAT", lines), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
