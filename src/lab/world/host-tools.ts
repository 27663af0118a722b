// What the lab needs of the machine it runs on: Debian's tools, and the right to make network namespaces.

import { accessSync, constants, readFileSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'

/** `tool:package`, or `file:package` by an absolute path; the same list as `deploy/prerequisites.sh lab`. */
export const TOOLS = ['ip:iproute2', 'nft:nftables', 'ping:iputils-ping', 'traceroute:traceroute', 'setpriv:util-linux']

/** Tools that the scenario `ftp` needs besides; the same list as in the script. */
export const FTP_TOOLS = [
  'vsftpd:vsftpd',
  '/usr/lib/python3/dist-packages/pyftpdlib/__main__.py:python3-pyftpdlib',
  'lftp:lftp',
  'curl:curl',
  'ngircd:ngircd',
  'in.tftpd:tftpd-hpa',
  'tftp:tftp-hpa',
]

// An ordinary user's PATH often lacks the directories where Debian keeps network tools.
const ALSO_IN = ['/usr/local/sbin', '/usr/sbin', '/sbin']

const CAP_NET_ADMIN = 12n
const CAP_SYS_ADMIN = 21n

const may = (path: string, mode: number): boolean => {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

/** A line for each missing tool, with what to install. */
export function missingTools(path = process.env.PATH ?? '', tools: readonly string[] = TOOLS): string[] {
  const directories = searchPath(path).split(':')
  return tools
    .map((entry) => entry.split(':'))
    .filter(([tool = '']) =>
      isAbsolute(tool)
        ? !may(tool, constants.R_OK)
        : !directories.some((directory) => may(join(directory, tool), constants.X_OK)),
    )
    .map(([tool, debianPackage]) => `${tool} is not installed: apt-get install ${debianPackage}`)
}

/** The PATH with the system administrator's directories at its end. */
export const searchPath = (path: string): string =>
  [...new Set([...path.split(':').filter(Boolean), ...ALSO_IN])].join(':')

/** Whether this process may make network namespaces and configure them (capabilities(7)). */
export function mayMakeNamespaces(status = readFileSync('/proc/self/status', 'utf8')): boolean {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`)
  return [CAP_NET_ADMIN, CAP_SYS_ADMIN].every((capability) => (effective >> capability) & 1n)
}
