// Two small clients of one IRC server, one inside and one outside. One offers files by DCC: it listens, tells the other
// one where (PRIVMSG ... DCC SEND), and sends the bytes to the connection that comes. The other one fetches what is
// offered and answers with the digest of what it got. Counted are files.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { PATIENCE_MS } from '../world/patience.ts'
import { answered, content, counted, flowOf, options, problem, report } from './traffic.ts'

export interface Dcc {
  readonly role: 'offers' | 'accepts'
  readonly host: string
  /** This client's own. */
  readonly address: string
  readonly files: number
  readonly size: number
}

const IRC_PORT = 6667
const NAMES = { offers: 'alice', accepts: 'bob' } as const

const { role, host, address, files, size } = options<Dcc>()
const patience = () => ({ signal: AbortSignal.timeout(PATIENCE_MS) })
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

class Client {
  readonly socket: Socket
  readonly #lines: string[] = []
  #onLine: () => void = () => {}

  constructor(socket: Socket) {
    this.socket = socket
    createInterface({ input: socket }).on('line', (line) => {
      if (line.startsWith('PING')) this.say(line.replace('PING', 'PONG'))
      else this.#lines.push(line)
      this.#onLine()
    })
  }

  static async register(name: string): Promise<Client> {
    const socket = connect({ host, port: IRC_PORT, localAddress: address })
    await once(socket, 'connect', patience())
    const client = new Client(socket)
    client.say(`NICK ${name}`)
    client.say(`USER ${name} 0 * :${name}`)
    // 376 (RPL_ENDOFMOTD) ends the greeting.
    await client.heard(/ 376 /)
    return client
  }

  say(line: string): void {
    this.socket.write(`${line}\r\n`)
  }

  /** The next line that matches; lines before it are dropped. */
  async heard(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    for (;;) {
      for (let line = this.#lines.shift(); line !== undefined; line = this.#lines.shift()) {
        const found = pattern.exec(line)
        if (found) return found
      }
      await new Promise<void>((resolve, reject) => {
        this.#onLine = resolve
        deadline.onabort = () => reject(new Error(`nothing like ${pattern} was heard`))
      })
    }
  }
}

const word = (dotted: string): number => dotted.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0)
const dotted = (number: number): string => [24, 16, 8, 0].map((bits) => (number >>> bits) & 0xff).join('.')

/** Offers a file; returns the digest that the other client answers with. */
async function offered(client: Client, number: number): Promise<string> {
  const server = createServer((socket) => socket.end(content(number, size)))
  await once(server.listen(0, address), 'listening')
  try {
    const { port } = server.address() as { port: number }
    client.say(`PRIVMSG ${NAMES.accepts} :\x01DCC SEND ${number}.bin ${word(address)} ${port} ${size}\x01`)
    return (await client.heard(/PRIVMSG \S+ :got (.*)/))[1] as string
  } finally {
    server.close()
  }
}

async function fetched(from: string, port: number): Promise<Buffer> {
  const socket = connect({ host: from, port })
  await once(socket, 'connect', patience())
  const pieces: Buffer[] = []
  for await (const piece of socket) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}

if (role === 'accepts') {
  const client = await Client.register(NAMES.accepts)
  report({ kind: 'ready' })
  client.socket.on('close', () => process.exit())
  for (;;) {
    // The text begins and ends with the delimiter of CTCP, the byte 1.
    const found = await client
      .heard(/^:(\w+)!.* PRIVMSG \S+ :.DCC SEND \S+ (\d+) (\d+) \d+./)
      .catch(() => process.exit())
    const [, who, from, port] = found
    const came = await fetched(dotted(Number(from)), Number(port)).then(digest, (error: Error) => error.message)
    client.say(`PRIVMSG ${who} :got ${came}`)
  }
}

await counted(files, async (tally) => {
  const client = await Client.register(NAMES.offers)
  for (let number = 0; number < files; number++) {
    tally.sent++
    const came = await offered(client, number)
    if (came === digest(content(number, size))) {
      tally.arrived++
      tally.bytes += size
    } else {
      tally.wrong++
      problem(tally, `file ${number}: the other client got ${came}`)
    }
  }
  answered(flowOf(client.socket))
  client.say('QUIT')
})
