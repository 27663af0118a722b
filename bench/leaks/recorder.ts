// Runs in the outside host: looks at every IPv4 frame that comes to it, and counts those that must never come. A source
// inside; or, on the ports of helped protocols, an inside address in what is said, in the notations that helpers
// rewrite (src/helpers/notations.ts): also where it comes in pieces, since of each stream the last bytes are kept.
// Authority: packet(7). Asked over the channel that Node gives a child: `begin`, `end`.

import {
  AF_PACKET,
  bind,
  getsockopt,
  interfaceIndex,
  MSG_DONTWAIT,
  POLLIN,
  pollArray,
  recv,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
  setsockoptInt,
  socket,
} from '../../src/io/syscalls.ts'

export interface RecorderOptions {
  readonly interface: string
  /** Inside addresses begin so. */
  readonly inside: { readonly first: number }
  readonly addresses: readonly string[]
  /** TCP ports on which a helper was to rewrite. */
  readonly ports: readonly number[]
}

/** What came since `begin`. */
export interface Recording {
  readonly frames: number
  readonly insideSources: number
  readonly insidePayloads: number
  /** Frames that came too fast to be looked at; a recording with any proves nothing. */
  readonly lost: number
  /** The first wrong ones, as text. */
  readonly examples: readonly string[]
}

const ETH_P_IP = 0x0800
const SO_RCVBUFFORCE = 33
const PACKET_STATISTICS = 6
const BUFFER_BYTES = 64 << 20
const ETHERNET = 14
const TCP = 6
const SYN = 2
const MOST_EXAMPLES = 5
const WAIT_MS = 20
const BURST = 512
/** The longest notation of an address is 15 characters. */
const KEPT = 15

const options = JSON.parse(process.argv[2] ?? '{}') as RecorderOptions
const notations = options.addresses.flatMap((address) => {
  const bytes = address.split('.').map(Number)
  const number = bytes.reduce((value, byte) => value * 256 + byte, 0)
  return [address, bytes.join(','), String(number)]
})
// An address is over where its digits are: 10.0.0.2 does not stand in 10.0.0.25.
const insideAddress = new RegExp(
  `(?<![\\d.,])(${notations.map((text) => text.replaceAll('.', '\\.')).join('|')})(?!\\d)`,
)

/** The last bytes of each stream, and the sequence number after them. */
const streams = new Map<string, { next: number; tail: string }>()
let counts = { frames: 0, insideSources: 0, insidePayloads: 0 }
let examples: string[] = []

function look(frame: Buffer): void {
  counts.frames++
  const header = (frame[ETHERNET]! & 15) * 4
  if (frame[ETHERNET + 12] === options.inside.first) {
    counts.insideSources++
    example('source', frame)
  }
  const end = ETHERNET + frame.readUInt16BE(ETHERNET + 2)
  if (frame[ETHERNET + 9] === TCP && (frame.readUInt16BE(ETHERNET + 6) & 0x1fff) === 0)
    lookAtStream(frame, ETHERNET + header, end)
}

function lookAtStream(frame: Buffer, tcp: number, end: number): void {
  if (!options.ports.includes(frame.readUInt16BE(tcp + 2))) return
  const key = frame.toString('latin1', ETHERNET + 12, ETHERNET + 16) + frame.toString('latin1', tcp, tcp + 4)
  const sequence = frame.readUInt32BE(tcp + 4)
  if (frame[tcp + 13]! & SYN) {
    streams.set(key, { next: (sequence + 1) >>> 0, tail: '' })
    return
  }
  const stream = streams.get(key) ?? { next: sequence, tail: '' }
  streams.set(key, stream)
  const payload = frame.toString('latin1', tcp + (frame[tcp + 12]! >> 4) * 4, end)
  const repeated = (stream.next - sequence) | 0
  // What was lost before it comes again, and is looked at then.
  const isNew = repeated >= 0 && repeated < payload.length
  const text = isNew ? stream.tail + payload.slice(repeated) : payload
  if (isNew) {
    stream.next = (sequence + payload.length) >>> 0
    stream.tail = text.slice(-KEPT)
  }
  if (!insideAddress.test(text)) return
  stream.tail = ''
  counts.insidePayloads++
  example('payload', frame)
}

function example(what: string, frame: Buffer): void {
  if (examples.length >= MOST_EXAMPLES) return
  examples.push(`${what}: ${JSON.stringify(frame.toString('latin1', ETHERNET, ETHERNET + 120))}`)
}

const fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)
setsockoptInt(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
const address = Buffer.alloc(20)
address.writeUInt16LE(AF_PACKET, 0)
address.writeUInt16BE(ETH_P_IP, 2)
address.writeInt32LE(interfaceIndex(options.interface), 4)
bind(fd, address)

/** Frames lost since it was asked last. */
function lost(): number {
  const statistics = new Uint8Array(8)
  getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, statistics)
  return new DataView(statistics.buffer).getUint32(4, true)
}

process.on('message', (asked) => {
  drain()
  if (asked === 'begin') {
    counts = { frames: 0, insideSources: 0, insidePayloads: 0 }
    examples = []
    lost()
    process.send?.('begun')
  } else process.send?.({ ...counts, lost: lost(), examples } satisfies Recording)
})
process.on('disconnect', () => process.exit(0))

const buffer = Buffer.alloc(1 << 16)
function drain(): void {
  for (let i = 0; i < BURST; i++) {
    const length = recv(fd, buffer, MSG_DONTWAIT)
    if (length < 0) return
    if (length >= ETHERNET + 20) look(buffer.subarray(0, length))
  }
}

const waiting = Buffer.alloc(8)
waiting.writeInt32LE(fd, 0)
waiting.writeInt16LE(POLLIN, 4)
function turn(): void {
  pollArray(waiting, 1, WAIT_MS)
  drain()
  setImmediate(turn)
}
process.send?.('ready')
turn()
