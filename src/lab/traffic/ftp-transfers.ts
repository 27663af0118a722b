// One host fetches and puts files by FTP with Debian's clients, curl and lftp, in every way that they know to make a
// data connection. What arrives is counted by file: one that was fetched is compared with the bytes it should have, one
// that was put is read in the server's directory, which is on the same machine.

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { PATIENCE_MS } from '../world/patience.ts'
import { DOWN, fileName, UP } from './servers.ts'
import { answered, content, counted, inParallel, options, problem, type Tally, TCP } from './traffic.ts'

/** How the data connection is agreed on: the client is reached (PORT, EPRT), or the server is (PASV, EPSV). */
export type Way = 'PORT' | 'EPRT' | 'PASV' | 'EPSV'

export interface FtpServer {
  /** As the client reaches it. */
  readonly address: string
  readonly directory: string
}

export interface FtpTransfers {
  readonly client: 'curl' | 'lftp'
  readonly servers: readonly FtpServer[]
  /** The client's addresses, in turn. */
  readonly from: readonly string[]
  readonly ways: readonly Way[]
  /** Of the server's files (servers.ts), in turn. */
  readonly sizes: readonly number[]
  /** Each is fetched and put: as many files. */
  readonly files: number
  readonly atATime: number
  /** For the client's files. */
  readonly directory: string
  /** The client is behind the gateway, so its connections are to be found there. */
  readonly inside: boolean
}

const FTP_PORT = 21
/** Of a conversation that failed, its last ones. */
const LINES_SHOWN = 20
const PATIENCE_S = PATIENCE_MS / 1000

const { client, servers, from, ways, sizes, files, atATime, directory, inside } = options<FtpTransfers>()
const run = promisify(execFile)

interface Transfer {
  readonly server: string
  readonly local: string
  readonly remote: string
  readonly isPut: boolean
  readonly address: string
  readonly way: Way
}

/** A program that ends with this one. */
const program = (name: string, args: readonly string[]) =>
  run('setpriv', ['--pdeathsig', 'TERM', name, ...args], { timeout: PATIENCE_MS + 5000 })

const isActive = (way: Way): boolean => way === 'PORT' || way === 'EPRT'

/**
 * What it said and was told, and how it ended: the message alone may be another's. Its first one is shown, whatever
 * fails later, and curl 7.88 has one in every active transfer ("sa_addr inet_ntop() failed with errno 97": it asks the
 * listening socket's address of a structure that nobody has filled; mended in 8.0).
 */
function explained(error: unknown): Error {
  const { code, stderr = '' } = error as { code?: unknown; stderr?: string }
  const said = stderr.split(/\r?\n/).filter((line) => /^[<>*] /.test(line))
  return new Error([`curl ended with ${code}`, ...said.slice(-LINES_SHOWN)].join('\n    '))
}

async function byCurl({ server, local, remote, isPut, address, way }: Transfer): Promise<void> {
  const active = ['--ftp-port', '-', ...(way === 'PORT' ? ['--disable-eprt'] : [])]
  // A client that trusts the address of a 227 is the one that a NAT has to serve.
  const passive = ['--no-ftp-skip-pasv-ip', ...(way === 'PASV' ? ['--disable-epsv'] : [])]
  const { stdout } = await program('curl', [
    ...['--silent', '--verbose'],
    ...['--max-time', String(PATIENCE_S), '--interface', address],
    ...(isActive(way) ? active : passive),
    ...(isPut ? ['--upload-file', local] : ['--output', local]),
    ...['--write-out', '%{local_ip} %{local_port}'],
    `ftp://${server}/${remote}`,
  ]).catch((error: unknown) => {
    throw explained(error)
  })
  const [source = '', sourcePort] = stdout.split(' ')
  if (inside)
    answered({
      protocol: TCP,
      source,
      sourcePort: Number(sourcePort),
      destination: server,
      destinationPort: FTP_PORT,
    })
}

/** It has no EPRT for IPv4. */
async function byLftp({ server, local, remote, isPut, address, way }: Transfer): Promise<void> {
  const script = [
    'set cmd:fail-exit yes',
    'set net:max-retries 1',
    `set net:timeout ${PATIENCE_S}`,
    `set net:socket-bind-ipv4 ${address}`,
    'set dns:order inet',
    'set xfer:clobber yes',
    'set ftp:fix-pasv-address no',
    `set ftp:passive-mode ${isActive(way) ? 'no' : 'yes'}`,
    `set ftp:prefer-epsv ${way === 'EPSV' ? 'yes' : 'no'}`,
    `open -u anonymous,lab ${server}`,
    isPut ? `put ${local} -o ${remote}` : `get ${remote} -o ${local}`,
  ]
  await program('lftp', ['-c', script.join('; ')])
}

const CLIENTS = { curl: byCurl, lftp: byLftp }
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

/** Whether what has come is what was sent. */
async function transferred(number: number, isPut: boolean, tally: Tally): Promise<void> {
  const size = sizes[number % sizes.length] as number
  const server = servers[number % servers.length] as FtpServer
  const way = ways[Math.floor(number / servers.length) % ways.length] as Way
  const name = `${client}-${fileName(number, size)}`
  const local = join(directory, `${isPut ? 'put' : 'got'}-${process.pid}-${name}`)
  const remote = isPut ? `${UP}/${name}` : `${DOWN}/${fileName(number, size)}`
  const what = `${client} ${way}, ${isPut ? 'put' : 'get'} ftp://${server.address}/${remote}`
  tally.sent++
  try {
    if (isPut) writeFileSync(local, content(number, size))
    const address = from[number % from.length] as string
    await CLIENTS[client]({ server: server.address, local, remote, isPut, address, way })
    const came = readFileSync(isPut ? join(server.directory, remote) : local)
    tally.bytes += came.length
    if (digest(came) === digest(content(number, size))) tally.arrived++
    else {
      tally.wrong++
      problem(tally, `${what}: the bytes that came are not the bytes that were sent`)
    }
  } catch (error) {
    problem(tally, `${what}: ${(error as Error).message.trim()}`)
  } finally {
    rmSync(local, { force: true })
  }
}

mkdirSync(directory, { recursive: true })
await counted(2 * files, (tally) =>
  inParallel(2 * files, atATime, (index) => transferred(Math.floor(index / 2), index % 2 === 1, tally)),
)
