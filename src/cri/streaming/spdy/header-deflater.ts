/** zlib's head (RFC 1950) for a stream that uses the SPDY dictionary: method, flags, its Adler-32. */
const zlibHead = Buffer.from('78bbe3c6a7c2', 'hex');
const maxStored = 0xffff;
/** An empty stored block: what a flush leaves. Go's inflater hands nothing out before it has seen one. */
const flush = Buffer.from('000000ffff', 'hex');

/**
 * Puts header blocks into the one zlib stream of a connection, without making them smaller: replies
 * have no headers worth it, and a stored block (RFC 1951, 3.2.4) needs no state and ends on a byte.
 */
export class HeaderDeflater {
  #started = false;

  deflate(block: Buffer): Buffer {
    if (block.length > maxStored) throw new RangeError(`a header block of ${String(block.length)} bytes`);
    const head = Buffer.alloc(5);
    head.writeUInt16LE(block.length, 1);
    head.writeUInt16LE(maxStored - block.length, 3);
    const parts = this.#started ? [head, block, flush] : [zlibHead, head, block, flush];
    this.#started = true;
    return Buffer.concat(parts);
  }
}
