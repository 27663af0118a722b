// One host fetches and puts files by FTP with Debian's clients, curl and lftp, with each command that they know for
// making a data connection. Counted are files: one that was fetched is compared with the bytes it should have, one that
// was put is read in the server's directory, which is on the same machine.

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { PROTO_TCP } from '../../wire/ipv4.ts'
import { PATIENCE_MS } from '../world/patience.ts'
import { DOWN, fileName, UP } from './servers.ts'
import { answered, content, counted, inParallel, options, problem, type Tally } from './traffic.ts'

/** The command for a data connection: to the client (PORT, EPRT: active), or to the server (PASV, EPSV: passive). */
export type DataCommand = 'PORT' | 'EPRT' | 'PASV' | 'EPSV'

export interface FtpServer {
  /** As the client reaches it. */
  readonly address: string
  readonly directory: string
}

export interface FtpTransfers {
  readonly client: 'curl' | 'lftp'
  readonly servers: readonly FtpServer[]
  /** Addresses of the client's host, taken in turn. */
  readonly from: readonly string[]
  readonly commands: readonly DataCommand[]
  /** Sizes of the server's files (servers.ts), taken in turn. */
  readonly sizes: readonly number[]
  /** How many files are fetched, and as many are put. */
  readonly files: number
  readonly atATime: number
  /** For the client's files. */
  readonly directory: string
  /** Whether the client is inside, so that the gateway must list its connections. */
  readonly inside: boolean
}

const FTP_PORT = 21
/** So many lines of a failed conversation are shown, the last ones. */
const LINES_SHOWN = 20
const PATIENCE_S = PATIENCE_MS / 1000

const { client, servers, from, commands, sizes, files, atATime, directory, inside } = options<FtpTransfers>()
const run = promisify(execFile)

interface Transfer {
  readonly server: string
  readonly local: string
  readonly remote: string
  readonly isPut: boolean
  readonly address: string
  readonly command: DataCommand
}

/** Runs a program, which ends when this process does. */
const program = (name: string, args: readonly string[]) =>
  run('setpriv', ['--pdeathsig', 'TERM', name, ...args], { timeout: PATIENCE_MS + 5000 })

const isActive = (command: DataCommand): boolean => command === 'PORT' || command === 'EPRT'

/**
 * The lines that curl sent and received, and how it ended. curl's own message is no help: it shows its first one,
 * whatever fails later, and curl 7.88 has one in every active transfer ("sa_addr inet_ntop() failed with errno 97": it
 * reads the listening socket's address from a structure that was not filled; mended in 8.0).
 */
function explained(error: unknown): Error {
  const { code, stderr = '' } = error as { code?: unknown; stderr?: string }
  const said = stderr.split(/\r?\n/).filter((line) => /^[<>*] /.test(line))
  return new Error([`curl ended with ${code}`, ...said.slice(-LINES_SHOWN)].join('\n    '))
}

async function byCurl({ server, local, remote, isPut, address, command }: Transfer): Promise<void> {
  const active = ['--ftp-port', '-', ...(command === 'PORT' ? ['--disable-eprt'] : [])]
  // With this option curl uses the address in a 227, which the gateway must have rewritten.
  const passive = ['--no-ftp-skip-pasv-ip', ...(command === 'PASV' ? ['--disable-epsv'] : [])]
  const { stdout } = await program('curl', [
    ...['--silent', '--verbose'],
    ...['--max-time', String(PATIENCE_S), '--interface', address],
    ...(isActive(command) ? active : passive),
    ...(isPut ? ['--upload-file', local] : ['--output', local]),
    ...['--write-out', '%{local_ip} %{local_port}'],
    `ftp://${server}/${remote}`,
  ]).catch((error: unknown) => {
    throw explained(error)
  })
  const [source = '', sourcePort] = stdout.split(' ')
  if (inside)
    answered({
      protocol: PROTO_TCP,
      source,
      sourcePort: Number(sourcePort),
      destination: server,
      destinationPort: FTP_PORT,
    })
}

/** lftp has no EPRT for IPv4. */
async function byLftp({ server, local, remote, isPut, address, command }: Transfer): Promise<void> {
  const script = [
    'set cmd:fail-exit yes',
    'set net:max-retries 1',
    `set net:timeout ${PATIENCE_S}`,
    `set net:socket-bind-ipv4 ${address}`,
    'set dns:order inet',
    'set xfer:clobber yes',
    'set ftp:fix-pasv-address no',
    `set ftp:passive-mode ${isActive(command) ? 'no' : 'yes'}`,
    `set ftp:prefer-epsv ${command === 'EPSV' ? 'yes' : 'no'}`,
    `open -u anonymous,lab ${server}`,
    isPut ? `put ${local} -o ${remote}` : `get ${remote} -o ${local}`,
  ]
  await program('lftp', ['-c', script.join('; ')])
}

const CLIENTS = { curl: byCurl, lftp: byLftp }
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

/** Fetches or puts a file, and counts whether it arrived right. */
async function transfer(number: number, isPut: boolean, tally: Tally): Promise<void> {
  const size = sizes[number % sizes.length] as number
  const server = servers[number % servers.length] as FtpServer
  const command = commands[Math.floor(number / servers.length) % commands.length] as DataCommand
  const name = `${client}-${fileName(number, size)}`
  const local = join(directory, `${isPut ? 'put' : 'got'}-${process.pid}-${name}`)
  const remote = isPut ? `${UP}/${name}` : `${DOWN}/${fileName(number, size)}`
  const what = `${client} ${command}, ${isPut ? 'put' : 'get'} ftp://${server.address}/${remote}`
  tally.sent++
  try {
    if (isPut) writeFileSync(local, content(number, size))
    const address = from[number % from.length] as string
    await CLIENTS[client]({ server: server.address, local, remote, isPut, address, command })
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
  inParallel(2 * files, atATime, (index) => transfer(Math.floor(index / 2), index % 2 === 1, tally)),
)
