// The scenario `ftp`: protocols that announce connections, spoken by Debian's own servers and clients. First one active
// and one passive transfer step by step (ftp-story.ts), then many at once: vsftpd and pyftpdlib outside with curl and
// lftp inside, vsftpd inside with curl and lftp outside, files by DCC over ngircd, TFTP.

import { join } from 'node:path'
import type { ControlConnections } from '../traffic/control-connections.ts'
import type { Dcc } from '../traffic/dcc.ts'
import type { FtpServer, FtpTransfers } from '../traffic/ftp-transfers.ts'
import { fill, startNgircd, startPyftpdlib, startTftpd, startVsftpd } from '../traffic/servers.ts'
import type { TftpTransfers } from '../traffic/tftp.ts'
import type { Report } from '../traffic/traffic.ts'
import { FTP_TOOLS } from '../world/host-tools.ts'
import { GATEWAY_OUTSIDE, INSIDE_HOSTS, REMOTE, SERVER } from '../world/topology.ts'
import { ftpStory } from './ftp-story.ts'
import { type Load, type Scenario, type Stage, traffic } from './scenario.ts'

const KB = 1024
const MB = 1024 * KB

const SIZES = [3 * KB, 700 * KB, 4 * MB, 100 * KB, KB]
const FILES = 100
/**
 * Sizes of curl's files. curl gives up an active transfer (its error 8) if it reads the final reply before it has
 * accepted the data connection, and no gateway keeps an order between two connections. A file of these sizes doesn't
 * fit into the server's send buffer, so the server sends its final reply only after curl has accepted.
 */
const CURL_SIZES = [700 * KB, 4 * MB, 200 * KB]
const CURL_FILES = 32
const TFTP_SIZES = [3 * KB, 100 * KB]
const TFTP_FILES = 4
/** The address of the server inside, which is reached by a port forward. */
const FTP_INSIDE = INSIDE_HOSTS[7] as string

/** The directory of a server or a client. */
const directoryOf = ({ topology }: Stage, name: string): string => join(topology.directory, name)

const OUTSIDE_SERVERS = { vsftpd: SERVER, pyftpdlib: REMOTE }

async function prepare(stage: Stage): Promise<void> {
  const { processes, topology } = stage
  const { outside, lan } = topology
  for (const name of ['vsftpd', 'pyftpdlib', 'inside']) {
    fill(directoryOf(stage, name), SIZES, FILES)
    fill(directoryOf(stage, name), CURL_SIZES, CURL_FILES)
  }
  fill(directoryOf(stage, 'tftpd'), TFTP_SIZES, TFTP_FILES)
  const servers = [
    startVsftpd(processes, { host: outside, address: SERVER, directory: directoryOf(stage, 'vsftpd') }),
    startPyftpdlib(processes, { host: outside, address: REMOTE, directory: directoryOf(stage, 'pyftpdlib') }),
    startVsftpd(processes, { host: lan, address: FTP_INSIDE, directory: directoryOf(stage, 'inside') }),
    startNgircd(processes, { host: outside, address: SERVER, directory: directoryOf(stage, 'ngircd') }),
    startTftpd(processes, { host: outside, address: SERVER, directory: directoryOf(stage, 'tftpd') }),
  ]
  await Promise.all(servers)
}

const serversOutside = (stage: Stage): FtpServer[] =>
  Object.entries(OUTSIDE_SERVERS).map(([name, address]) => ({ address, directory: directoryOf(stage, name) }))
const serverInside = (stage: Stage): FtpServer[] => [
  { address: GATEWAY_OUTSIDE, directory: directoryOf(stage, 'inside') },
]

const FTP = new URL('../traffic/ftp-transfers.js', import.meta.url)

const fromInside =
  (client: FtpTransfers['client'], commands: FtpTransfers['commands'], files: number) =>
  (stage: Stage): FtpTransfers => ({
    client,
    commands,
    files,
    servers: serversOutside(stage),
    from: INSIDE_HOSTS,
    sizes: client === 'curl' ? CURL_SIZES : SIZES,
    atATime: 6,
    directory: directoryOf(stage, 'client-inside'),
    inside: true,
  })

const fromOutside =
  (client: FtpTransfers['client'], commands: FtpTransfers['commands'], files: number) =>
  (stage: Stage): FtpTransfers => ({
    client,
    commands,
    files,
    servers: serverInside(stage),
    from: [SERVER, REMOTE],
    sizes: client === 'curl' ? CURL_SIZES : SIZES,
    atATime: 3,
    directory: directoryOf(stage, 'client-outside'),
    inside: false,
  })

const controls: ControlConnections = {
  host: REMOTE,
  from: INSIDE_HOSTS,
  connections: FILES,
  atATime: 20,
  sizes: SIZES,
}

const DCC = new URL('../traffic/dcc.js', import.meta.url)
const dcc = (role: Dcc['role'], address: string): Dcc => ({ role, host: SERVER, address, files: 10, size: 300 * KB })

/** The client outside is started first, because it must be there when a file is offered. */
const offers: Load = {
  name: 'IRC, files by DCC',
  async start(stage, seen) {
    const { processes, topology } = stage
    const bob = processes.startModule(topology.outside, DCC, dcc('accepts', SERVER))
    await new Promise<void>((resolve, reject) => {
      bob.child.on('message', (message) => (message as Report).kind === 'ready' && resolve())
      bob.ended.then(() => reject(new Error(`the client outside ended:\n${bob.output}`)), reject)
    })
    try {
      return await traffic(offers.name, DCC, dcc('offers', INSIDE_HOSTS[0] as string)).start(stage, seen)
    } finally {
      bob.child.kill('SIGTERM')
    }
  },
}

const tftp = (stage: Stage): TftpTransfers => ({
  host: SERVER,
  files: directoryOf(stage, 'tftpd'),
  sizes: TFTP_SIZES,
  transfers: TFTP_FILES,
  directory: directoryOf(stage, 'client-tftp'),
})

export const ftp: Scenario = {
  name: 'ftp',
  summary: 'FTP, DCC and TFTP: what is announced and comes; two transfers step by step, then many',
  tools: FTP_TOOLS,
  workers: 4,
  helpers: ['ftp', 'irc', 'tftp'],
  portForwards: [{ protocol: 'tcp', port: 21, to: FTP_INSIDE }],
  prepare,
  story: ftpStory,
  loads: [
    traffic('FTP by curl', FTP, fromInside('curl', ['EPRT', 'PORT', 'EPSV', 'PASV'], CURL_FILES)),
    traffic('FTP by lftp', FTP, fromInside('lftp', ['PORT', 'PASV', 'EPSV'], 12)),
    traffic('FTP, 100 sessions held', new URL('../traffic/control-connections.js', import.meta.url), controls),
    traffic('FTP server inside, curl', FTP, fromOutside('curl', ['EPRT', 'PORT', 'EPSV', 'PASV'], 8), 'outside'),
    traffic('FTP server inside, lftp', FTP, fromOutside('lftp', ['PORT', 'PASV', 'EPSV'], 6), 'outside'),
    offers,
    traffic('TFTP', new URL('../traffic/tftp.js', import.meta.url), tftp),
  ],
}
