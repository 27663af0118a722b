// Checks which capabilities the process has and which programs it finds, before anything is changed. Authority:
// capabilities(7), proc(5).

import { accessSync, constants, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const CAPABILITIES = { CAP_NET_ADMIN: 12n, CAP_NET_RAW: 13n } as const
type Capability = keyof typeof CAPABILITIES

/** PATH and the folders of administrators' programs, which an ordinary user's PATH lacks. */
export const TOOL_PATH = [process.env.PATH ?? '', '/usr/sbin', '/sbin', '/usr/local/sbin'].join(delimiter)

const TOOLS = { nft: 'nftables' } as const

/** Which of CAP_NET_ADMIN and CAP_NET_RAW this process lacks. */
export function missingCapabilities(status = readFileSync('/proc/thread-self/status', 'utf8')): Capability[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`)
  const names = Object.keys(CAPABILITIES) as Capability[]
  return names.filter((name) => ((effective >> CAPABILITIES[name]) & 1n) === 0n)
}

/** Programs that natloom needs and can't find, each with its Debian package. */
export function missingTools(path = TOOL_PATH): { tool: string; package: string }[] {
  const found = (tool: string): boolean =>
    path.split(delimiter).some((folder) => {
      try {
        accessSync(join(folder, tool), constants.X_OK)
        return folder !== ''
      } catch {
        return false
      }
    })
  return Object.entries(TOOLS).flatMap(([tool, name]) => (found(tool) ? [] : [{ tool, package: name }]))
}
