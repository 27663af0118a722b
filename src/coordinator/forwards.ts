// Forwards as a configuration writes them: `{ proto: tcp, from: :21, to: 10.0.0.5:21 }`. Text in, numbers out; what they
// mean is nat/forwards.ts. Nothing here knows which external addresses there are: `:21` stands for all of them.

import type { Forward } from '../nat/forwards.ts'
import { formatAddress, parseAddress } from '../wire/address.ts'

export interface ForwardConfig {
  readonly proto: 'tcp' | 'udp'
  /** `:PORT` of every external address, or `ADDRESS:PORT` of one. */
  readonly from: string
  /** `ADDRESS:PORT` of a server inside. */
  readonly to: string
}

const PROTOCOLS = { tcp: 6, udp: 17 } as const
const ENDPOINT = /^([^:]*):([1-9][0-9]{0,4})$/
const HIGHEST_PORT = 65535

/** Address as loaded, null if there is none; port numeric. @throws RangeError */
export function parseEndpoint(text: string): { address: number | null; port: number } {
  const [, address = '', port = ''] = ENDPOINT.exec(text) ?? []
  if (port === '' || Number(port) > HIGHEST_PORT) throw new RangeError(`"${text}" is no address:port`)
  return { address: address === '' ? null : parseAddress(address), port: Number(port) }
}

/** @throws RangeError for what the configuration's schema would have refused. */
export function parseForward({ proto, from, to }: ForwardConfig): Forward {
  const external = parseEndpoint(from)
  const { address: toAddress, port: toPort } = parseEndpoint(to)
  if (toAddress === null) throw new RangeError(`"${to}" names no server`)
  return { protocol: PROTOCOLS[proto], ...external, toAddress, toPort }
}

export const forwardText = ({ protocol, address, port, toAddress, toPort }: Forward): string => {
  const external = address === null ? '' : formatAddress(address)
  return `${protocol === PROTOCOLS.tcp ? 'tcp' : 'udp'} ${external}:${port} -> ${formatAddress(toAddress)}:${toPort}`
}

/** One external endpoint can't go to two servers. */
export const overlap = (a: Forward, b: Forward): boolean =>
  a.protocol === b.protocol &&
  a.port === b.port &&
  (a.address === null || b.address === null || a.address === b.address)
