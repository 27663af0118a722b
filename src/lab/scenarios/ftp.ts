// The scenario `ftp`: protocols that announce connections, by Debian's own servers and clients. First the story of one
// active and one passive transfer (ftp-story.ts), then many at once: vsftpd and pyftpdlib outside with curl and lftp
// inside, vsftpd inside with curl and lftp outside, files by DCC over ngircd, TFTP.

import { join } from 'node:path'
import type { Dcc } from '../traffic/dcc.ts'
import type { FtpServer, FtpTransfers } from '../traffic/ftp-transfers.ts'
import { fill, startNgircd, startPyftpdlib, startTftpd, startVsftpd } from '../traffic/servers.ts'
import type { TftpTransfers } from '../traffic/tftp.ts'
import type { Report } from '../traffic/traffic.ts'
import type { ControlConnections } from '../traffic/traffic-control.ts'
import { FTP_TOOLS } from '../world/host-tools.ts'
import { GATEWAY_OUTSIDE, INSIDE_HOSTS, REMOTE, SERVER } from '../world/topology.ts'
import { ftpStory } from './ftp-story.ts'
import { type Load, type Scenario, type Stage, traffic } from './scenario.ts'

const KB = 1024
const MB = 1024 * KB

const SIZES = [3 * KB, 700 * KB, 4 * MB, 100 * KB, KB]
const FILES = 100
/**
 * curl's. It gives up an active transfer (its error 8) when the reply at its end is there before it has met the data
 * connection, and between two connections no gateway keeps an order. So its files are larger than what a server can hand
 * to its own kernel before that connection stands.
 */
const CURL_SIZES = [700 * KB, 4 * MB, 200 * KB]
const CURL_FILES = 32
const TFTP_SIZES = [3 * KB, 100 * KB]
const TFTP_FILES = 4
/** The server inside, behind the forward. */
const FTP_INSIDE = INSIDE_HOSTS[7] as string

/** Each server's own directory. */
const place = ({ topology }: Stage, name: string): string => join(topology.directory, name)

const OUTSIDE_SERVERS = { vsftpd: SERVER, pyftpdlib: REMOTE }

async function prepare(stage: Stage): Promise<void> {
  const { processes, topology } = stage
  const { outside, lan } = topology
  for (const name of ['vsftpd', 'pyftpdlib', 'inside']) {
    fill(place(stage, name), SIZES, FILES)
    fill(place(stage, name), CURL_SIZES, CURL_FILES)
  }
  fill(place(stage, 'tftpd'), TFTP_SIZES, TFTP_FILES)
  const servers = [
    startVsftpd(processes, { host: outside, address: SERVER, directory: place(stage, 'vsftpd') }),
    startPyftpdlib(processes, { host: outside, address: REMOTE, directory: place(stage, 'pyftpdlib') }),
    startVsftpd(processes, { host: lan, address: FTP_INSIDE, directory: place(stage, 'inside') }),
    startNgircd(processes, { host: outside, address: SERVER, directory: place(stage, 'ngircd') }),
    startTftpd(processes, { host: outside, address: SERVER, directory: place(stage, 'tftpd') }),
  ]
  await Promise.all(servers)
}

const serversOutside = (stage: Stage): FtpServer[] =>
  Object.entries(OUTSIDE_SERVERS).map(([name, address]) => ({ address, directory: place(stage, name) }))
const serverInside = (stage: Stage): FtpServer[] => [{ address: GATEWAY_OUTSIDE, directory: place(stage, 'inside') }]

const FTP = new URL('../traffic/ftp-transfers.js', import.meta.url)

const fromInside =
  (client: FtpTransfers['client'], ways: FtpTransfers['ways'], files: number) =>
  (stage: Stage): FtpTransfers => ({
    client,
    ways,
    files,
    servers: serversOutside(stage),
    from: INSIDE_HOSTS,
    sizes: client === 'curl' ? CURL_SIZES : SIZES,
    atATime: 6,
    directory: place(stage, 'client-inside'),
    inside: true,
  })

const fromOutside =
  (client: FtpTransfers['client'], ways: FtpTransfers['ways'], files: number) =>
  (stage: Stage): FtpTransfers => ({
    client,
    ways,
    files,
    servers: serverInside(stage),
    from: [SERVER, REMOTE],
    sizes: client === 'curl' ? CURL_SIZES : SIZES,
    atATime: 3,
    directory: place(stage, 'client-outside'),
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

/** The one outside first: it must be there when it is offered something. */
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
  files: place(stage, 'tftpd'),
  sizes: TFTP_SIZES,
  transfers: TFTP_FILES,
  directory: place(stage, 'client-tftp'),
})

export const ftp: Scenario = {
  name: 'ftp',
  summary: 'FTP, DCC and TFTP: what is announced and comes; two transfers step by step, then many',
  tools: FTP_TOOLS,
  workers: 4,
  helpers: ['ftp', 'irc', 'tftp'],
  forwards: [{ protocol: 'tcp', port: 21, to: FTP_INSIDE }],
  prepare,
  story: ftpStory,
  loads: [
    traffic('FTP by curl', FTP, fromInside('curl', ['EPRT', 'PORT', 'EPSV', 'PASV'], CURL_FILES)),
    traffic('FTP by lftp', FTP, fromInside('lftp', ['PORT', 'PASV', 'EPSV'], 12)),
    traffic('FTP, 100 sessions held', new URL('../traffic/traffic-control.js', import.meta.url), controls),
    traffic('FTP server inside, curl', FTP, fromOutside('curl', ['EPRT', 'PORT', 'EPSV', 'PASV'], 8), 'outside'),
    traffic('FTP server inside, lftp', FTP, fromOutside('lftp', ['PORT', 'PASV', 'EPSV'], 6), 'outside'),
    offers,
    traffic('TFTP', new URL('../traffic/tftp.js', import.meta.url), tftp),
  ],
}
