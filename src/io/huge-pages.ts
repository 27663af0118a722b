// Large tables on large pages: a lookup at random in 100 MB misses the processor's address cache with nearly every
// access if the memory comes in pages of 4 KB. Measured with bench/pipeline.ts at a million flows. Authority:
// madvise(2), transparent huge pages ("madvise" is Debian's and Ubuntu's setting).

import { addressOf, MADV_HUGEPAGE, madvise } from './syscalls.ts'

/** Asks for large pages under a buffer, which must not have been touched yet. False if the kernel won't. */
export function adviseHugePages(buffer: ArrayBufferLike): boolean {
  return madvise(addressOf(new Uint8Array(buffer)), buffer.byteLength, MADV_HUGEPAGE)
}
