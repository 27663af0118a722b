// How the other end of a connection has ended it. Data and a reset that are read at once look like an orderly end to
// Node, since libuv takes a hang-up behind data for the end of the stream (uv__stream_io in its unix/stream.c). The
// kernel knows better, and says so to whoever writes.

import { once } from 'node:events'
import type { Socket } from 'node:net'

export type HowEnded = 'closed' | 'reset'

/**
 * Resolves when no more can come: `closed` by a FIN, or `reset`. The socket must be one that may be half open
 * (`allowHalfOpen`); if it was ended at this side before, a reset behind data is told as `closed`.
 */
export async function howEnded(socket: Socket): Promise<HowEnded> {
  const hasEnd = await once(socket, 'end').then(
    () => true,
    () => false,
  )
  if (!hasEnd) return 'reset'
  if (!socket.writable) return 'closed'
  // Nothing is sent: the call only fails.
  return new Promise((resolve) => socket.write('', (error) => resolve(error ? 'reset' : 'closed')))
}
