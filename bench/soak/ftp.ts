// One file by FTP as a host inside gets it, by PORT or by PASV (RFC 959). As much of a client as that takes; the server
// is services.ts's.

import { once } from 'node:events'
import { createConnection, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { SILENT_MS } from './requests.ts'
import { FILE_BYTES, PORTS } from './services.ts'

export type FtpMode = 'PORT' | 'PASV'

/** Throws if the file doesn't come whole. */
export async function fetchByFtp(host: string, server: string, mode: FtpMode): Promise<void> {
  const control = createConnection({ host: server, port: PORTS.ftp, localAddress: host })
  control.setTimeout(SILENT_MS, () => control.destroy(new Error('silent control connection')))
  const lines = createInterface(control)[Symbol.asyncIterator]()
  const reply = async (code: string): Promise<string> => {
    const { value } = (await lines.next()) as { value: string | undefined }
    if (!value?.startsWith(code)) throw new Error(`${value} instead of ${code}`)
    return value
  }
  const failed = once(control, 'error').then(([error]) => {
    throw error
  })
  failed.catch(() => {})
  try {
    await Promise.race([mode === 'PORT' ? active(control, host, reply) : passive(control, host, reply), failed])
  } finally {
    control.destroy()
  }
}

type Reply = (code: string) => Promise<string>

async function active(control: Socket, host: string, reply: Reply): Promise<void> {
  await reply('220')
  const listener = createServer({ allowHalfOpen: false })
  try {
    await once(listener.listen(0, host), 'listening')
    const { port } = listener.address() as { port: number }
    const came = once(listener, 'connection', { signal: AbortSignal.timeout(SILENT_MS) })
    came.catch(() => {})
    control.write(`PORT ${host.replaceAll('.', ',')},${port >> 8},${port & 255}\r\n`)
    await reply('200')
    control.write('RETR file\r\n')
    const [data] = (await came) as [Socket]
    await wholeFile(data)
    await reply('226')
  } finally {
    listener.close()
  }
}

async function passive(control: Socket, host: string, reply: Reply): Promise<void> {
  await reply('220')
  control.write('PASV\r\n')
  const numbers = /\((.*)\)/
    .exec(await reply('227'))![1]!
    .split(',')
    .map(Number)
  const [high, low] = numbers.slice(4) as [number, number]
  const data = createConnection({ host: numbers.slice(0, 4).join('.'), port: (high << 8) | low, localAddress: host })
  const whole = wholeFile(data)
  control.write('RETR file\r\n')
  await whole
  await reply('226')
}

async function wholeFile(data: Socket): Promise<void> {
  let got = 0
  data.setTimeout(SILENT_MS, () => data.destroy(new Error('silent data connection')))
  data.on('data', (piece) => {
    got += piece.length
  })
  try {
    await once(data, 'end')
    if (got !== FILE_BYTES) throw new Error(`${got} bytes of the file's ${FILE_BYTES}`)
  } finally {
    data.destroy()
  }
}
