// Debian's servers in the lab's hosts: vsftpd and pyftpdlib (FTP), ngircd (IRC), in.tftpd (TFTP). Each serves to anyone
// a directory of its own below the lab's. They run in the foreground, as root of their namespace (an ordinary user's
// lab has no other user), and end with the lab's other programs.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Namespace } from '../world/namespace.ts'
import { PATIENCE_MS } from '../world/patience.ts'
import type { Processes, Program } from '../world/processes.ts'
import { content } from './traffic.ts'

/** Folders of a server: files to fetch, and files that were put there. */
export const DOWN = 'down'
export const UP = 'up'

const LOOK_EVERY_MS = 20
/** Debian's own interpreter, which Debian's packages are for, whatever else is in the PATH. */
const PYTHON = '/usr/bin/python3'

/**
 * A server with a thread and a loop for each session: with one loop for all, pyftpdlib 1.5.7 loses data connections in
 * its backlog (seen with 20 sessions at a time, without a gateway between).
 */
const PYFTPDLIB = `
import logging, sys, warnings
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer
warnings.simplefilter('ignore')
logging.basicConfig(level=logging.WARNING)
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_anonymous(sys.argv[2], perm='elrw')
ThreadedFTPServer((sys.argv[1], 21), FTPHandler).serve_forever()
`

/** Where a server runs. */
export interface ServerSite {
  readonly host: Namespace
  /** An address of that host. */
  readonly address: string
  /** Its files; made if it isn't there. */
  readonly directory: string
}

/** A file to fetch is `content(number, size)`, and named after both. */
export const fileName = (number: number, size: number): string => `${number}-${size}`

/** Writes the files that will be fetched. */
export function fill(directory: string, sizes: readonly number[], count: number): void {
  mkdirSync(join(directory, DOWN), { recursive: true })
  mkdirSync(join(directory, UP), { recursive: true })
  for (let number = 0; number < count; number++) {
    const size = sizes[number % sizes.length] as number
    writeFileSync(join(directory, DOWN, fileName(number, size)), content(number, size))
  }
}

/** Resolves when a program listens at the port, as ss(8) tells. */
async function listening(program: Program, host: Namespace, protocol: 'tcp' | 'udp', port: number): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS
  const ended = program.ended.then(() => {
    throw new Error(`the server at port ${port} ended:\n${program.output}`)
  })
  ended.catch(() => {})
  for (;;) {
    const sockets = host.exec('ss', '-Hln', protocol === 'tcp' ? '-t' : '-u', `sport = :${port}`)
    if (sockets.trim() !== '') return
    if (Date.now() > deadline) throw new Error(`nobody listens at port ${port}:\n${program.output}`)
    await Promise.race([delay(LOOK_EVERY_MS), ended])
  }
}

export async function startVsftpd(processes: Processes, { host, address, directory }: ServerSite): Promise<void> {
  const empty = join(directory, 'empty')
  mkdirSync(empty, { recursive: true })
  const file = join(directory, '..', `vsftpd-${address}.conf`)
  const settings = {
    listen: 'YES',
    listen_ipv6: 'NO',
    listen_address: address,
    background: 'NO',
    run_as_launching_user: 'YES',
    ftp_username: 'root',
    secure_chroot_dir: empty,
    anonymous_enable: 'YES',
    no_anon_password: 'YES',
    anon_root: directory,
    anon_upload_enable: 'YES',
    anon_umask: '022',
    write_enable: 'YES',
    allow_writeable_chroot: 'YES',
    // The port that RFC 959 gives the server's end of an active transfer.
    connect_from_port_20: 'YES',
    // Otherwise each session's process would be in a network namespace of its own, which has no gateway.
    isolate_network: 'NO',
    isolate: 'NO',
    seccomp_sandbox: 'NO',
    xferlog_enable: 'NO',
  }
  writeFileSync(
    file,
    Object.entries(settings)
      .map(([key, value]) => `${key}=${value}\n`)
      .join(''),
  )
  await listening(processes.start(host, 'vsftpd', [file]), host, 'tcp', 21)
}

export async function startPyftpdlib(processes: Processes, { host, address, directory }: ServerSite): Promise<void> {
  const server = processes.start(host, PYTHON, ['-c', PYFTPDLIB, address, directory], { name: 'pyftpdlib' })
  await listening(server, host, 'tcp', 21)
}

export async function startNgircd(processes: Processes, { host, address, directory }: ServerSite): Promise<void> {
  mkdirSync(directory, { recursive: true })
  const file = join(directory, 'ngircd.conf')
  const lines = [
    '[Global]',
    'Name = irc.example.net',
    'Info = the lab',
    `Listen = ${address}`,
    'Ports = 6667',
    'MotdPhrase = welcome',
    `PidFile = ${join(directory, 'ngircd.pid')}`,
    'ServerUID = root',
    'ServerGID = root',
    '[Limits]',
    'MaxConnectionsIP = 0',
    'MaxPenaltyTime = 0',
    '[Options]',
    'DNS = no',
    'Ident = no',
    'PAM = no',
    'SyslogFacility = local1',
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  await listening(processes.start(host, 'ngircd', ['--nodaemon', '--config', file]), host, 'tcp', 6667)
}

export async function startTftpd(processes: Processes, { host, address, directory }: ServerSite): Promise<void> {
  const options = ['--foreground', '--user', 'root', '--address', `${address}:69`, '--create', '--permissive']
  await listening(processes.start(host, 'in.tftpd', [...options, '--secure', directory]), host, 'udp', 69)
}
