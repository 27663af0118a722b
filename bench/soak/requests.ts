// A request by TCP from a host inside: connect, ask, read so many bytes, close.

import { once } from 'node:events'
import { createConnection } from 'node:net'

export interface Request {
  readonly host: string
  readonly server: string
  readonly port: number
  readonly bytes: number
}

/** Without a byte for so long it has failed. */
export const SILENT_MS = 20_000

/** Throws if the answer is of another length. */
export async function fetchBytes({ host, server, port, bytes }: Request): Promise<void> {
  const socket = createConnection({ host: server, port, localAddress: host })
  socket.setTimeout(SILENT_MS, () => socket.destroy(new Error('silent')))
  let got = 0
  socket.on('data', (piece) => {
    got += piece.length
  })
  socket.write('GET\r\n')
  try {
    await once(socket, 'end')
    if (got !== bytes) throw new Error(`${got} bytes instead of ${bytes}`)
  } finally {
    socket.destroy()
  }
}
